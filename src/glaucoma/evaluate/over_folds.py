"""Means of the folds' scores with intervals: the folds' standard deviation is no error, since they share images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from glaucoma.base.errors import DataError
from glaucoma.evaluate.intervals import LEVEL, RESAMPLES, arrays, draws, independent, intervals, weighted_scores
from glaucoma.evaluate.scores import SCORES, scores

__all__ = ["fold_intervals", "mean_differences", "resampled_means"]


def fold_intervals(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Each fold's scores and their means over the folds, with 95 % intervals.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and perhaps patient.
        seed: of the draws.
        resamples: how many.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score and statistic: score, statistic (`mean`, `fold 0` …), low, high; empty where not defined.
    """
    rows = []
    for fold, part in predictions.groupby("fold", sort=True):
        alone = intervals(part, seed=seed, resamples=resamples, clusters=clusters)
        rows.append(alone[["score", "low", "high"]].assign(statistic=f"fold {fold}"))
    for name, values in resampled_means(predictions, seed=seed, resamples=resamples, clusters=clusters).items():
        low, high = _bounds(values)
        rows.append(pd.DataFrame([{"score": name, "low": low, "high": high, "statistic": "mean"}]))
    return pd.concat(rows, ignore_index=True)[["score", "statistic", "low", "high"]]


def resampled_means(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """The mean over the folds of every score, in each bootstrap resample; a group is drawn in all folds or in none.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and perhaps patient.
        seed: the same seed, images and order give the same draws, so that two models' resamples are paired.
        resamples: how many.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        By score, float64 (resamples,); NaN where one of the folds does not define it.
    """
    folds, both = predictions["fold"].to_numpy(), arrays(predictions)
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    for weights in draws(independent(predictions, clusters), seed, resamples):
        rows = [folds == fold for fold in np.unique(folds)]
        parts = [weighted_scores(*(values[of] for values in both), weights[:, of]) for of in rows]
        for name in SCORES:
            drawn[name].append(np.mean([part[name] for part in parts], axis=0))
    return {name: np.concatenate(parts) for name, parts in drawn.items()}


def mean_differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Two models on the same images of the same folds: mean scores over the folds, and paired intervals of differences.

    Args:
        first: of one split; columns fold, image, label, log_odds and perhaps patient.
        second: the same, of the other model.
        seed: of the draws.
        resamples: how many.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score: score, first, second, difference (second - first), low, high (95 %; empty where not defined).

    Raises:
        DataError: the two do not predict the same images in the same folds.
    """
    tables = [table.sort_values(["fold", "image"], ignore_index=True) for table in (first, second)]
    keys = [table[["fold", "image", "label"]] for table in tables]
    if not keys[0].equals(keys[1]):
        raise DataError(
            "the two models do not predict the same images in the same folds", "compare models of one index"
        )
    if "patient" in tables[1]:
        tables[0] = tables[0].assign(patient=tables[1]["patient"])
    drawn = [resampled_means(table, seed=seed, resamples=resamples, clusters=clusters) for table in tables]
    means = [_means(table) for table in tables]
    rows = []
    for name in SCORES:
        one, two = (float(found[name]) for found in means)
        defined = one == one and two == two
        low, high = _bounds(drawn[1][name] - drawn[0][name]) if defined else (np.nan, np.nan)
        rows.append((name, one, two, two - one, low, high))
    return pd.DataFrame(rows, columns=["score", "first", "second", "difference", "low", "high"])


def _means(predictions: pd.DataFrame) -> pd.Series:
    """The mean of each score over the folds that define it."""
    parts = [arrays(part) for _, part in predictions.groupby("fold", sort=True)]
    found = [scores(abnormal, log_odds=log_odds) for abnormal, log_odds in parts]
    return pd.DataFrame(found)[list(SCORES)].astype(float).mean()


def _bounds(values: np.ndarray) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5; none where nothing is defined, or all resamples agree, which proves nothing."""
    values = values[np.isfinite(values)]
    low, high = np.quantile(values, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]) if len(values) else (np.nan, np.nan)
    return (float(low), float(high)) if low < high else (float("nan"), float("nan"))
