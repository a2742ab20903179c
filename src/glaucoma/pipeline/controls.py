"""Lines that a trained model must beat on the same folds, and a check that can fail: learning from permuted labels."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glaucoma import paths
from glaucoma.data.copies import read_clusters
from glaucoma.data.splits import Dataset
from glaucoma.evaluate.intervals import independent
from glaucoma.evaluate.scores import COUNTS, SCORES, predictions_table, scores
from glaucoma.files import write_csv, write_json
from glaucoma.model.artifacts import load_model
from glaucoma.model.runtime import fresh, keras
from glaucoma.params import Params
from glaucoma.pipeline.search_stage import dataset
from glaucoma.progress import say
from glaucoma.search.activations import activations

__all__ = ["chance_check", "control_scores", "pooled_features", "write_controls"]

POOLINGS = ("average", "max")
PERMUTATIONS = 10  # of all labels
FAR = 5.0  # standard errors from chance at which permuted labels raise the alarm: falsely in less than 1 run of 1 000


def write_controls(params: Params) -> None:
    """Fit the controls on the folds of crossval.folds; write reports/controls/ and metrics/controls.json.

    The regressions' predictions are in reports/controls/predictions.csv. An alarm of `chance_check` is told, and stands
    in the metrics as `at_chance`: false; it stops nothing, since a leak may be one that audit.waive names.

    Raises:
        DataError, WeightsError: the project's images, folds or backbone are not there.
    """
    fresh(params.seed)
    data = dataset()
    table, predictions = control_scores(
        pooled_features(data), data, params.crossval.folds, params.seed, clusters=read_clusters()
    )
    write_csv(paths.CONTROLS / "controls.csv", table)
    write_csv(paths.CONTROLS / "predictions.csv", predictions)
    test = table[table["split"] == "test"].astype({"auroc": float}).groupby("control")["auroc"].mean()
    mean, error, alarm = chance_check(table)
    told = {name: {"test_auroc": None if pd.isna(value) else float(value)} for name, value in test.items()}
    told["permuted_average"] = {"test_auroc": mean, "standard_error": error, "at_chance": not alarm}
    write_json(paths.CONTROLS_METRICS, told)
    say(alarm or "labels without meaning taught nothing, as they should")


def pooled_features(data: Dataset) -> dict[str, np.ndarray]:
    """The frozen backbone's output for all images, pooled: float32 (images, channels) by pooling; cached."""
    backbone = load_model(paths.BACKBONE)
    pools = keras.layers.GlobalAveragePooling2D(), keras.layers.GlobalMaxPooling2D()
    trunk = keras.Model(backbone.inputs, [pool(backbone.output) for pool in pools])
    return dict(zip(POOLINGS, activations(trunk, data.pixels, paths.STATE / "activations"), strict=True))


def control_scores(
    features: dict[str, np.ndarray],
    data: Dataset,
    folds: list[int],
    seed: int,
    clusters: Mapping[str, str] | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """A logistic regression for each fold and pooling, with the labels as they are and with all of them permuted.

    Features are standardised by the train split; the regression is scikit-learn's with its defaults (L2, C = 1): a
    line drawn beforehand, with nothing selected. Labels are permuted with average pooling alone, over all images at
    once: an image keeps its meaningless label in every fold and split, and so do its copies and the other images of its
    patient. What is learnt from them can then be found again in `test` only where that holds what was trained on.

    Args:
        features: by pooling, float (images, channels).
        data: the images and folds.
        folds: which of them.
        seed: of the permutations.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per control (regression_average, regression_max, permuted_average), permutation (0 for the regressions),
        fold and split (test, valid): control, permutation, fold, split, then n … and every score. And the
        regressions' predictions: control, fold, split, image, patient ("" where unknown), label, predicted,
        probability, log_odds.
    """
    random = np.random.default_rng(seed)
    labels = [_permuted(data.table, clusters, random) for _ in range(PERMUTATIONS)]
    rows, predictions = [], []
    for fold in sorted(folds):
        splits = data.fold(fold)
        fits = [(f"regression_{pooling}", 0, pooling, None) for pooling in POOLINGS]
        fits += [("permuted_average", i, "average", permuted) for i, permuted in enumerate(labels)]
        for control, permutation, pooling, permuted in fits:
            of = {name: s.abnormal if permuted is None else permuted[s.rows] for name, s in splits.items()}
            if len(set(of["train"])) < 2:  # a permutation may leave few images one label
                continue
            values = features[pooling]
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            model.fit(values[splits["train"].rows], of["train"])
            for name in ("test", "valid"):
                split = splits[name]
                log_odds = model.decision_function(values[split.rows])
                about = {"control": control, "permutation": permutation, "fold": fold, "split": name}
                found = scores(of[name], log_odds=log_odds)
                rows.append({**about, **{score: found[score] for score in (*COUNTS, *SCORES)}})
                if permuted is None:
                    table = predictions_table(split.images, of[name], log_odds=log_odds)
                    table.insert(1, "patient", split.patients or "")
                    predictions.append(table.assign(control=control, fold=fold, split=name))
    told = pd.concat(predictions, ignore_index=True)
    first = ["control", "fold", "split"]
    return pd.DataFrame(rows), told[[*first, *(name for name in told if name not in first)]]


def chance_check(table: pd.DataFrame) -> tuple[float | None, float | None, str]:
    """What permuted labels have taught: where that is more than chance, something leaks from train into test.

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
    return mean, error, f"labels without meaning taught AUROC {mean:.3f} ± {error:.3f} (standard error), expected 0.5"


def _permuted(table: pd.DataFrame, clusters: Mapping[str, str] | None, random: np.random.Generator) -> np.ndarray:
    """A label for each row of the pixels, bool: those of the independent groups of images, dealt out anew."""
    images = table.drop_duplicates("image").sort_values("row", ignore_index=True)
    _, first, group = np.unique(independent(images, clusters), return_index=True, return_inverse=True)
    dealt = np.zeros(int(images["row"].max()) + 1, dtype=bool)
    dealt[images["row"]] = random.permutation(images["abnormal"].to_numpy(bool)[first])[group]
    return dealt
