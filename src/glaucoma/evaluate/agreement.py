"""Whether probabilities agree with what is seen: intercept, slope and O:E of calibration, a smooth curve, Brier skill.

These are of all folds' predictions together: a probability, unlike a rank, means the same whichever model said it.
Intervals are clustered: rows of one patient or photograph add up before they vary (Liang & Zeger, Biometrika 73:13,
1986), with Student's t for few groups.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from scipy.stats import t as student

from glaucoma.evaluate.scores import checked

__all__ = ["MEASURES", "agreement", "by_class", "clustered_mean", "curve"]

MEASURES = {"intercept": 0.0, "slope": 1.0, "observed_expected": 1.0, "brier_skill": 1.0}  # and what is ideal
LEVEL = 0.95
SUREST = 1e-9  # probabilities nearer to 0 or 1 count as this: their log-odds are finite
SEPARATED = 50.0  # log-odds of a fit that runs away, since hardly anything keeps the classes together
FEWEST = 10  # groups of each class that an intercept or curve is fitted to
FEWEST_FOR_SLOPE = 30  # with 20, and classes nearly parted, its interval covers 90 % (tests/test_agreement.py)
KNOTS = (0.1, 0.5, 0.9)  # quantiles of the log-odds (Harrell, Regression Modeling Strategies, 2015, table 2.3)
RIDGE = 0.01  # of the curve's terms, so that it exists where the classes are parted
POINTS = 50
BINS = 20


def agreement(abnormal: np.ndarray, probability: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """The measures of calibration (Van Calster et al., BMC Med 17:230, 2019) and the Brier skill.

    Args:
        abnormal: bool, (n,).
        probability: float, (n,), of abnormal, 0 to 1.
        groups: (n,); equal values, same patient or photograph.

    Returns:
        A row per measure: measure, ideal, value, low, high (95 %; empty where not defined). `intercept`, in the large
        with slope 1: above 0, probabilities are too low. `slope`: below 1, they are too extreme.
        `observed_expected`: abnormal images over the sum of probabilities. `brier_skill`: 1 - Brier score over that of
        saying the share of abnormal images of each; 0 is no better than that, 1 the best.

    Raises:
        TrainingError, ValueError: as `glaucoma.evaluate.scores.checked`.
    """
    abnormal, probability = checked(abnormal, probability)
    y, p = abnormal.astype(float), probability
    nothing = (np.nan, np.nan, np.nan)
    found = dict.fromkeys(MEASURES, nothing)
    if len(y) and 0 < y.mean() < 1:
        x = logit(np.clip(p, SUREST, 1 - SUREST))
        found["observed_expected"] = _ratio(y, p, groups)
        found["brier_skill"] = _skill(y, p, groups)
        fewest = _fewest(abnormal, groups)
        if fewest >= FEWEST:
            found["intercept"] = _coefficient(np.ones((len(y), 1)), y, groups, 0, offset=x)
        if fewest >= FEWEST_FOR_SLOPE and x[abnormal].min() < x[~abnormal].max():  # else no slope is steep enough
            found["slope"] = _coefficient(np.column_stack([np.ones_like(x), x]), y, groups, 1)
    rows = [(name, ideal, *found[name]) for name, ideal in MEASURES.items()]
    return pd.DataFrame(rows, columns=["measure", "ideal", "value", "low", "high"])


def curve(abnormal: np.ndarray, probability: np.ndarray, groups: np.ndarray) -> pd.DataFrame:
    """The share of abnormal images as a smooth function of the probability, with a pointwise 95 % band.

    A logistic regression on a restricted cubic spline of the log-odds with three knots.

    Args:
        abnormal: bool, (n,).
        probability: float, (n,), of abnormal, 0 to 1.
        groups: (n,); equal values, same patient or photograph.

    Returns:
        Columns probability (from its 1st to its 99th percentile), abnormal, low, high; no rows where there are too few
        images, or all probabilities are alike.
    """
    abnormal, probability = checked(abnormal, probability)
    columns = ["probability", "abnormal", "low", "high"]
    x = logit(np.clip(probability, SUREST, 1 - SUREST))
    if _fewest(abnormal, groups) < FEWEST or np.ptp(x) < 1e-6:
        return pd.DataFrame(columns=columns, dtype=float)
    grid = np.linspace(*np.quantile(probability, [0.01, 0.99]), POINTS).clip(SUREST, 1 - SUREST)
    terms, at = _spline(x, x), _spline(logit(grid), x)
    centre, scale = terms.mean(axis=0), terms.std(axis=0)
    kept = scale > 1e-9
    terms, at = ((part[:, kept] - centre[kept]) / scale[kept] for part in (terms, at))
    one, other = (np.column_stack([np.ones(len(part)), part]) for part in (terms, at))
    weights, covariance = _fit(one, abnormal.astype(float), groups, ridge=RIDGE)
    middle, error = other @ weights, np.sqrt(np.einsum("ij,jk,ik->i", other, covariance, other))
    z = _quantile(groups)
    parts = [grid, *(expit(middle + side * z * error) for side in (0, -1, 1))]
    return pd.DataFrame(dict(zip(columns, parts, strict=True)))


def by_class(abnormal: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """How many normal and abnormal images have which probability: low, high (edges), normal, abnormal."""
    abnormal, probability = checked(abnormal, probability)
    edges = np.arange(BINS + 1) / BINS
    of = np.minimum((probability * BINS).astype(int), BINS - 1)
    counts = [np.bincount(of[which], minlength=BINS) for which in (~abnormal, abnormal)]
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "normal": counts[0], "abnormal": counts[1]})


def clustered_mean(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """A mean and its 95 % interval; the ends are NaN where the values do not vary between groups.

    Args:
        values: float, (n,), n ≥ 1.
        groups: (n,); equal values, same patient or photograph.
    """
    mean = float(np.mean(values))
    return _around(mean, _error((values - mean) / len(values), groups), groups)


def _ratio(y: np.ndarray, p: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Σy / Σp; its interval is symmetric on the logarithm's scale."""
    if not p.sum() > 0:
        return np.nan, np.nan, np.nan
    ratio = float(y.sum() / p.sum())
    found = _around(np.log(ratio), _error(y / y.sum() - p / p.sum(), groups), groups)
    return ratio, float(np.exp(found[1])), float(np.exp(found[2]))


