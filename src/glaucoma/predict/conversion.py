"""Write a trained classifier as ONNX, SavedModel or TFLite, and only if it predicts what Keras predicts."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from glaucoma import __version__
from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError, WeightsError, many, one_line, shown
from glaucoma.base.files import atomic_path, sha256_file
from glaucoma.dataset.walk import walk
from glaucoma.model.formats import SUFFIXES, open_exported, prepare, write
from glaucoma.model.log_odds import Threshold, expit
from glaucoma.model.portable import Runner
from glaucoma.model.sidecar import sidecar_of, write_sidecar
from glaucoma.photos.crop import cropped, find_boxes
from glaucoma.photos.images import decode
from glaucoma.predict.inference import MEGAPIXELS, Classifier, load_classifier, predict_files
from glaucoma.synthetic.anatomy import CONDITIONS, draw_eyes
from glaucoma.synthetic.render import render_eye

__all__ = ["CHECKED", "TOLERANCE", "Parity", "export_model", "preparation"]

TOLERANCE = 1e-4  # largest difference in probability at which two runners are taken to agree
CHECKED = 200  # images compared, at most
INSIDE = "glaucoma.json"  # the sidecar of a SavedModel, in its folder
EYES = 8  # rendered where there are no images to compare on


@dataclass(frozen=True)
class Parity:
    """How an exported model compares with its origin.

    Attributes:
        difference: the largest, of the probability of abnormal, 0–1, its own and that which its log-odds mean.
        images: how many were compared.
        of: what they are.
        prepared: the largest where its input is prepared from the files as `preparation` says, by Pillow alone: what
            another program may expect. None where no files were compared.
    """

    difference: float
    images: int
    of: str
    prepared: float | None = None


def preparation(size: int, crop: str, *, resizes: bool = False) -> list[str]:
    """What to do to a photograph before a graph takes it, in order; as `glaucoma predict` and training do."""
    cut = f"for each part of {crop}, in this order, cut out the box of glaucoma.photos.crop.find_boxes(image, {crop!r})"
    beside = "; put the parts side by side, left to right"
    resize = (
        f"resize it to {size} × {size} pixels, whatever its aspect ratio, with a Lanczos filter of 3 lobes that is "
        "widened by the reduction (antialiased: Pillow's LANCZOS; not OpenCV's INTER_LINEAR, nor tf.image.resize as it "
        "is by default)" + (beside if "+" in crop else "")
    )
    if resizes:
        resize = f"leave its size as it is: the graph squashes it to {size} × {size} pixels itself"
    return [
        "decode the first frame, in full, and turn it upright by its Exif orientation",
        "convert it to RGB of 8 bits: what is transparent becomes black, deeper grey is scaled from the bits it uses",
        *([cut] if crop != "none" else []),
        resize,
        "pass the values as they are: float32, 0–255, (batch, height, width, RGB)",
    ]


def export_model(
    model: Path,
    out: Path,
    *,
    form: str = "onnx",
    threshold: Threshold | None = None,
    check: Path | None = None,
    resizes: bool = False,
) -> Parity:
    """Write `model` in another format to `out`, which is left as it was where the two disagree.

    The graph takes raw RGB values, float32 (batch, size, size, 3) in 0–255, and gives the probabilities, ONNX also the
    log-odds of abnormal; what prepares the values is part of it. Cropping, where the model wants it, and resizing are
    the caller's, and named in the sidecar: `classes` (in the order of the outputs), `positive`, `threshold` (a
    probability) and `threshold_log_odds`, `input` (size, crop, channels, range, and perhaps flips, over which the
    caller is to average), `preparation` (steps, in order: filter, Exif), `likeness` (of the training images),
    `warnings` (what speaks against the network), `backbone` (origin and licence of its weights),
    `keras_sha256`, `glaucoma` (version), and hashes of what was written. The sidecar is FILE.json, or glaucoma.json
    inside a SavedModel's folder; ONNX holds all but these hashes as metadata too.

    Args:
        model: a `.keras` file.
        out: the file to write, or the folder of a SavedModel.
        form: onnx | saved_model | tflite.
        threshold: from where on the decision is abnormal; that of the model's sidecar, or 0.5, by default.
        check: folder of photographs to compare on, 200 at most, spread evenly; by default rows of data/pixels.npy, or
            rendered eyes where there are none of the model's size.
        resizes: whether resizing is a part of the graph too, which then takes photographs of any size, cropped where
            the model wants it.

    Raises:
        GlaucomaError: the packages that write ONNX are not installed.
        ParamsError: a folder is in the way, resizing where there is none (TFLite, several parts side by side), or
            TensorFlow's formats are asked for on another backend.
        WeightsError: no classifier, or one that cannot be written or predicts otherwise.
        DataError: no readable photographs in `check`.
    """
    if Path(model).suffix == SUFFIXES["onnx"]:
        raise WeightsError(f"{shown(model)} is ONNX already", "name a .keras file, or a name in models/")
    prepare(form)
    one = load_classifier(model)
    threshold = threshold or one.threshold
    wanted = {"size": one.size, "crop": one.crop, "channels": "RGB", "range": [0, 255]}
    if resizes and (form == "tflite" or "+" in one.crop):
        what = "TFLite takes pictures of one size" if form == "tflite" else f"{shown(model)} takes parts side by side"
        raise ParamsError(f"--resize cannot be: {what}", "leave it out, and resize as the sidecar says")
    card: dict[str, Any] = {
        "classes": list(one.classes),
        "positive": "abnormal",
        "threshold": threshold.probability,
        "threshold_log_odds": threshold.log_odds,
        "input": wanted | ({} if one.flips == "none" else {"flips": one.flips}),
        "preparation": preparation(one.size, one.crop, resizes=resizes),
        **{name: one.card[name] for name in ("likeness", "warnings", "backbone") if name in one.card},
        "keras_sha256": sha256_file(model),
        "glaucoma": __version__,
    }
    with (_atomic_folder if form == "saved_model" else atomic_path)(out) as temporary:
        try:
            write(one.network, temporary, form, card, resizes=resizes)
        except Exception as error:  # whatever a converter meets: an operator it does not know, a version
            what = f"{shown(model)} cannot be written as {form}: {one_line(error)}"
            raise WeightsError(what, "keep the .keras file") from error
        found = _compare(one, open_exported(temporary, form, one.network.input_shape), check, resizes=resizes)
        if not found.difference <= TOLERANCE:  # NaN is no agreement either
            raise WeightsError(
                f"{shown(model)} as {form} differs from Keras by {found.difference:.2g} in probability, on "
                f"{many(found.images, 'image')} of {found.of}: nothing was written",
                f"keep the .keras file; {TOLERANCE:g} would be accepted",
            )
        if form == "saved_model":
            files = sorted(file for file in temporary.rglob("*") if file.is_file())
            hashes = {file.relative_to(temporary).as_posix(): sha256_file(file) for file in files}
            write_sidecar(temporary / INSIDE, card, hashes)
    if form != "saved_model":
        write_sidecar(sidecar_of(out), card, sha256_file(out))
    return found


@contextmanager
def _atomic_folder(path: Path) -> Iterator[Path]:
    """Yield an empty folder beside `path`; on success it replaces `path`, if that is a former export or nothing."""
    if path.exists() and not (path / INSIDE).is_file():
        raise ParamsError(f"{shown(path)} is in the way, and no former export", "name another folder with --out")
    path = Path(os.path.realpath(path))  # a link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.stem}-") as folder:
        whole = Path(folder) / "whole"
        whole.mkdir()
        yield whole
        if path.exists():
            path.rename(Path(folder) / "former")
        whole.rename(path)


def _compare(one: Classifier, runner: Runner, folder: Path | None, *, resizes: bool) -> Parity:
    by_log_odds, by_probability = (replace(one, scorer=made) for made in (runner, _ByProbability(runner)))
    several = [one, by_log_odds, by_probability]
    if folder is None:
        pixels, of = _pixels(one)
        each = np.stack([model.log_odds(pixels) for model in several])
    else:
        files = _spread(walk(folder).images)
        found, of = predict_files(several, files), shown(folder)
        whole = [i for i in range(len(files)) if i not in found.faults]
        each = found.each[:, whole]
    if not each.size:
        raise DataError(f"no readable photographs in {of} to compare on", "name another folder with --check")
    prepared = None
    if folder is not None:
        again = [by_log_odds.log_odds(_prepared(files[i], one, resizes=resizes)[None])[0] for i in whole]
        prepared = float(abs(expit(np.array(again)) - expit(each[0])).max())
    return Parity(float(abs(expit(each[1:]) - expit(each[0])).max()), each.shape[1], of, prepared)


def _prepared(file: Path, one: Classifier, *, resizes: bool) -> np.ndarray:
    """uint8 (height, width, 3): what `preparation` says, JPEGs in full, where prediction decodes less of them."""
    image = decode(file, max_megapixels=MEGAPIXELS)
    if not resizes:
        return cropped(image, one.size, one.crop)[0]
    return np.asarray(image if one.crop == "none" else image.crop(find_boxes(image, one.crop)[0].corners))


class _ByProbability(Runner):
    """A runner whose log-odds are those of its probabilities, so that these are compared, too."""

    def __init__(self, runner: Runner):
        self._runner, self.input_shape, self.output_shape = runner, runner.input_shape, runner.output_shape

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """What the runner gives."""
        return self._runner(pixels)


def _pixels(one: Classifier) -> tuple[np.ndarray, str]:
    """Images of the model's size, uint8, and what they are."""
    if paths.PIXELS.is_file():
        rows = np.load(paths.PIXELS, mmap_mode="r", allow_pickle=False)
        if rows.ndim == 4 and len(rows) and rows.shape[1] == one.size:
            return np.stack(_spread(rows)), str(paths.PIXELS)
    random = np.random.default_rng(0)
    eyes = [eye for condition in CONDITIONS for eye in draw_eyes(random, condition, EYES // len(CONDITIONS))]
    return np.stack([render_eye(eye, one.size) for eye in eyes]), "rendered eyes"


def _spread(of: Any) -> list[Any]:
    """At most `CHECKED` of a sequence, spread evenly over it."""
    return [of[i] for i in np.unique(np.linspace(0, len(of) - 1, min(CHECKED, len(of))).astype(int))]
