"""Percentile intervals of every score by bootstrap over groups: patients, or images where no patient is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import pandas as pd

from glaucoma.base.confidence import auroc_interval, proportion_interval
from glaucoma.dataset.folds import groups_of
from glaucoma.evaluate.scores import BINS, SCORES, THRESHOLD, checked_log_odds, scores
from glaucoma.model.log_odds import expit

__all__ = ["LEVEL", "RESAMPLES", "arrays", "draws", "independent", "intervals", "resampled", "weighted_scores"]

RESAMPLES = 2000
LEVEL = 0.95
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
    again count as more evidence. Where all resamples agree (`method`), a proportion has Clopper & Pearson's exact
    interval over groups, the AUROC Newcombe's, and the other scores have none.

    Args:
        predictions: columns image, label, log_odds and perhaps patient ("" where unknown).
        seed: of the draws.
        resamples: how many.
        threshold: log-odds from which on an image is called abnormal.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score of `SCORES`: score, value, low, high (percentiles 2.5 and 97.5; empty where not defined),
        n (predictions), groups, resamples (those in which the score is defined), method (bootstrap, exact, score, or
        none).

    Raises:
        TrainingError, ValueError: as `scores`.
    """
    abnormal, log_odds = arrays(predictions)
    found = scores(abnormal, log_odds=log_odds, threshold=threshold)
    groups = independent(predictions, clusters)
    cases = [len(np.unique(groups[abnormal == of])) for of in (True, False)]
    drawn = resampled(abnormal, log_odds, groups, seed=seed, resamples=resamples, threshold=threshold)
    rows = []
    for name in SCORES:
        values = drawn[name][np.isfinite(drawn[name])]
        defined = found[name] is not None and len(values)
        low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if defined else (np.nan, np.nan)
        method = "bootstrap" if defined else "none"
        if defined and low == high and len(values) > 1:
            low, high, method = _at_the_end(name, found[name], *cases)
        rows.append((name, found[name], low, high, len(abnormal), len(np.unique(groups)), len(values), method))
    columns = ["score", "value", "low", "high", "n", "groups", "resamples", "method"]
    return pd.DataFrame(rows, columns=columns).astype({"value": float})


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


def _at_the_end(name: str, value: float, positive: int, negative: int) -> tuple[float, float, str]:
    """Interval and method for a score that is the same in all resamples; `positive` and `negative` count groups."""
    trials = {"sensitivity": positive, "specificity": negative, "accuracy": positive + negative}
    if name in trials and value in (0, 1):
        return *proportion_interval(value, trials[name]), "exact"
    if name == "auroc" and value in (0, 1):
        return *auroc_interval(value, positive, negative), "score"
    return np.nan, np.nan, "none"


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
