"""Intervals of every score by bootstrap over groups: patients, or images where no patient is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from glaucoma.base.confidence import auroc_interval, auroc_variance, wilson_interval
from glaucoma.dataset.folds import groups_of
from glaucoma.evaluate.scores import BINS, SCORES, THRESHOLD, checked_log_odds, scores
from glaucoma.model.log_odds import expit

__all__ = [
    "COLUMNS",
    "LEVEL",
    "RESAMPLES",
    "WITHOUT",
    "arrays",
    "bounds",
    "draws",
    "independent",
    "intervals",
    "percentiles",
    "resampled",
    "rows_of",
    "weighted_scores",
]

RESAMPLES = 2000
LEVEL = 0.95
WITHOUT = frozenset({"ece"})  # scores that no interval here holds its level for
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


def rows_of(
    found: Mapping[str, float | None], drawn: Mapping[str, np.ndarray], abnormal: np.ndarray, groups: np.ndarray
) -> pd.DataFrame:
    """The table that `intervals` returns, of scores and their resamples.

    Args:
        found: the scores themselves, None or NaN where not defined.
        drawn: of each, float (resamples,), NaN where not defined.
        abnormal: bool, (n,), of each prediction.
        groups: (n,); equal values, same group.
    """
    cases = [len(np.unique(groups[abnormal == of])) for of in (True, False)]
    total, rows = len(np.unique(groups)), []
    for name in SCORES:
        value = np.nan if found[name] is None else float(found[name])
        around = bounds(name, value, drawn[name], *cases, total)
        usable = int(np.isfinite(drawn[name]).sum())
        rows.append((name, value, *around[:2], len(abnormal), total, usable, around[2]))
    return pd.DataFrame(rows, columns=COLUMNS).astype({"value": float})


def bounds(
    name: str, value: float, drawn: np.ndarray, positive: int, negative: int, total: int
) -> tuple[float, float, str]:
    """A score's 95 % interval and the method that gave it.

    Percentiles of resamples are too narrow near the end of a score's range, and at the end they have no width. So
    proportions have Wilson's interval and the AUROC has Newcombe's, each with an effective number of cases: the one
    at which its variance is the bootstrap's (Korn & Graubard, Surv Methodol 24:193, 1998), but never more than there
    are independent cases. At the end of the range, where the bootstrap has no variance, it is their number.

    The ECE has no interval: sampling alone makes it larger, and resampling does so again, so that percentiles may lie
    wholly above the value.

    Args:
        name: of the score.
        value: the score, NaN where not defined.
        drawn: float, (resamples,), NaN where not defined.
        positive: independent groups with an abnormal image.
        negative: independent groups with a normal image.
        total: independent groups.

    Returns:
        low, high, and `wilson` (sensitivity, specificity, accuracy), `newcombe` (auroc), `bootstrap` (percentiles 2.5
        and 97.5 of the others), or `none` with NaN: the score is not defined or one of `WITHOUT`, or all resamples
        agree within its range.
    """
    drawn = drawn[np.isfinite(drawn)]
    if value != value or not len(drawn) or name in WITHOUT:
        return np.nan, np.nan, "none"
    agree, value = len(drawn) > 1 and np.ptp(drawn) <= AGREE, float(value)
    cases = {"sensitivity": positive, "specificity": negative, "accuracy": total}
    if name in cases or name == "auroc":
        value = round(value) if min(abs(value), abs(1 - value)) <= AGREE else value
        if agree and 0 < value < 1:
            return np.nan, np.nan, "none"
        variance = float(np.var(drawn))
        if name in cases:
            share = 1.0 if agree else min(1.0, value * (1 - value) / variance / cases[name])
            return *wilson_interval(value, max(1.0, share * cases[name])), "wilson"
        share = 1.0 if agree else min(1.0, auroc_variance(value, positive, negative) / variance)
        return *auroc_interval(value, max(1.0, share * positive), max(1.0, share * negative)), "newcombe"
    low, high = percentiles(drawn)
    return low, high, "bootstrap" if low == low else "none"


def percentiles(drawn: np.ndarray) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5; NaN where nothing is defined, or all resamples agree, which proves nothing."""
    drawn = drawn[np.isfinite(drawn)]
    if not len(drawn) or (len(drawn) > 1 and np.ptp(drawn) <= AGREE):
        return np.nan, np.nan
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


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
    parts = [weighted_scores(abnormal, log_odds, w, threshold) for w in draws(groups, seed, resamples)]
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
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    if not len(abnormal):
        return {name: np.full(len(weights), np.nan) for name in SCORES}
    order = np.argsort(-log_odds, kind="stable")
    abnormal, log_odds, weights = abnormal[order], log_odds[order], weights[:, order].astype(np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        return {
            **_decided(abnormal, log_odds >= threshold, weights),
            **_ranked(abnormal, log_odds, weights),
            **_probabilistic(abnormal, expit(log_odds), weights),
        }


def draws(groups: np.ndarray, seed: int, resamples: int) -> Iterator[np.ndarray]:
    """How often each row is drawn in a bootstrap of whole groups, in parts that fit into memory.

    Args:
        groups: (n,); equal values, same group.
        seed: the same seed and groups give the same draws.
        resamples: how many.

    Yields:
        int32, (some of the resamples, n).
    """
    random = np.random.default_rng(seed)
    numbers = np.unique(groups, return_inverse=True)[1]
    count = int(numbers.max(initial=-1)) + 1
    step = max(1, AT_ONCE // max(1, len(groups)))
    for first in range(0, resamples, step):
        times = np.zeros((min(step, resamples - first), count), dtype=np.int32)
        for row in times:
            row += np.bincount(random.integers(0, count, count), minlength=count).astype(np.int32) if count else 0
        yield times[:, numbers]


def _decided(abnormal: np.ndarray, called: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    tp, fp = weights[:, called & abnormal].sum(1), weights[:, called & ~abnormal].sum(1)
    fn, tn = weights[:, ~called & abnormal].sum(1), weights[:, ~called & ~abnormal].sum(1)
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


def _ranked(abnormal: np.ndarray, log_odds: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Scores of the ROC and precision–recall curves; images come with falling log-odds, ties are one step."""
    starts = np.flatnonzero(np.diff(log_odds, prepend=np.inf))
    hits = np.add.reduceat(weights * abnormal, starts, axis=1)
    alarms = np.add.reduceat(weights * ~abnormal, starts, axis=1)
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


def _probabilistic(abnormal: np.ndarray, probability: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    total = weights.sum(1)
    smallest = np.finfo(np.float64).eps
    of_label = np.clip(np.where(abnormal, probability, 1 - probability), smallest, 1 - smallest)
    of = np.minimum((probability * BINS).astype(int), BINS - 1)
    gaps = weights @ ((probability - abnormal)[:, None] * (of[:, None] == np.arange(BINS)))
    return {
        "brier": weights @ (probability - abnormal) ** 2 / total,
        "log_loss": weights @ -np.log(of_label) / total,
        "ece": np.abs(gaps).sum(1) / total,
    }


def arrays(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Whether each row is abnormal, bool (n,), and its log-odds, float64 (n,)."""
    return (predictions["label"] == "abnormal").to_numpy(), predictions["log_odds"].to_numpy(float)
