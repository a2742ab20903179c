"""Log-odds, ln(p / (1 - p)) of the probability of abnormal: what predictions are kept, ranked and cut by.

A probability near 1 has no room left for ranks: in float32 from log-odds of 17 on, in float64 from 37 on. So it is
shown beside the log-odds, and computed from them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit, log_expit, logit, logsumexp

__all__ = ["ALL", "Threshold", "averaged", "averaged_by", "expit", "with_log_odds"]

ALL = float(np.finfo(np.float64).max)  # as a threshold, - ALL calls everything abnormal, and ALL nothing
OLDER = "predictions of an older release hold only probabilities, which have lost ranks"


class Threshold(NamedTuple):
    """From where on an image is called abnormal.

    Attributes:
        log_odds: what decides; finite, so that JSON can hold it.
        probability: the same to be read; of log-odds far from 0 it is rounded.
    """

    log_odds: float
    probability: float

    @classmethod
    def of(cls, probability: float) -> Threshold:
        """That of a probability, 0 to 1."""
        return cls(float(np.clip(logit(np.clip(probability, 0, 1)), -ALL, ALL)), probability)


def averaged(log_odds: np.ndarray, axis: int = 0) -> np.ndarray:
    """The log-odds of the mean probability of several predictions of an image, which keep its rank.

    Probabilities are averaged, and not log-odds, as before: of ten networks one that is wildly sure then counts for a
    tenth, where a mean of log-odds would be its alone.

    Args:
        log_odds: float, any shape.
        axis: that of the predictions.
    """
    return logsumexp(log_expit(log_odds), axis=axis) - logsumexp(log_expit(np.negative(log_odds)), axis=axis)


def averaged_by(log_odds: pd.Series, keys: pd.Series) -> pd.Series:
    """As `averaged`, of the predictions that share a key; indexed by the sorted keys."""

    def total(logarithms: pd.Series) -> pd.Series:
        top = logarithms.groupby(keys).max()
        return np.log(np.exp(logarithms - keys.map(top)).groupby(keys).sum()) + top

    return total(log_expit(log_odds)) - total(log_expit(-log_odds))


def with_log_odds(table: pd.DataFrame) -> pd.DataFrame:
    """A table of predictions as it is, its log-odds as numbers.

    Raises:
        ValueError: it has no column `log_odds`, or one that does not hold finite numbers.
    """
    if "log_odds" not in table:
        raise ValueError(f"it has no column log_odds; {OLDER}")
    table = table.astype({"log_odds": float})
    if not np.isfinite(table["log_odds"]).all():
        raise ValueError("its column log_odds has cells that are no finite numbers")
    return table
