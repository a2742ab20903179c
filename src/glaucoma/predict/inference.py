"""Trained classifiers by name, and their predictions for image files: one network or several, an ensemble."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from joblib import cpu_count
from PIL import Image

from glaucoma.base import paths
from glaucoma.base.errors import WeightsError, listed, shown
from glaucoma.base.index import CONDITIONS
from glaucoma.base.params import views_of
from glaucoma.base.progress import Progress
from glaucoma.model.likeness import TRAITS, Likeness, traits
from glaucoma.model.log_odds import FLIPS, Threshold, averaged, expit, over_flips
from glaucoma.model.portable import SUFFIX, Portable, Runner
from glaucoma.model.sidecar import read_sidecar
from glaucoma.model.symptoms import first_line, symptoms_of, symptoms_table
from glaucoma.photos.crop import cropped, decode_uncropped
from glaucoma.photos.images import Unreadable, decode
from glaucoma.predict.homes import of_one_study
from glaucoma.predict.revisions import fetch_models, natural, parse

if TYPE_CHECKING:  # Keras starts where a model needs it: ONNX does not
    from glaucoma.model.runtime import keras

__all__ = ["Classifier", "Predictions", "find_models", "load_classifier", "predict_files", "warned"]

CLASSES = CONDITIONS
BATCH = 32  # images per inference step
CHUNK = 8 * BATCH  # images that are decoded and held at a time
DECODERS = 8  # threads at most; each may hold an image of `max_megapixels`
LOOKED_AT = 256  # pixels a side that a photograph has at least when it is looked at, where its file has them
LARGEST = 2048  # pixels a side that a network may take
MEGAPIXELS = 100.0  # larger images are unreadable, unless the caller says otherwise; as data.max_megapixels ships


@dataclass(frozen=True)
class Classifier:
    """A trained network that is ready to predict.

    Attributes:
        path: its `.keras` or `.onnx` file.
        network: float32 (batch, size, views · size, 3) in 0–255 → (batch, 2).
        scorer: the same up to its logits, with Keras; else the network.
        card: its sidecar, or the metadata of ONNX: configuration, scores, versions; empty where there is none.
        classes: the order of its outputs.
        likeness: what the images that it was trained on look like; None where its card does not say.
    """

    path: Path
    network: keras.Model | Runner
    scorer: keras.Model | Runner
    card: dict[str, Any]
    classes: tuple[str, ...]
    likeness: Likeness | None = None

    @property
    def size(self) -> int:
        """Pixels a side that it takes."""
        return self.network.input_shape[1]

    @property
    def crop(self) -> str:
        """Parts of a photograph that it takes, `none` for all of it."""
        wanted = self.card.get("input")
        return wanted.get("crop", "none") if isinstance(wanted, dict) else "none"

    @property
    def flips(self) -> str:
        """The flips of a photograph over which its predictions were averaged when it was scored."""
        wanted = self.card.get("input")
        told = wanted.get("flips", "none") if isinstance(wanted, dict) else "none"
        return told if told in FLIPS else "none"

    @property
    def threshold(self) -> Threshold:
        """Its own, from where on it calls a photograph abnormal; 0.5 where its card says none."""
        told = Threshold.of(self.card.get("threshold", 0.5))
        exact = self.card.get("threshold_log_odds")
        return told._replace(log_odds=float(exact)) if isinstance(exact, (int, float)) else told

    def log_odds(self, pixels: np.ndarray, flips: str | None = None) -> np.ndarray:
        """Log-odds of abnormal, float64 (n,), for uint8 (n, size, views · size, 3), each image alone.

        They are the mean over `flips` (none | horizontal | both; None: its own) of each image.
        """
        return over_flips(self._log_odds, pixels, self.flips if flips is None else flips)

    def _log_odds(self, pixels: np.ndarray) -> np.ndarray:
        if isinstance(self.scorer, Runner):
            starts = range(0, len(pixels), BATCH)
            return np.concatenate([self.scorer.log_odds(pixels[i : i + BATCH], self.classes) for i in starts])
        from glaucoma.model.batches import Batches
        from glaucoma.model.runtime import ready_to_predict
        from glaucoma.model.scorer import log_odds

        ready_to_predict(self.scorer)
        batches = Batches([pixels], np.arange(len(pixels)), None, batch_size=BATCH)
        return log_odds(self.scorer.predict(batches, verbose=0), self.classes)


@dataclass(frozen=True)
class Predictions:
    """What classifiers say of files.

    Attributes:
        each: float64 (models, files), log-odds of abnormal; NaN where a file cannot be read.
        faults: why a file cannot be read, by its position among the files.
        notes: what `look` said of each file; "" of those that cannot be read.
        unlike: float64 (models, files), how far a photograph is from the images that a model was trained on, ≥ 0, in
            shares of the limit: above 1 is unlike them. NaN where that is not known, and where nothing was looked at.
        traits: float64 (files, 12), what each photograph looks like to the network of the largest input; NaN of those
            that cannot be read, and where no card tells what the training images look like.
        likenesses: what the training images of the models with that input look like, of those whose cards say it.
    """

    each: np.ndarray
    faults: dict[int, str]
    notes: list[str]
    unlike: np.ndarray
    traits: np.ndarray
    likenesses: list[Likeness]

    @property
    def log_odds(self) -> np.ndarray:
        """float64 (files,), those of the mean of the models' probabilities."""
        return averaged(self.each)

    @property
    def probability(self) -> np.ndarray:
        """float64 (files,): the mean over the models."""
        return expit(self.log_odds)


