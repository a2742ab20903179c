"""Closed-form confidence intervals, valid near the limits of a score's range, where bootstrap percentiles fail.

At a limit such as 1, all resamples agree, so the percentile interval would have no width.
"""

from __future__ import annotations

import math

from scipy.optimize import brentq
from scipy.stats import beta, norm

__all__ = ["auroc_interval", "auroc_variance", "difference_interval", "proportion_interval", "wilson_interval"]

LEVEL = 0.95
NEAR = 1e-9


def proportion_interval(value: float, n: int, level: float = LEVEL) -> tuple[float, float]:
    """The exact interval of a proportion (Clopper & Pearson, Biometrika 26:404, 1934).

    Args:
        value: the proportion, 0 to 1.
        n: independent trials, ≥ 1; copies and photographs of one patient count as one.
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


def wilson_interval(value: float, n: float, level: float = LEVEL) -> tuple[float, float]:
    """The score interval of a proportion (Wilson, J Am Stat Assoc 22:209, 1927); its coverage is closer to nominal.

    Args:
        value: the proportion, 0 to 1.
        n: independent trials, > 0; an effective number need not be whole.
        level: of confidence.

    Raises:
        ValueError: no trial, or a value out of range.
    """
    if n <= 0 or not 0 <= value <= 1:
        raise ValueError(f"{value} of {n} is no proportion")
    square = float(norm.ppf((1 + level) / 2)) ** 2
    centre, half = value + square / (2 * n), math.sqrt(square * (value * (1 - value) / n + square / (4 * n * n)))
    low, high = ((centre + side * half) / (1 + square / n) for side in (-1, 1))
    return (0.0 if value == 0 else low), (1.0 if value == 1 else high)


def auroc_variance(area: float, positive: float, negative: float) -> float:
    """Hanley & McNeil's variance of an AUROC, as modified by Newcombe: see `auroc_interval`.

    Args:
        area: 0 to 1.
        positive: independent abnormal cases, ≥ 1; an effective number need not be whole.
        negative: independent normal cases, the same.
    """
    shape = 1 + ((positive + negative) / 2 - 1) * ((1 - area) / (2 - area) + area / (1 + area))
    return area * (1 - area) * shape / (positive * negative)


def auroc_interval(value: float, positive: float, negative: float, level: float = LEVEL) -> tuple[float, float]:
    """A score interval of the AUROC that has a width even at 0 and 1 (Newcombe, Stat Med 25:559, 2006, method 5).

    Its limits are the areas θ with (value - θ)² = z² V(θ), where V is Hanley & McNeil's variance with both numbers of
    cases replaced by their mean in the second part: V(θ) = θ(1-θ)(1 + (N-1)((1-θ)/(2-θ) + θ/(1+θ))) / (mn).

    Args:
        value: the area, 0 to 1.
        positive: independent abnormal cases, ≥ 1; an effective number need not be whole.
        negative: independent normal cases, the same.
        level: of confidence.

    Raises:
        ValueError: a class without cases, or a value out of range.
    """
    if min(positive, negative) < 1 or not 0 <= value <= 1:
        raise ValueError(f"{value} of {positive} and {negative} cases is no area")
    z = float(norm.ppf((1 + level) / 2))

    def error(area: float) -> float:
        return z * math.sqrt(auroc_variance(area, positive, negative))

    # The value itself solves the equation at 0 and 1, where the error is 0
    low = 0.0 if value < 2 * NEAR else float(brentq(lambda area: value - area - error(area), 0, value - NEAR))
    high = 1.0 if value > 1 - 2 * NEAR else float(brentq(lambda area: area - value - error(area), value + NEAR, 1))
    return low, high


def difference_interval(
    first: tuple[float, float, float], second: tuple[float, float, float]
) -> tuple[float, float, float]:
    """Difference of two scores, first - second, from their own intervals (Zou & Donner, Stat Med 27:1693, 2008).

    It takes them for independent. For two scores on the same images, which rise and fall together, it is too wide.

    Args:
        first: value, low, high.
        second: the same.

    Returns:
        The difference, low, high.
    """
    (one, one_low, one_high), (two, two_low, two_high) = first, second
    return (
        one - two,
        one - two - math.hypot(one - one_low, two_high - two),
        one - two + math.hypot(one_high - one, two - two_low),
    )
