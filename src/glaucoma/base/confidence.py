"""Intervals in closed form: for what is not resampled, and for scores at the end of their range, such as 1.

There all bootstrap resamples agree, and their percentiles would say that the score is known for certain.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import beta, norm

__all__ = ["auroc_interval", "proportion_interval"]

LEVEL = 0.95
NEAR = 1e-9


def proportion_interval(value: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper & Pearson, Biometrika 26:404, 1934).

    Args:
        value: the proportion, 0 to 1.
        n: independent trials, ≥ 1; copies and photographs of one patient are one.
        level: of confidence.

    Raises:
        ValueError: no trial, or a value out of range.
    """
    if n < 1 or not 0 <= value <= 1:
        raise ValueError(f"{value} of {n} is no proportion")
    hits, tail = value * n, (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def auroc_interval(value: float, positive: int, negative: int, level: float = LEVEL) -> tuple[float, float]:
    """A score interval of the AUROC that has a width at 0 and 1, too (Newcombe, Stat Med 25:559, 2006, method 5).

    Its ends are the areas θ at which (value - θ)² = z² V(θ), V being Hanley & McNeil's variance with both numbers of
    cases replaced by their mean in its second part: V(θ) = θ(1-θ)(1 + (N-1)((1-θ)/(2-θ) + θ/(1+θ))) / (mn).

    Args:
        value: the area, 0 to 1.
        positive: independent abnormal cases, ≥ 1.
        negative: independent normal cases, ≥ 1.
        level: of confidence.

    Raises:
        ValueError: a class without cases, or a value out of range.
    """
    if min(positive, negative) < 1 or not 0 <= value <= 1:
        raise ValueError(f"{value} of {positive} and {negative} cases is no area")
    z, mean = float(norm.ppf((1 + level) / 2)), (positive + negative) / 2 - 1

    def error(area: float) -> float:
        shape = 1 + mean * ((1 - area) / (2 - area) + area / (1 + area))
        return z * math.sqrt(area * (1 - area) * shape / (positive * negative))

    # The value itself solves the equation at 0 and 1, where the error is 0
    low = 0.0 if value < 2 * NEAR else float(brentq(lambda area: value - area - error(area), 0, value - NEAR))
    high = 1.0 if value > 1 - 2 * NEAR else float(brentq(lambda area: area - value - error(area), value + NEAR, 1))
    return low, high