def _skill(y: np.ndarray, p: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    share, losses = y.mean(), (p - y) ** 2
    spread, loss = share * (1 - share), losses.mean()
    influence = -(losses - loss) / spread + loss / spread**2 * (1 - 2 * share) * (y - share)
    return _around(float(1 - loss / spread), _error(influence / len(y), groups), groups)


def _coefficient(
    terms: np.ndarray, y: np.ndarray, groups: np.ndarray, which: int, offset: np.ndarray | None = None
) -> tuple[float, float, float]:
    """One coefficient of a logistic regression; NaN where it runs away."""
    weights, covariance = _fit(terms, y, groups, offset=offset)
    if not np.isfinite(covariance).all():
        return np.nan, np.nan, np.nan
    return _around(float(weights[which]), float(np.sqrt(covariance[which, which])), groups)


def _fit(
    terms: np.ndarray, y: np.ndarray, groups: np.ndarray, *, offset: np.ndarray | None = None, ridge: float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    """A logistic regression by Newton's method: coefficients and their clustered covariance, NaN where they run away.

    Args:
        terms: float, (n, k), the first of which is constant.
        y: 0 or 1, (n,).
        groups: (n,).
        offset: float, (n,), added to what the terms give.
        ridge: the penalty, half of it times the squares of all coefficients but the first.
    """
    k = terms.shape[1]
    weights, penalty = np.zeros(k), ridge * np.diag([0.0, *[1.0] * (k - 1)])
    none = np.full(k, np.nan), np.full((k, k), np.nan)
    start = 0.0 if offset is None else offset

    def loss(weights: np.ndarray) -> float:
        told = start + terms @ weights
        return float(np.logaddexp(0, told).sum() - y @ told + weights @ penalty @ weights / 2)

    for _ in range(100):
        p = expit(start + terms @ weights)
        slopes = terms.T @ (y - p) - penalty @ weights
        curvature = (terms * (p * (1 - p))[:, None]).T @ terms + penalty
        if not np.linalg.cond(curvature) < 1e12 or np.abs(terms @ weights).max() > SEPARATED:
            return none
        step, now = np.linalg.solve(curvature, slopes), loss(weights)
        while loss(weights + step) > now + 1e-12 * abs(now) and np.abs(step).max() > 1e-12:
            step = step / 2
        weights = weights + step
        if np.abs(step).max() < 1e-9:
            break
    scores = terms * (y - p)[:, None]
    sums = np.stack([np.bincount(_numbers(groups), column) for column in scores.T], axis=1)
    inverse = np.linalg.inv(curvature)
    return weights, inverse @ (sums.T @ sums) @ inverse * _few(groups)


def _spline(x: np.ndarray, of: np.ndarray) -> np.ndarray:
    """The log-odds x and their restricted cubic term, with knots from the log-odds `of`; (n, 2)."""
    a, b, c = np.quantile(of, KNOTS)
    if not a < b < c:
        return np.column_stack([x, np.zeros_like(x)])
    cubes = [np.maximum(x - knot, 0) ** 3 for knot in (a, b, c)]
    bent = cubes[0] - cubes[1] * (c - a) / (c - b) + cubes[2] * (b - a) / (c - b)
    return np.column_stack([x, bent / (c - a) ** 2])


def _error(influence: np.ndarray, groups: np.ndarray) -> float:
    """The standard error of a sum over rows, whose groups are independent."""
    sums = np.bincount(_numbers(groups), influence)
    return float(np.sqrt((sums**2).sum() * _few(groups)))


def _around(value: float, error: float, groups: np.ndarray) -> tuple[float, float, float]:
    if not error > 1e-12:
        return value, np.nan, np.nan
    z = _quantile(groups)
    return value, value - z * error, value + z * error


def _fewest(abnormal: np.ndarray, groups: np.ndarray) -> int:
    """Independent groups of the rarer class."""
    return min(len(np.unique(groups[of])) for of in (abnormal, ~abnormal))


def _numbers(groups: np.ndarray) -> np.ndarray:
    return np.unique(groups, return_inverse=True)[1]


def _few(groups: np.ndarray) -> float:
    """What a variance between groups is multiplied by, since their mean is taken from them."""
    count = len(np.unique(groups))
    return count / (count - 1) if count > 1 else np.nan


def _quantile(groups: np.ndarray) -> float:
    return float(student.ppf((1 + LEVEL) / 2, max(1, len(np.unique(groups)) - 1)))
