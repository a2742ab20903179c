"""Log-odds, ln(p / (1 - p)) of the probability of abnormal: predictions are stored, ranked and thresholded as log-odds.

Probabilities near 1 lose ranks to rounding: in float32 from log-odds of 17, in float64 from 37. They are computed from
the log-odds and shown beside them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit, logit, logsumexp

__all__ = ["ALL", "FLIPS", "Threshold", "averaged", "averaged_by", "expit", "over_flips", "with_log_odds"]

ALL = float(np.finfo(np.float64).max)  # as a threshold, -ALL calls every image abnormal, ALL none
# axes of (batch, height, width, 3)
FLIPS: dict[str, list[tuple[int, ...]]] = {
    "none": [()],
    "horizontal": [(), (2,)],
    "both": [(), (2,), (1,), (1, 2)],
}
OLDER = "predictions of an older release hold only probabilities, which have lost ranks"


class Threshold(NamedTuple):
    """The threshold from which an image is called abnormal.

    Attributes:
        log_odds: the threshold that is applied; finite, so that JSON can store it.
        probability: the same as a probability, for display; rounded for log-odds far from 0.
    """

    log_odds: float
    probability: float

    @classmethod
    def of(cls, probability: float) -> Threshold:
        """The threshold at a probability, 0 to 1."""
        return cls(float(np.clip(logit(np.clip(probability, 0, 1)), -ALL, ALL)), probability)


def averaged(log_odds: np.ndarray, axis: int = 0) -> np.ndarray:
    """The log-odds of the mean probability of several predictions of an image, without losing ranks.

    Probabilities are averaged, not log-odds: one extremely confident network of ten then counts for a tenth, while it
    would dominate a mean of log-odds.

    Args:
        log_odds: float, any shape.
        axis: the axis of the predictions.
    """
    return logsumexp(log_expit(log_odds), axis=axis) - logsumexp(log_expit(np.negative(log_odds)), axis=axis)


def over_flips(predict: Callable[[np.ndarray], np.ndarray], pixels: np.ndarray, flips: str) -> np.ndarray:
    """One model's mean log-odds over the flips of each image; each part of a photograph is flipped by itself.

    Args:
        predict: from pixels to log-odds, (n,).
        pixels: uint8 (n, size, views · size, 3).
        flips: a key of `FLIPS`.
    """
    if flips == "none":
        return predict(pixels)
    views = np.split(pixels, pixels.shape[2] // pixels.shape[1], axis=2)
    turned = (np.concatenate([np.flip(view, axes) for view in views], axis=2) for axes in FLIPS[flips])
    return np.mean([predict(one) for one in turned], axis=0)


def averaged_by(log_odds: pd.Series, keys: pd.Series) -> pd.Series:
    """`averaged` over the predictions that share a key; indexed by the sorted keys."""

    def total(logarithms: pd.Series) -> pd.Series:
        top = logarithms.groupby(keys).max()
        return np.log(np.exp(logarithms - keys.map(top)).groupby(keys).sum()) + top

    return total(log_expit(log_odds)) - total(log_expit(-log_odds))


def with_log_odds(table: pd.DataFrame) -> pd.DataFrame:
    """A table of predictions, its log-odds as numbers.

    Raises:
        ValueError: there is no column `log_odds`, or it has values that are not finite numbers.
    """
    if "log_odds" not in table:
        raise ValueError(f"it has no column log_odds; {OLDER}")
    table = table.astype({"log_odds": float})
    if not np.isfinite(table["log_odds"]).all():
        raise ValueError("its column log_odds has cells that are no finite numbers")
    return table
