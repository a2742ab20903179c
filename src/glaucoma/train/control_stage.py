"""Lines that a trained model must beat on the same folds, and checks that can fail: permuted labels, unlisted copies.

One of them is a model like the others: the regression on average-pooled features is saved with its backbone.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image
from scipy.special import logit
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv, write_csv, write_json
from glaucoma.base.params import Params
from glaucoma.base.progress import say
from glaucoma.dataset.probes import MODELS
from glaucoma.dataset.splits import Dataset, read_clusters
from glaucoma.evaluate.controls import check_lines
from glaucoma.evaluate.intervals import independent
from glaucoma.evaluate.label_errors import neighbours
from glaucoma.evaluate.scores import COUNTS, SCORES, predictions_table, scores
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.likeness import appearance, traits
from glaucoma.model.network import build_regression
from glaucoma.model.runtime import fresh, keras
from glaucoma.train.activations import activations
from glaucoma.train.near_copies import NearCopies, near_copies
from glaucoma.train.outputs import images_per_second
from glaucoma.train.search_stage import dataset, model_card

__all__ = ["Controls", "chance_check", "control_scores", "pooled_features", "thumbnails", "write_controls"]

REGRESSION = paths.REGRESSION
SHORTCUT = "shortcut"  # the control that is the audit's best trait, on the folds' own splits
THUMBNAIL = 7  # pixels a side, as the audit's probe has it
# Inverse strength of the L2 penalty on standardised features of a backbone. Of 0.0001 … 10, 0.003 to 0.03 are best and
# alike on retinas whole and cropped to the disc: at 1, scikit-learn's default, the AUROC is 0.007 and 0.015 lower and
# the log loss 0.92 and 1.02 instead of 0.55 and 0.58 (387 photographs, 1280 features, ten folds three times). Choosing
# it in each fold by inner cross-validation was no better.
STRENGTH = {"regression_average": 0.01, "regression_max": 0.01, "thumbnail": 1.0}
PERMUTATIONS = 10  # of all labels
FAR = 5.0  # standard errors from chance at which permuted labels raise the alarm: falsely in less than 1 run of 1 000


@dataclass(frozen=True)
class Controls:
    """What the controls came to.

    Attributes:
        scores: a row per control (those of `STRENGTH`, shortcut, permuted_average), permutation (0 but for the
            latter), fold and split (test, valid): control, permutation, fold, split, then n … and every score.
        predictions: of all but the permuted: control, fold, split, image, patient ("" where unknown), label, predicted,
            probability, log_odds.
        models: of `REGRESSION`, by fold: a scaler and a logistic regression.
        seconds: of the fits, a mean over the folds, by control.
    """

    scores: pd.DataFrame
    predictions: pd.DataFrame
    models: dict[int, Pipeline]
    seconds: dict[str, float]


def write_controls(params: Params) -> None:
    """Fit the controls on the folds of crossval.folds; write reports/controls/, models/controls/ and their metrics.

    The regressions' predictions are in reports/controls/predictions.csv, unlisted copies in near_copies.csv, and
    each photograph's nearest ones in neighbours.csv. An alarm of `chance_check` is shown, and is `at_chance`: false
    in the metrics; it stops nothing, since a leak may be one that audit.waive names. `alarm_from` is the smallest
    AUROC that raises it.

    Raises:
        DataError, WeightsError: the project's images, folds or backbone are not there.
    """
    fresh(params.seed)
    data, backbone = dataset(params), load_model(paths.BACKBONE)
    shortcut, about = _shortcut(data)
    begin = time.perf_counter()
    small = thumbnails(data.pixels)
    rates = {"thumbnail": len(small) / (time.perf_counter() - begin)}
    features = {**pooled_features(backbone, data), "thumbnail": small, **shortcut}
    folds, clusters = params.crossval.folds, read_clusters()
    found = control_scores(features, data, folds, params.seed, clusters, about.get("model", ""))
    copies = near_copies(features[REGRESSION], data.table, folds, clusters)
    write_csv(paths.CONTROLS / "near_copies.csv", _with_files(copies))
    write_csv(paths.CONTROLS / "controls.csv", found.scores)
    write_csv(paths.CONTROLS / "predictions.csv", found.predictions)
    images = data.table.drop_duplicates("image").sort_values("row")
    near = neighbours(features[REGRESSION][images["row"].to_numpy()], images, clusters)
    write_csv(paths.NEIGHBOURS, near)
    rates[REGRESSION] = _save(params, backbone, data, found)
    trained = np.mean([len(data.fold(fold)["train"]) for fold in params.crossval.folds])
    write_json(
        paths.CONTROLS_TIMING,
        {
            name: {"seconds": found.seconds[name] + trained / rate, "images_per_second": rate}
            for name, rate in rates.items()
        },
    )
    table = found.scores
    test = table[table["split"] == "test"].astype({"auroc": float}).groupby("control")["auroc"].mean()
    mean, error, alarm = chance_check(table)
    told: dict[str, dict[str, Any]] = {
        name: {"test_auroc": None if pd.isna(value) else float(value)} for name, value in test.items()
    }
    if about:
        told[SHORTCUT] |= about
    told["permuted_average"] = {
        "test_auroc": mean,
        "standard_error": error,
        "at_chance": not alarm,
        "alarm_from": None if error is None else 0.5 + FAR * error,
    }
    told["near_copies"] = {
        "pairs": len(copies.pairs),
        "images": copies.images,
        "alarm_below": copies.alarm_below,
        "dimension": copies.dimension,
    }
    write_json(paths.CONTROLS_METRICS, told)
    for line in check_lines(told):
        say(line)


def _shortcut(data: Dataset) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The trait that told the label best in the audit, as another control; nothing where it could try none.

    Returns:
        By the control's name, float64 (images, features); and the probe and its model.

    Raises:
        DataError: the audit's table is missing.
    """
    try:
        table = read_csv(paths.SHORTCUT)
    except FileNotFoundError:
        raise DataError(f"{paths.SHORTCUT} does not exist", "make it with `dvc repro audit`") from None
    if table.empty:
        return {}, {}
    rows = data.table.drop_duplicates("image").set_index("row")["image"].sort_index()
    values = table.set_index("image").drop(columns=["probe", "model"]).reindex(rows)
    found = np.full((len(data.pixels), values.shape[1]), np.nan)
    found[rows.index] = values.fillna(values.mean())
    return {SHORTCUT: found}, {name: str(table[name].iat[0]) for name in ("probe", "model")}