def find_models(name: str | Path) -> list[Path]:
    """The model files that a name stands for, sorted (fold 10 after fold 9).

    Args:
        name: a `.keras` or `.onnx` file; a folder, which is the ensemble of those in it (of `.keras` alone where it
            has both; in models/crossval and models/controls, of crossval.folds); or the name of either in models/, such
            as `stage2`, `crossval` or `crossval/fold3`, which may stand behind a revision of Git or a DVC experiment:
            `HEAD~1:stage2`.

    Raises:
        WeightsError: nothing of that name; with what there is. A fold of crossval.folds that is missing, or folds that
            were not trained alike.
    """
    given = Path(name).expanduser()
    if not given.exists() and (then := parse(str(name))):
        return fetch_models(*then)
    if given.suffix == ".tflite" or (given / "saved_model.pb").is_file():
        what = f"{shown(name)} is for other programs: prediction reads .keras and .onnx, whose loading runs no code"
        raise WeightsError(what, "name the .keras file that it was made from")
    for place in (given, paths.MODELS / given, (paths.MODELS / given).with_name(f"{given.name}.keras")):
        if place.is_file():
            return [place]
        for suffix in (".keras", SUFFIX):
            if place.is_dir() and (found := sorted(place.glob(f"*{suffix}"), key=natural)):
                return of_one_study(place, found)
    known = [path for path in sorted(paths.MODELS.rglob("*.keras"), key=natural) if path != paths.BACKBONE]
    names = [path.relative_to(paths.MODELS).with_suffix("").as_posix() for path in known]
    remedy = f"choose one of:{listed(names)}" if names else "train one with `dvc repro`, or name a .keras file"
    raise WeightsError(f"there is no model {shown(name)}, neither as a path nor in {paths.MODELS}/", remedy)


def load_classifier(path: Path, before: Classifier | None = None) -> Classifier:
    """Load a network and its sidecar.

    Args:
        path: a `.keras` or `.onnx` file.
        before: a classifier that is done with. Where its network is of the same configuration, that network gets the
            file's values, which is faster, and is the new one's.

    Raises:
        WeightsError: no whole model, no classifier of two classes, or not the model that its sidecar describes.
    """
    if Path(path).suffix == SUFFIX:
        read_sidecar(path)  # refuses a file that is not the one described
        network: Any = Portable(path)
        score: Any = network
        card = network.card
    else:
        from glaucoma.model.artifacts import load_model, load_values
        from glaucoma.model.scorer import scorer

        card = read_sidecar(path)  # before the model is opened: it may not be the one described
        same = before if before is not None and load_values(before.network, before.path, path) else None
        network = same.network if same else load_model(path)
        score = same.scorer if same else None
    taken, given = network.input_shape, network.output_shape
    coloured = isinstance(taken, tuple) and len(taken) == 4 and taken[3] == 3
    whole = coloured and all(isinstance(side, int) and side > 0 for side in taken[1:3])
    if not (whole and taken[1] <= LARGEST and taken[2] % taken[1] == 0 and given == (None, 2)):
        raise WeightsError(f"{shown(path)} is no classifier of photographs in two classes", "name another model")
    classes = card.get("classes", list(CLASSES))
    if not isinstance(classes, list) or sorted(map(str, classes)) != sorted(CLASSES):
        raise WeightsError(f"{shown(path)} knows the classes {classes}", f"expected {' and '.join(CLASSES)}")
    wanted = card.get("input")
    if isinstance(wanted, dict) and wanted.get("size", taken[1]) != taken[1]:
        what = f"{shown(path)} takes {taken[1]} pixels a side, its card says {wanted['size']}"
        raise WeightsError(what, "restore both, e.g. with `dvc checkout`")
    try:
        likeness = Likeness.of(card)
    except ValueError as error:
        raise WeightsError(f"{shown(path)} cannot be used: {error}", "export or train it again") from None
    score = scorer(network) if score is None else score
    one = Classifier(Path(path), network, score, card, tuple(classes), likeness)
    try:
        views = len(views_of(str(one.crop)))
    except ValueError as error:
        what = f"{shown(path)} wants photographs cropped to {shown(str(one.crop))}, by its sidecar: {shown(str(error))}"
        raise WeightsError(what, "take the release that trained it") from None
    if taken[2] != views * taken[1]:
        what = f"{shown(path)} takes pictures of {taken[1]} × {taken[2]} pixels, its card says {views} side by side"
        raise WeightsError(what, "restore both, e.g. with `dvc checkout`")
    return one


