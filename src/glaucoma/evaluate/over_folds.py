"""Means over folds with intervals: the estimand of the headline, the verdict and the comparisons.

The standard deviation over folds is not a standard error, because folds share images. Predictions are not pooled: each
fold has its own model, and predictions of different models cannot be ranked together.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.metrics import roc_curve

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

__all__ = ["differences", "fold_intervals", "mean_differences", "mean_intervals", "mean_roc", "resampled_means"]

MOST = 400  # false alarm rates of a mean ROC curve; more are thinned out


def mean_intervals(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """The mean over the folds of every score, with its 95 % interval.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and optionally patient.
        seed: of the bootstrap.
        resamples: number of resamples.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score; columns and methods are those of `glaucoma.evaluate.intervals.intervals`. `value` is the mean
        over the folds where the score is defined; `resamples` counts those in which none of these folds lacks a class.
    """
    drawn = resampled_means(predictions, seed=seed, resamples=resamples, clusters=clusters)
    groups, folds = independent(predictions, clusters), predictions["fold"].to_numpy()
    return rows_of(_means(predictions), drawn, arrays(predictions)[0], groups, folds)


def fold_intervals(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Each fold's scores and their means over the folds, with 95 % intervals.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and optionally patient.
        seed: of the bootstrap.
        resamples: number of resamples.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per score and statistic: score, statistic (`mean`, `fold 0` …), low, high; empty where not defined.
    """
    how: dict[str, Any] = {"seed": seed, "resamples": resamples, "clusters": clusters}
    rows = [intervals(part, **how).assign(statistic=f"fold {fold}") for fold, part in predictions.groupby("fold")]
    rows.append(mean_intervals(predictions, **how).assign(statistic="mean"))
    return pd.concat(rows, ignore_index=True)[["score", "statistic", "low", "high"]]


def resampled_means(
    predictions: pd.DataFrame, *, seed: int, resamples: int = RESAMPLES, clusters: Mapping[str, str] | None = None
) -> dict[str, np.ndarray]:
    """The mean over the folds of every score in each bootstrap resample; a group is drawn in all folds or in none.

    Args:
        predictions: of one split; columns fold, image, label, log_odds and optionally patient.
        seed: the same seed, images and order give the same resamples.
        resamples: number of resamples.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        By score, float64 (resamples,). Folds where the score is undefined are left out; NaN if it is undefined for
        another fold in the resample.
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
    """`differences` of two models, after checking that they predict the same images in the same folds.

    Raises:
        DataError: they do not.
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
    """Compare two models on the same images: mean scores over each one's folds, paired intervals of the differences.

    Args:
        first: of one split; columns fold, image, label, log_odds and optionally patient ("" if unknown).
        second: the same for the other model; its folds may differ from the first's.
        seed: of the bootstrap; a group is drawn in all folds of both, or in none.
        resamples: number of resamples.
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
    runs = (first, groups[:split], means[0]), (second, groups[split:], means[1])
    cases = [cases_of(arrays(table)[0], part, table["fold"].to_numpy(), mean["accuracy"]) for table, part, mean in runs]
    both_of = replace(cases[0], each=min(c.each for c in cases), wrong=max(c.wrong for c in cases))
    rows = []
    for name in SCORES:
        one, two = (float(found[name]) for found in means)
        apart = drawn[1][name] - drawn[0][name]
        low, high = difference_bounds(name, two - one, apart, both_of)
        rows.append((name, one, two, two - one, low, high, len(np.unique(groups)), int(np.isfinite(apart).sum())))
    columns = ["score", "first", "second", "difference", "low", "high", "groups", "resamples"]
    return pd.DataFrame(rows, columns=columns)


def mean_roc(predictions: pd.DataFrame) -> pd.DataFrame:
    """The mean of the folds' ROC curves, by false alarm rate (vertical averaging: Fawcett, Pattern Recogn Lett 27:861).

    The area below it is the mean of the folds' AUROCs; folds that lack a class are left out.

    Args:
        predictions: of one split; columns fold, label, log_odds.

    Returns:
        Columns false_alarms (1 - specificity) and sensitivity, from 0 to 1, none falling; a step up has two rows. Empty
        where no fold has both classes.
    """
    curves = []
    for _, part in predictions.groupby("fold", sort=True):
        abnormal, log_odds = arrays(part)
        if abnormal.any() and not abnormal.all():
            curves.append(roc_curve(abnormal, log_odds, drop_intermediate=False)[:2])
    if not curves:
        return pd.DataFrame({"false_alarms": [], "sensitivity": []})
    rates = np.unique(np.concatenate([rate for rate, _ in curves]).round(12))
    if len(rates) > MOST:
        rates = rates[np.linspace(0, len(rates) - 1, MOST).round().astype(int)]
    ends = np.mean([_ends(rate.round(12), found, rates) for rate, found in curves], axis=0)  # (2, rates)
    table = pd.DataFrame({"false_alarms": rates.repeat(2), "sensitivity": ends.T.ravel()})
    return table.drop_duplicates(ignore_index=True)


def _ends(rate: np.ndarray, found: np.ndarray, at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where a ROC curve comes from and where it goes to at these false alarm rates."""
    own, first = np.unique(rate, return_index=True)
    low, high = found[first], found[np.append(first[1:], len(rate)) - 1]
    before = np.searchsorted(own, at, side="right") - 1
    after = np.minimum(before + 1, len(own) - 1)
    width = own[after] - own[before]
    share = np.divide(at - own[before], width, out=np.zeros(len(at)), where=width > 0)
    between = high[before] + share * (low[after] - high[before])
    on = own[before] == at
    return np.where(on, low[before], between), np.where(on, high[before], between)


def _resampled(predictions: pd.DataFrame, weights: Iterable[np.ndarray]) -> dict[str, np.ndarray]:
    """The result of `resampled_means` for given weightings of the rows."""
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
    """The mean of each score over the folds where it is defined."""
    parts = [arrays(part) for _, part in predictions.groupby("fold", sort=True)]
    found = [scores(abnormal, log_odds=log_odds) for abnormal, log_odds in parts]
    return pd.DataFrame(found)[list(SCORES)].astype(float).mean()
