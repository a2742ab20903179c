"""Means of the folds' scores, with intervals: the estimand that headline, verdict and comparisons are of.

The folds' standard deviation is no error, since folds share images. Nor are predictions pooled: each fold has a model
of its own, and scores of different models cannot be ranked against each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from glaucoma.base.errors import DataError
from glaucoma.evaluate.intervals import (
    RESAMPLES,
    Weighted,
    arrays,
    cases_of,
    difference_bounds,
    draws,
    independent,
    intervals,
    rows_of,
)
from glaucoma.evaluate.scores import SCORES, scores

__all__ = ["differences", "fold_intervals", "mean_differences", "mean_intervals", "resampled_means"]


def mean_intervals(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The mean over the folds of every score, with its 95 % interval.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and perhaps patient.
        seed: of the draws.
        resamples: how many.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score, columns and methods as those of `glaucoma.evaluate.intervals.intervals`. `value` is the mean
        over the folds that define the score; `resamples` are those in which none of these folds lacks a class.
    """
    drawn = resampled_means(predictions, seed=seed, resamples=resamples, clusters=clusters)
    groups, folds = independent(predictions, clusters), predictions["fold"].to_numpy()
    return rows_of(_means(predictions), drawn, arrays(predictions)[0], groups, folds)


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
    how = {"seed": seed, "resamples": resamples, "clusters": clusters}
    rows = [intervals(part, **how).assign(statistic=f"fold {fold}") for fold, part in predictions.groupby("fold")]
    rows.append(mean_intervals(predictions, **how).assign(statistic="mean"))
    return pd.concat(rows, ignore_index=True)[["score", "statistic", "low", "high"]]


def resampled_means(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """The mean over the folds of every score, in each bootstrap resample; a group is drawn in all folds or in none.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and perhaps patient.
        seed: the same seed, images and order give the same draws.
        resamples: how many.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        By score, float64 (resamples,). Folds that do not define the score are left out; NaN where one of the others
        does not define it in the resample.
    """
    return _resampled(predictions, draws(independent(predictions, clusters), seed, resamples))


def mean_differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Two models on the same images of the same folds: `differences`.

    Raises:
        DataError: the two do not predict the same images in the same folds.
    """
    tables = [table.sort_values(["fold", "image"], ignore_index=True) for table in (first, second)]
    keys = [table[["fold", "image", "label"]] for table in tables]
    if not keys[0].equals(keys[1]):
        raise DataError(
            "the two models do not predict the same images in the same folds", "compare models of one index"
        )
    return differences(*tables, seed=seed, resamples=resamples, clusters=clusters)


def differences(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Two models on the same images, each in its folds: mean scores over them, and paired intervals of differences.

    Args:
        first: of one split; columns fold, image, label, log_odds and perhaps patient ("" where unknown).
        second: the same, of the other model; its folds need not be those of the first.
        seed: of the draws; a group is drawn in all folds of both, or in none.
        resamples: how many.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score: score, first, second, difference (second - first), low, high (95 %; empty where there is no
        interval: see `difference_bounds`), groups, resamples (in which both are defined).
    """
    both = pd.concat([first, second], ignore_index=True)
    if "patient" in both:
        both = both.fillna({"patient": ""})
    groups, split = independent(both, clusters), len(first)
    sides = (first, slice(None, split)), (second, slice(split, None))  # drawn twice alike: together they take memory
    drawn = [_resampled(table, (part[:, of] for part in draws(groups, seed, resamples))) for table, of in sides]
    means = [_means(table) for table in (first, second)]
    sides = (first, groups[:split], means[0]), (second, groups[split:], means[1])
    cases = [
        cases_of(arrays(table)[0], part, table["fold"].to_numpy(), mean["accuracy"]) for table, part, mean in sides
    ]
    weaker = replace(cases[0], each=min(c.each for c in cases), wrong=min(c.wrong for c in cases))
    rows = []
    for name in SCORES:
        one, two = (float(found[name]) for found in means)
        apart = drawn[1][name] - drawn[0][name]
        low, high = difference_bounds(name, two - one, apart, weaker)
        rows.append((name, one, two, two - one, low, high, len(np.unique(groups)), int(np.isfinite(apart).sum())))
    columns = ["score", "first", "second", "difference", "low", "high", "groups", "resamples"]
    return pd.DataFrame(rows, columns=columns)


def _resampled(predictions: pd.DataFrame, weights: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The means over the folds under many weightings of the rows, as `resampled_means` returns them."""
    folds, both = predictions["fold"].to_numpy(), arrays(predictions)
    rows = [np.flatnonzero(folds == fold) for fold in np.unique(folds)]
    parts = [Weighted(*(values[of] for values in both)) for of in rows]
    whole = [part(np.ones((1, len(of)))) for part, of in zip(parts, rows, strict=True)]
    drawn: dict[str, list[np.ndarray]] = {name: [] for name in SCORES}
    for some in weights:
        found = [part(some[:, of]) for part, of in zip(parts, rows, strict=True)]
        for name in SCORES:
            defined = [one[name] for one, all_ in zip(found, whole, strict=True) if np.isfinite(all_[name][0])]
            drawn[name].append(np.mean(defined, axis=0) if defined else np.full(len(some), np.nan))
    return {name: np.concatenate(several) for name, several in drawn.items()}


def _means(predictions: pd.DataFrame) -> pd.Series:
    """The mean of each score over the folds that define it."""
    parts = [arrays(part) for _, part in predictions.groupby("fold", sort=True)]
    found = [scores(abnormal, log_odds=log_odds) for abnormal, log_odds in parts]
    return pd.DataFrame(found)[list(SCORES)].astype(float).mean()
