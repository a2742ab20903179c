"""Intervals of every score by bootstrap over groups: patients, or images where no patient is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import t as student

from glaucoma.base.confidence import auroc_interval, auroc_variance, wilson_interval
from glaucoma.dataset.folds import groups_of
from glaucoma.evaluate.scores import BINS, SCORES, THRESHOLD, checked_log_odds, scores
from glaucoma.model.log_odds import expit

__all__ = [
    "COLUMNS",
    "FEWEST",
    "LEVEL",
    "RESAMPLES",
    "USABLE",
    "WITHOUT",
    "Cases",
    "Weighted",
    "arrays",
    "bounds",
    "cases_of",
    "difference_bounds",
    "draws",
    "independent",
    "intervals",
    "resampled",
    "rows_of",
    "weighted_scores",
]

RESAMPLES = 2000
DRAWN = 200_000_000  # predictions that are drawn in all, before there are fewer resamples; 200 at least
LEVEL = 0.95
WITHOUT = frozenset({"ece", "partial_auroc"})  # scores that no interval here holds its level for
# Independent cases of each class, in each fold, from which on an interval holds its level; and wrong ones in all
FEWEST = {"auroc": 2, "f1_macro": 5, "mcc": 5, "average_precision": 30, "sensitivity_at_95_specificity": 50}
WRONG = 5
ERRORS = frozenset({"brier", "log_loss"})
USABLE = 0.5  # share of resamples that define a difference, from which on these stand for all
AGREE = 1e-9  # resamples that differ by less agree: their sums are rounded
COLUMNS = ["score", "value", "low", "high", "n", "groups", "resamples", "method"]
AT_ONCE = 4_000_000  # weights held in memory at a time: resamples × predictions


def intervals(
    predictions: pd.DataFrame,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    threshold: float = THRESHOLD,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Every score of these predictions with its 95 % interval.

    Whole groups are drawn with replacement (Field & Welsh, J R Stat Soc B 69:369, 2007): rows linked by a patient,
    by an image's content or by being copies of one photograph, so that neither copies nor folds that score an image
    again count as more evidence. How an interval follows from the resamples: see `bounds`.

    Args:
        predictions: columns image, label, log_odds and perhaps patient ("" where unknown).
        seed: of the draws.
        resamples: how many.
        threshold: log-odds from which on an image is called abnormal.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score of `SCORES`, `COLUMNS`: score, value, low, high (95 %; empty where not defined), n
        (predictions), groups, resamples (those in which the score is defined: others lack a class), method (see
        `bounds`).

    Raises:
        TrainingError, ValueError: as `scores`.
    """
    abnormal, log_odds = arrays(predictions)
    found = scores(abnormal, log_odds=log_odds, threshold=threshold)
    groups = independent(predictions, clusters)
    drawn = resampled(abnormal, log_odds, groups, seed=seed, resamples=resamples, threshold=threshold)
    return rows_of(found, drawn, abnormal, groups)


@dataclass(frozen=True)
class Cases:
    """How much evidence a score stands on, in independent groups: patients, or photographs.

    Attributes:
        positive: groups with an abnormal image.
        negative: groups with a normal image.
        total: groups.
        each: groups of the rarer class in a fold, a mean over the folds; of a single sample, in all; infinite where
            not known.
        wrong: groups times the share of images that are called wrong; infinite where not known.
    """

    positive: int
    negative: int
    total: int
    each: float = np.inf
    wrong: float = np.inf


def cases_of(
    abnormal: np.ndarray, groups: np.ndarray, folds: np.ndarray | None = None, right: float | None = None
) -> Cases:
    """What scores of these predictions stand on.

    Args:
        abnormal: bool, (n,), of each prediction.
        groups: (n,); equal values, same group.
        folds: (n,), where scores are means over folds.
        right: share of images that are called right; None or NaN where not defined, as if all were.
    """
    parts = [slice(None)] if folds is None else [folds == fold for fold in np.unique(folds)]
    both = [[len(np.unique(groups[part][abnormal[part] == of])) for part in parts] for of in (True, False)]
    total = len(np.unique(groups))
    wrong = 0.0 if right is None or pd.isna(right) else (1 - float(right)) * total
    one, other = (len(np.unique(groups[abnormal == of])) for of in (True, False))
    return Cases(one, other, total, min(float(np.mean(of)) for of in both) if total else 0.0, wrong)