def _with_files(found: NearCopies) -> pd.DataFrame:
    """The pairs of unlisted copies, with a file of each photograph."""
    files = read_csv(paths.INDEX, usecols=["image", "path"]).drop_duplicates("image").set_index("image")["path"]
    named = {f"{end}_file": found.pairs[end].map(files) for end in ("first", "second")}
    return found.pairs.assign(**named)


def pooled_features(backbone: keras.Model, data: Dataset) -> dict[str, np.ndarray]:
    """The frozen backbone's output for all images, pooled: float32 (images, channels) by control; cached."""
    pools = keras.layers.GlobalAveragePooling2D(), keras.layers.GlobalMaxPooling2D()
    trunk = keras.Model(backbone.inputs, [pool(backbone.output) for pool in pools])
    both = activations(trunk, data.pixels, paths.STATE / "activations")
    return dict(zip((REGRESSION, "regression_max"), both, strict=True))


def thumbnails(pixels: np.ndarray) -> np.ndarray:
    """Images as the network gets them, uint8 (n, size, size, 3), at 7 × 7 pixels: float64 (n, 147), 0–255."""
    side = THUMBNAIL, THUMBNAIL
    small = [np.asarray(Image.fromarray(one).resize(side, Image.Resampling.BOX)).ravel() for one in pixels]
    return np.array(small, dtype=np.float64)


def control_scores(
    features: Mapping[str, np.ndarray],
    data: Dataset,
    folds: list[int],
    seed: int,
    clusters: Mapping[str, str] | None = None,
    shortcut: str = "",
) -> Controls:
    """A logistic regression for each fold and control, with the labels as they are and with all of them permuted.

    Features are standardised by the train split; the regression is scikit-learn's with an L2 penalty of the `STRENGTH`
    that stands there: a line drawn beforehand, with nothing selected. Labels are permuted with average pooling alone,
    over all images at once: an image keeps its meaningless label in every fold and split, and so do its copies and the
    other images of its patient. A model can then predict them on `test` only if `test` contains images that it was
    trained on.

    Args:
        features: by control, float (images, features); `REGRESSION` among them.
        data: the images and folds.
        folds: which of them.
        seed: of the permutations.
        clusters: the photograph of each image that has copies, by content id.
        shortcut: which of the audit's models the control of that name is, `linear` or `tree`.
    """
    random = np.random.default_rng(seed)
    labels = [_permuted(data.table, clusters, random) for _ in range(PERMUTATIONS)]
    rows, predictions, models, seconds = [], [], {}, []
    for fold in sorted(folds):
        splits = data.fold(fold)
        fits = [(name, 0, name, None) for name in features]
        fits += [("permuted_average", i, REGRESSION, permuted) for i, permuted in enumerate(labels)]
        for control, permutation, taken, permuted in fits:
            of = {name: s.abnormal if permuted is None else permuted[s.rows] for name, s in splits.items()}
            if len(set(of["train"])) < 2:  # a permutation may leave few images one label
                continue
            values = features[taken]
            model = clone(MODELS[shortcut]) if taken == SHORTCUT else _regression(STRENGTH[taken])
            begin = time.perf_counter()
            model.fit(values[splits["train"].rows].astype(np.float64), of["train"])
            seconds.append((control, time.perf_counter() - begin))
            if control == REGRESSION:
                models[fold] = model
            for name in ("test", "valid"):
                split = splits[name]
                log_odds = _log_odds(model, values[split.rows].astype(np.float64), len(of["train"]))
                about = {"control": control, "permutation": permutation, "fold": fold, "split": name}
                found = scores(of[name], log_odds=log_odds)
                rows.append({**about, **{score: found[score] for score in (*COUNTS, *SCORES)}})
                if permuted is None:
                    table = predictions_table(split.images, of[name], log_odds=log_odds)
                    table.insert(1, "patient", split.patients or "")
                    predictions.append(table.assign(control=control, fold=fold, split=name))
    told = pd.concat(predictions, ignore_index=True)
    first = ["control", "fold", "split"]
    told = told[[*first, *(name for name in told if name not in first)]]
    took = pd.DataFrame(seconds, columns=["control", "seconds"]).groupby("control")["seconds"].mean()
    return Controls(pd.DataFrame(rows), told, models, took.to_dict())