def warned(models: Sequence[Classifier]) -> str:
    """What the cards of these models say against them, in one line; nothing where all is well or not known."""
    several = len(models) > 1
    against = {f"model {i}" if several else str(one.path): symptoms_of(one.card) for i, one in enumerate(models)}
    return shown(first_line(symptoms_table(against), len(models), "model"))


def predict_files(
    models: Sequence[Path | Classifier],
    files: Sequence[Path | bytes],
    *,
    max_megapixels: float = MEGAPIXELS,
    flips: str | None = None,
    look: Callable[[Image.Image], str] | None = None,
) -> Predictions:
    """Predict image files by each of several models; what cannot be read stops nothing.

    Files are decoded once for each input size and crop, as training decodes them, a few at a time.

    Args:
        models: their files, or classifiers that are loaded.
        files: of images, or their bytes.
        max_megapixels: larger images are unreadable.
        flips: none | horizontal | both, over which each model's log-odds are averaged; None: each model's own.
        look: called in threads with each decoded photograph, whole, for a note on it. It shares the decoding for
            prediction, unless that is coarser than `LOOKED_AT`. Without it, `unlike` is not measured either.

    Raises:
        WeightsError: a model cannot be loaded.
    """
    loaded = [model if isinstance(model, Classifier) else load_classifier(model) for model in models]
    each, notes = np.full((len(loaded), len(files)), np.nan), [""] * len(files)
    faults: dict[int, str] = {}
    unlike, seen_all = np.full_like(each, np.nan), np.full((len(files), len(TRAITS)), np.nan)
    inputs = sorted({(one.size, one.crop) for one in loaded}, reverse=True)
    likenesses = [one.likeness for one in loaded if one.likeness and (one.size, one.crop) == inputs[0]]
    for turn, (size, crop) in enumerate(inputs):
        noted = look if turn == 0 else None  # of the finest, if several sizes are asked for

        def pixels(row: int, size: int = size, crop: str = crop, noted: Any = noted) -> np.ndarray | str:
            try:
                image = decode_uncropped(files[row], size, max_megapixels=max_megapixels, crop=crop)
                if noted:
                    fine = crop != "none" or 2 * size >= LOOKED_AT
                    notes[row] = noted(
                        image if fine else decode(files[row], max_megapixels=max_megapixels, at_least=LOOKED_AT)
                    )
                return cropped(image, size, crop)[0]
            except Unreadable as fault:
                return str(fault)

        pool = ThreadPoolExecutor(min(cpu_count(), DECODERS))
        with pool, Progress(f"predict at {size} px", len(files), "image") as progress:
            for start in range(0, len(files), CHUNK):
                part = list(pool.map(pixels, range(start, min(start + CHUNK, len(files)))))
                faults |= {start + i: found for i, found in enumerate(part) if isinstance(found, str)}
                rows = [start + i for i, found in enumerate(part) if not isinstance(found, str)]
                if rows:
                    decoded = np.stack([found for found in part if not isinstance(found, str)])
                    seen = traits(decoded) if look or (likenesses and turn == 0) else None
                    if seen is not None and turn == 0:
                        seen_all[rows] = seen
                    for row, one in enumerate(loaded):
                        if (one.size, one.crop) == (size, crop):
                            each[row, rows] = one.log_odds(decoded, flips)
                            if look and one.likeness:
                                unlike[row, rows] = one.likeness.distance(seen)
                progress.step(len(part))
    return Predictions(each, faults, notes, unlike, seen_all, likenesses)