def rows_of(
    found: Mapping[str, float | None],
    drawn: Mapping[str, np.ndarray],
    abnormal: np.ndarray,
    groups: np.ndarray,
    folds: np.ndarray | None = None,
) -> pd.DataFrame:
    """The table that `intervals` returns, of scores and their resamples.

    Args:
        found: the scores themselves, None or NaN where not defined.
        drawn: of each, float (resamples,), NaN where not defined.
        abnormal: bool, (n,), of each prediction.
        groups: (n,); equal values, same group.
        folds: (n,), where scores are means over folds.
    """
    cases, rows = cases_of(abnormal, groups, folds, found["accuracy"]), []
    for name in SCORES:
        given = found[name]
        value = np.nan if given is None else float(given)
        around = bounds(name, value, drawn[name], cases)
        usable = int(np.isfinite(drawn[name]).sum())
        rows.append((name, value, *around[:2], len(abnormal), cases.total, usable, around[2]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def bounds(name: str, value: float, drawn: np.ndarray, cases: Cases) -> tuple[float, float, str]:
    """A score's 95 % interval and the method that gave it.

    Methods are those whose intervals cover in benchmarks/coverage.md, which also says where they cover too much.
    Percentiles of resamples are too narrow near the end of a score's range, and at the end they have no width. So
    scores from 0 to 1 have Wilson's interval and the AUROC has Newcombe's, each with an effective number of cases: the
    one at which its variance is the bootstrap's (Korn & Graubard, Surv Methodol 24:193, 1998), but never more than
    there are independent cases. At the end of the range, where the bootstrap has no variance, it is their number.
    Errors of probabilities hang on the few images that are wrong: their interval is the bootstrap's on the logarithm,
    by Student's t of as many cases as are wrong.

    Where the cases are too few for a score (`FEWEST`, `WRONG`) it has no interval. The ECE and the partial AUROC have
    none at all: sampling alone makes the one larger, and resampling does so again, so that percentiles may lie wholly
    above the value; the other hangs on a tenth of the normal images.

    Args:
        name: of the score.
        value: the score, NaN where not defined.
        drawn: float, (resamples,), NaN where not defined.
        cases: what it stands on.

    Returns:
        low, high, and `wilson`, `newcombe` (auroc), `log t` (brier, log_loss), or `none` with NaN: the score is not
        defined or one of `WITHOUT`, cases are too few, or all resamples agree within its range.
    """
    drawn, nothing = drawn[np.isfinite(drawn)], (np.nan, np.nan, "none")
    if value != value or not len(drawn) or name in WITHOUT or cases.each < FEWEST.get(name, 0):
        return nothing
    agree, value = np.ptp(drawn) <= AGREE, float(value)
    variance = float(np.var(drawn))
    if name in ERRORS:
        if agree or cases.wrong < WRONG or value <= 0:
            return nothing
        half = float(student.ppf((1 + LEVEL) / 2, cases.wrong - 1)) * variance**0.5 / value
        return value * np.exp(-half), value * np.exp(half), "log t"
    if name == "mcc":  # from -1 to 1
        value, variance = (value + 1) / 2, variance / 4
    value = round(value) if min(abs(value), abs(1 - value)) <= AGREE else value
    if agree and 0 < value < 1:
        return nothing
    if name == "auroc":
        positive, negative = cases.positive, cases.negative
        share = 1.0 if agree else min(1.0, auroc_variance(value, positive, negative) / variance)
        return *auroc_interval(value, max(1.0, share * positive), max(1.0, share * negative)), "newcombe"
    count = {
        "sensitivity": cases.positive,
        "sensitivity_at_95_specificity": cases.positive,
        "specificity": cases.negative,
    }.get(name, cases.total)
    share = 1.0 if agree else min(1.0, value * (1 - value) / variance / count)
    low, high = wilson_interval(value, max(1.0, share * count))
    return (2 * low - 1, 2 * high - 1, "wilson") if name == "mcc" else (low, high, "wilson")


def difference_bounds(name: str, value: float, apart: np.ndarray, cases: Cases) -> tuple[float, float]:
    """The 95 % interval of a paired difference of two models' scores: Student's t and the bootstrap's deviation.

    Its degrees of freedom are one less than the independent cases of the rarer class. Percentiles of the resamples are
    too narrow where there are few (benchmarks/coverage.md). Where fewer than `WRONG` cases are wrong, two models differ
    in so few that no method holds its level.

    Args:
        name: of the score.
        value: the difference, NaN where not defined.
        apart: float, (resamples,), NaN where not defined.
        cases: what the scores stand on: `each` of the model that has fewer, `wrong` of the one that has more.

    Returns:
        low, high; NaN for scores of `WITHOUT`, for too few cases (`FEWEST`, `WRONG`), where less than `USABLE` of the
        resamples define the difference, and where all agree.
    """
    defined = apart[np.isfinite(apart)]
    few = cases.each < FEWEST.get(name, 0) or cases.wrong < WRONG or len(defined) < USABLE * len(apart)
    if value != value or name in WITHOUT or few or not len(defined) or np.ptp(defined) <= AGREE:
        return np.nan, np.nan
    rarer = min(cases.positive or cases.negative, cases.negative or cases.positive)  # a class that there is
    half = float(student.ppf((1 + LEVEL) / 2, max(1, rarer - 1)) * np.std(defined))
    return value - half, value + half


def independent(predictions: pd.DataFrame, clusters: Mapping[str, str] | None = None) -> np.ndarray:
    """Number the independent units of predictions: rows of one patient, image or photograph share a number.

    Args:
        predictions: columns image and perhaps patient ("" where unknown).
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        int, (rows,).
    """
    copies = predictions["image"].map(lambda image: clusters.get(image, image)).to_numpy() if clusters else None
    return groups_of(predictions, copies)


def resampled(
    abnormal: np.ndarray,
    log_odds: np.ndarray,
    groups: np.ndarray,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    threshold: float = THRESHOLD,
) -> dict[str, np.ndarray]:
    """Every score in each bootstrap resample of whole groups.

    Args:
        abnormal: bool, (n,).
        log_odds: float, (n,), finite.
        groups: (n,); equal values, same group.
        seed: the same seed and groups give the same draws, so that two models' resamples are paired.
        resamples: how many.
        threshold: log-odds from which on an image is called abnormal.

    Returns:
        By score, float64 (resamples,); NaN where a resample does not define it.
    """
    scored = Weighted(abnormal, log_odds, threshold)
    parts = [scored(weights) for weights in draws(groups, seed, resamples)]
    return {name: np.concatenate([part[name] for part in parts]) for name in SCORES}


def weighted_scores(
    abnormal: np.ndarray, log_odds: np.ndarray, weights: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, np.ndarray]:
    """`scores` of many weightings at once; a weight of 2 counts an image twice.

    Args:
        abnormal: bool, (n,).
        log_odds: float, (n,), finite.
        weights: whole numbers ≥ 0, (resamples, n).
        threshold: log-odds from which on an image is called abnormal.

    Returns:
        By score, float64 (resamples,); NaN where it is not defined.
    """
    return Weighted(abnormal, log_odds, threshold)(weights)


class Weighted:
    """`weighted_scores` of one set of predictions, prepared once for many calls.

    Args:
        abnormal: bool, (n,).
        log_odds: float, (n,), finite.
        threshold: log-odds from which on an image is called abnormal.
    """

    def __init__(self, abnormal: np.ndarray, log_odds: np.ndarray, threshold: float = THRESHOLD):
        abnormal, log_odds = checked_log_odds(abnormal, log_odds)
        self.order = np.argsort(-log_odds, kind="stable")
        abnormal, log_odds = abnormal[self.order], log_odds[self.order]
        self.abnormal, probability, called = abnormal, expit(log_odds), log_odds >= threshold
        starts = np.flatnonzero(np.diff(log_odds, prepend=np.inf))
        self.starts = starts if len(starts) < len(log_odds) else None  # None: no ties
        smallest = np.finfo(np.float64).eps
        of_label = np.clip(np.where(abnormal, probability, 1 - probability), smallest, 1 - smallest)
        of = np.minimum((probability * BINS).astype(int), BINS - 1)
        # What every score but those of a curve is a function of: sums over the images of these columns
        counted = [called & abnormal, called & ~abnormal, ~called & abnormal, ~called & ~abnormal]
        errors = [(probability - abnormal) ** 2, -np.log(of_label)]
        gaps = (probability - abnormal)[:, None] * (of[:, None] == np.arange(BINS))
        self.columns = np.column_stack([*counted, *errors, gaps])

    def __call__(self, weights: np.ndarray) -> dict[str, np.ndarray]:
        """By score, float64 (resamples,), of weights (resamples, n) in the order that predictions were given in."""
        if not len(self.abnormal):
            return {name: np.full(len(weights), np.nan) for name in SCORES}
        weights = weights[:, self.order].astype(np.float64)
        sums = weights @ self.columns
        total = sums[:, :4].sum(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            return {
                **_decided(*sums[:, :4].T),
                **_ranked(*self._steps(weights)),
                **dict(zip(("brier", "log_loss"), sums[:, 4:6].T / total, strict=True)),
                "ece": np.abs(sums[:, 6:]).sum(1) / total,
            }

    def _steps(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Abnormal and normal images at each step of the curves, by falling log-odds; ties are one step."""
        both = weights * self.abnormal, weights * ~self.abnormal
        return both if self.starts is None else tuple(np.add.reduceat(one, self.starts, axis=1) for one in both)


def draws(groups: np.ndarray, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each row is drawn in a bootstrap of whole groups, in parts that fit into memory.

    Args:
        groups: (n,); equal values, same group.
        seed: the same seed and groups give the same draws.
        resamples: how many; fewer, but 200 at least, of more than 100 000 rows, whose intervals are narrow.

    Yields:
        int32, (some of the resamples, n).
    """
    random = np.random.default_rng(seed)
    numbers = np.unique(groups, return_inverse=True)[1]
    count = int(numbers.max(initial=-1)) + 1
    resamples = min(resamples, max(200, DRAWN // max(1, len(groups))))
    step = max(1, AT_ONCE // max(1, len(groups)))
    for first in range(0, resamples, step):
        times = np.zeros((min(step, resamples - first), count), dtype=np.int32)
        for row in times:
            row += np.bincount(random.integers(0, count, count), minlength=count).astype(np.int32) if count else 0
        yield times[:, numbers]


def _decided(tp: np.ndarray, fp: np.ndarray, fn: np.ndarray, tn: np.ndarray) -> dict[str, np.ndarray]:
    f1 = [2 * hit / (2 * hit + fp + fn) for hit in (tn, tp)]  # 0 / 0, a class that does not occur, is left out
    spread = (tp + fn) * (tn + fp) * (tp + fp) * (tn + fn)
    mcc = np.where(spread > 0, (tp * tn - fp * fn) / np.sqrt(spread), 0.0)
    return {
        "sensitivity": tp / (tp + fn),
        "specificity": tn / (tn + fp),
        "accuracy": (tp + tn) / (tp + tn + fp + fn),
        "f1_macro": np.where(np.isnan(f1[0]), f1[1], np.where(np.isnan(f1[1]), f1[0], (f1[0] + f1[1]) / 2)),
        "mcc": np.where((tp + fn) * (tn + fp) > 0, mcc, np.nan),
    }


def _ranked(hits: np.ndarray, alarms: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the ROC and precision–recall curves, of abnormal and normal images at each step, (resamples, steps)."""
    tp, fp = hits.cumsum(1), alarms.cumsum(1)
    tpr, fpr = tp / tp[:, -1:], fp / fp[:, -1:]
    rise, run = hits / tp[:, -1:], alarms / fp[:, -1:]
    before, left = tpr - rise, fpr - run
    auroc = (run * (before + rise / 2)).sum(1)
    inside = np.clip(0.1 - left, 0, run)  # the part of each step left of a false alarm rate of 0.1
    reached = before + np.where(run > 0, rise * inside / run, 0)
    area = (inside * (before + reached) / 2).sum(1)
    allowed = np.floor(0.05 * fp[:, -1:] + 1e-9)
    precision = np.where(tp + fp > 0, tp / (tp + fp), 0)
    both = (tp[:, -1] > 0) & (fp[:, -1] > 0)
    found = {
        "auroc": auroc,
        "partial_auroc": (1 + (area - 0.005) / (0.1 - 0.005)) / 2,
        "sensitivity_at_95_specificity": np.where(fp <= allowed, tpr, 0).max(1),
        "average_precision": (rise * precision).sum(1),
    }
    return {name: np.where(both, values, np.nan) for name, values in found.items()}


def arrays(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row is abnormal, bool (n,), and its log-odds, float64 (n,)."""
    return (predictions["label"] == "abnormal").to_numpy(), predictions["log_odds"].to_numpy(float)