def _regression(strength: float) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))


def _log_odds(model: Any, values: np.ndarray, trained_on: int) -> np.ndarray:
    """Finite ones of abnormal, float64 (n,): a tree's leaf of one class is as sure as half an image of the other."""
    if hasattr(model, "decision_function"):
        return model.decision_function(values)
    least = 0.5 / trained_on
    return logit(np.clip(model.predict_proba(values)[:, 1], least, 1 - least))


def _save(params: Params, backbone: keras.Model, data: Dataset, found: Controls) -> float:
    """Write each fold's regression as a model with its sidecar; how many images a second one of them predicts."""
    looks, rate = traits(data.pixels), float("nan")
    for fold, (scaler, regression) in ((fold, model.named_steps.values()) for fold, model in found.models.items()):
        network = build_regression(
            backbone, scaler.mean_, scaler.scale_, regression.coef_[0], float(regression.intercept_[0])
        )
        splits = data.fold(fold)
        if rate != rate:
            rate = images_per_second(network, data.pixels, splits["valid"].rows)
        of_fold = found.scores[(found.scores["control"] == REGRESSION) & (found.scores["fold"] == fold)]
        by_split = of_fold.set_index("split")[[*COUNTS, *SCORES]].astype(object)
        result = {
            split: {name: None if pd.isna(value) else value for name, value in row.items()}
            for split, row in by_split.iterrows()
        }
        about = {"stage": "controls", "fold": fold, **result, "regression": {"pooling": "average", "C": regression.C}}
        like = appearance(looks[splits["train"].rows])
        card = model_card(params, about) | ({"likeness": like.as_dict()} if like else {})
        save_model(network, paths.control_file(fold), card)
    return rate


def chance_check(table: pd.DataFrame) -> tuple[float | None, float | None, str]:
    """What permuted labels have taught: where that is more than chance, images of train, or listed copies, are in test.

    It checks the bookkeeping of splits and nothing else: an unlisted copy has a shuffled label of its own.
    Each permutation's AUROC on the test splits, a mean over the folds, is one observation; their mean is held against
    0.5.

    Args:
        table: as `control_scores` gives it.

    Returns:
        The mean AUROC and its standard error (None where fewer than two permutations define it), and a sentence, or
        nothing where all is well.
    """
    rows = table[(table["control"] == "permuted_average") & (table["split"] == "test")]
    each = rows.astype({"auroc": float}).groupby("permutation")["auroc"].mean().dropna()
    if len(each) < 2:
        return None, None, ""
    mean, error = float(each.mean()), float(each.std() / len(each) ** 0.5)
    if abs(mean - 0.5) <= FAR * error:
        return mean, error, ""
    return mean, error, f"shuffled labels score AUROC {mean:.3f} ± {error:.3f} (standard error), expected 0.5"


def _permuted(table: pd.DataFrame, clusters: Mapping[str, str] | None, random: np.random.Generator) -> np.ndarray:
    """A label for each row of the pixels, bool: those of the independent groups of images, dealt out anew."""
    images = table.drop_duplicates("image").sort_values("row", ignore_index=True)
    _, first, group = np.unique(independent(images, clusters), return_index=True, return_inverse=True)
    dealt = np.zeros(int(images["row"].max()) + 1, dtype=bool)
    dealt[images["row"]] = random.permutation(images["abnormal"].to_numpy(bool)[first])[group]
    return dealt
