"""Lines that a trained model must beat on the same folds, and a check that can fail: learning from permuted labels."""

from __future__ import annotations

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glaucoma import paths
from glaucoma.data.splits import Dataset, Split
from glaucoma.evaluate.scores import SCORES, scores
from glaucoma.files import write_csv
from glaucoma.model.artifacts import load_model
from glaucoma.model.runtime import fresh, keras
from glaucoma.params import Params
from glaucoma.pipeline.search_stage import dataset
from glaucoma.search.activations import activations

__all__ = ["chance_check", "control_scores", "pooled_features", "write_controls"]

POOLINGS = ("average", "max")
PERMUTATIONS = 10  # of each fold's train labels
FAR = 5.0  # standard errors from chance at which permuted labels raise the alarm: falsely in less than 1 run of 1 000


def write_controls(params: Params) -> tuple[pd.DataFrame, str]:
    """Fit the controls on the folds of crossval.folds; write reports/controls/controls.csv.

    Returns:
        The table, as `control_scores` gives it, and what `chance_check` finds.

    Raises:
        DataError, WeightsError: the project's images, folds or backbone are not there.
    """
    fresh(params.seed)
    data = dataset()
    table = control_scores(pooled_features(data), data, params.crossval.folds, params.seed)
    write_csv(paths.REPORTS / "controls" / "controls.csv", table)
    return table, chance_check(table)


def pooled_features(data: Dataset) -> dict[str, np.ndarray]:
    """The frozen backbone's output for all images, pooled: float32 (images, channels) by pooling; cached."""
    backbone = load_model(paths.BACKBONE)
    pools = keras.layers.GlobalAveragePooling2D(), keras.layers.GlobalMaxPooling2D()
    trunk = keras.Model(backbone.inputs, [pool(backbone.output) for pool in pools])
    return dict(zip(POOLINGS, activations(trunk, data.pixels, paths.STATE / "activations"), strict=True))


def control_scores(features: dict[str, np.ndarray], data: Dataset, folds: list[int], seed: int) -> pd.DataFrame:
    """A logistic regression for each fold and pooling, with the train split's labels and with them permuted.

    Features are standardised by the train split; the regression is scikit-learn's with its defaults (L2, C = 1): a
    line drawn beforehand, with nothing selected. Labels are permuted with average pooling alone.

    Returns:
        A row per control (regression_average, regression_max, permuted_average), permutation (0 for the regressions),
        fold and split (test, valid): control, permutation, fold, split, then n … and every score.
    """
    rows = []
    for fold in sorted(folds):
        splits = data.fold(fold)
        train = splits["train"].abnormal
        random = np.random.default_rng((seed, fold))
        fits = [(f"regression_{pooling}", 0, pooling, train) for pooling in POOLINGS]
        fits += [("permuted_average", i, "average", random.permutation(train)) for i in range(PERMUTATIONS)]
        for control, permutation, pooling, labels in fits:
            values = features[pooling]
            model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000))
            model.fit(values[splits["train"].rows], labels)
            for name in ("test", "valid"):
                about = {"control": control, "permutation": permutation, "fold": fold, "split": name}
                rows.append({**about, **_scored(model, values, splits[name])})
    return pd.DataFrame(rows)


def chance_check(table: pd.DataFrame) -> str:
    """What permuted labels have taught, where that is more than chance: then something leaks, and no score counts.

    Each permutation's AUROC on the test splits, a mean over the folds, is one observation; their mean is held against
    0.5. A single one is not: where features tell the classes apart, it lies far on either side by luck.

    Returns:
        A sentence, or nothing where all is well.
    """
    rows = table[(table["control"] == "permuted_average") & (table["split"] == "test")]
    each = rows.astype({"auroc": float}).groupby("permutation")["auroc"].mean().dropna()
    if len(each) < 2:
        return ""
    mean, error = each.mean(), each.std() / len(each) ** 0.5
    if abs(mean - 0.5) <= FAR * error:
        return ""
    return f"labels without meaning taught AUROC {mean:.3f} ± {error:.3f} (standard error), expected 0.5"


def _scored(model: object, values: np.ndarray, split: Split) -> dict[str, int | float | None]:
    found = scores(split.abnormal, model.predict_proba(values[split.rows])[:, 1])
    return {name: found[name] for name in ("n", "tp", "fp", "tn", "fn", *SCORES)}
