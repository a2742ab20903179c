"""Fit a logistic regression on a frozen backbone's features, with the same kind of result as a training."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from glaucoma.base.params import Regression
from glaucoma.dataset.splits import Split
from glaucoma.model.regression import feature_trunk, regression_network
from glaucoma.model.runtime import keras
from glaucoma.train.activations import activations
from glaucoma.train.fitting import followed
from glaucoma.train.trainer import Snapshot

__all__ = ["fit_features", "fit_regression"]


def fit_regression(
    backbone: keras.Model, name: str, pixels: np.ndarray, splits: Mapping[str, Split], params: Regression, state: Path
) -> tuple[keras.Model, Snapshot]:
    """Fit an L2-penalised logistic regression on the standardised features of `train`, each flip of an image a sample.

    The features of all images are computed once and cached in `state`. The flips of an image together have its weight.

    Args:
        backbone: model without top, frozen.
        name: its row in the backbone table.
        pixels: uint8 (images, size, views · size, 3).
        splits: `train` and those to predict.
        params: section `regression` of params.yaml.
        state: folder of the activations' cache.

    Returns:
        The network, and a snapshot of one epoch with its predictions.
    """
    trunk = feature_trunk(backbone, name, params.flips)
    (features,) = activations(trunk, pixels, state / "activations")
    begin = time.perf_counter()
    fitted, predicted = fit_features(features, splits, params.C)
    seconds = time.perf_counter() - begin
    row = {"epoch": 1, **followed(splits["train"], log_odds=predicted["train"])}
    test = followed(splits["test"], log_odds=predicted["test"])
    row |= {f"test_{name}": value for name, value in test.items()}
    return regression_network(trunk, *fitted), Snapshot(1, [], predicted, pd.DataFrame([row]), seconds)


def fit_features(
    features: np.ndarray, splits: Mapping[str, Split], penalty: float
) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray, float], dict[str, np.ndarray]]:
    """Fit the regression on the features of `train` and predict all splits.

    Args:
        features: float (images, flips, features).
        splits: `train` and those to predict.
        penalty: inverse strength of the L2 penalty, > 0.

    Returns:
        Mean and scale of the features, coefficients of the log-odds of abnormal (each float64 (features,)) and the
        intercept; and by split the log-odds of abnormal, float64 (n,).
    """
    train, flips = splits["train"], features.shape[1]
    taught = np.asarray(features[train.rows], np.float64).reshape(len(train) * flips, -1)
    scaler = StandardScaler().fit(taught)
    regression = LogisticRegression(C=penalty / flips, max_iter=2000)
    regression.fit(scaler.transform(taught), np.repeat(train.abnormal, flips))
    mean, scale, weights, intercept = scaler.mean_, scaler.scale_, regression.coef_[0], float(regression.intercept_[0])

    def log_odds(split: Split) -> np.ndarray:
        standard = (np.asarray(features[split.rows], np.float64) - mean) / scale
        return (standard @ weights + intercept).mean(axis=1)

    return (mean, scale, weights, intercept), {name: log_odds(split) for name, split in splits.items()}
