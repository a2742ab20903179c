"""Where a model fails: its scores by person, source and image quality, its worst slice, and its worst errors."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.ndimage import laplace
from scipy.special import expit

from glaucoma.evaluate.intervals import independent, intervals
from glaucoma.evaluate.scores import ABNORMAL, NORMAL

__all__ = ["examples", "qualities", "slices", "subgroup_scores", "worst_errors"]

FEW = 4  # up to so many different values each is a group; more are cut into thirds
THIRDS = ("lowest third", "middle third", "highest third")
SMALLEST = 10  # independent groups that a slice, and what is left of it, have at least
PERMUTATIONS = 200, 2000  # at least and at most: as many as `WORK` allows
WORK = 4e9  # slices × units × permutations
SHOWN = ("sensitivity", "specificity", "auroc")


def qualities(pixels: np.ndarray) -> pd.DataFrame:
    """Two plain measures of image quality, of images that share one size.

    Args:
        pixels: uint8 (images, size, size, 3), may be memory-mapped.

    Returns:
        A row per image: brightness (mean grey level, 0–255), sharpness (variance of the Laplacian of the grey levels;
        Pech-Pacheco et al., ICPR 2000).
    """
    rows = []
    for image in pixels:
        grey = image.mean(axis=2)
        rows.append((float(grey.mean()), float(laplace(grey).var())))
    return pd.DataFrame(rows, columns=["brightness", "sharpness"])


def subgroup_scores(
    predictions: pd.DataFrame, by: list[str], *, seed: int, clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Scores of each group of images, with their 95 % intervals.

    Args:
        predictions: columns image, label, log_odds, perhaps patient, and those named in `by`.
        by: columns of text, each value a group, or of numbers, cut into thirds of the images where there are many.
        seed: of the bootstrap.
        clusters: as `intervals` takes them.

    Returns:
        A row per group: by, group, n, abnormal, then sensitivity, sensitivity_low, sensitivity_high, and the same of
        specificity and auroc; empty where not defined. A column that is the same for all images is left out.
    """
    rows = []
    for column in by:
        groups = _groups(predictions[column])
        if groups.nunique() < 2:
            continue
        for name in [g for g in (*THIRDS, *sorted(set(groups.dropna()) - set(THIRDS))) if (groups == g).any()]:
            part = predictions[groups == name]
            found = intervals(part, seed=seed, clusters=clusters).set_index("score")
            row = {"by": column, "group": name, "n": len(part), "abnormal": int((part["label"] == ABNORMAL).sum())}
            for score in SHOWN:
                row |= {score: found.at[score, "value"]}
                row |= {f"{score}_{end}": found.at[score, end] for end in ("low", "high")}
            rows.append(row)
    columns = [f"{score}{end}" for score in SHOWN for end in ("", "_low", "_high")]
    return pd.DataFrame(rows, columns=["by", "group", "n", "abnormal", *columns])


def slices(
    predictions: pd.DataFrame, by: list[str], *, seed: int, clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Where the model is worse than elsewhere, found among all groups and all pairs of groups of two columns.

    What is compared is the squared error of the probability, less the mean of the image's class, so that a slice is not
    bad for its share of abnormal images. p is corrected for looking at all slices: how often the largest of their
    statistics is as large when errors are dealt out anew within each class (max-T; Westfall & Young, Resampling-Based
    Multiple Testing, 1993). Patients and copies are dealt out as one.

    Args:
        predictions: as `subgroup_scores` takes them.
        by: the same.
        seed: of the permutations.
        clusters: as `intervals` takes them.

    Returns:
        A row per slice, the worst first: slice (`source = A`, `source = A, eye = OD`), n, abnormal, brier, brier_else
        (the rest's), z (statistic; above 0 is worse), p (corrected). No rows where there are no slices.
    """
    columns = ["slice", "n", "abnormal", "brier", "brier_else", "z", "p"]
    abnormal = (predictions["label"] == ABNORMAL).to_numpy()
    error = (expit(predictions["log_odds"].to_numpy(float)) - abnormal) ** 2
    unit = np.unique(independent(predictions, clusters), return_inverse=True)[1]
    found = _members({name: _groups(predictions[name]) for name in by})
    counts = {name: np.bincount(unit, inside) > 0 for name, inside in found.items()}
    found = {k: v for k, v in found.items() if min(counts[k].sum(), (~counts[k]).sum()) >= SMALLEST}
    if not found:
        return pd.DataFrame(columns=columns)
    per = np.bincount(unit)
    share = np.stack([np.bincount(unit, inside) for inside in found.values()]) / per  # (slices, units)
    of_unit, stratum = np.bincount(unit, error) / per, np.bincount(unit, abnormal) / per
    weights, left = share * per, np.zeros_like(of_unit)
    strata = [np.flatnonzero(np.round(stratum) == side) for side in (0, 1)]
    variance = np.zeros(len(found))
    for rows in (rows for rows in strata if len(rows) > 1):
        left[rows] = of_unit[rows] - of_unit[rows].mean()
        weights[:, rows] -= weights[:, rows].mean(axis=1, keepdims=True)
        variance += (weights[:, rows] ** 2).sum(axis=1) * left[rows].var(ddof=1)
    scale = np.sqrt(np.where(variance > 0, variance, np.inf))
    z = weights @ left / scale
    turns = int(np.clip(WORK / weights.size, *PERMUTATIONS))
    random, largest = np.random.default_rng(seed), np.empty(turns)
    for turn in range(turns):
        dealt = left.copy()
        for rows in strata:
            dealt[rows] = left[random.permutation(rows)]
        largest[turn] = (weights @ dealt / scale).max()
    rows = []
    for (name, inside), value in zip(found.items(), z, strict=True):
        p = (1 + int((largest >= value - 1e-12).sum())) / (1 + turns)
        means = float(error[inside].mean()), float(error[~inside].mean())
        rows.append((name, int(inside.sum()), int(abnormal[inside].sum()), *means, float(value), p))
    return pd.DataFrame(rows, columns=columns).sort_values(["z", "slice"], ascending=[False, True], ignore_index=True)


def _members(groups: Mapping[str, pd.Series]) -> dict[str, np.ndarray]:
    """By name, which rows belong to each group, and to each two groups of different columns."""
    alone = {
        name: [(f"{name} = {group}", (of == group).to_numpy()) for group in sorted(set(of.dropna()))]
        for name, of in groups.items()
        if of.nunique() > 1
    }
    found = {slice_: inside for parts in alone.values() for slice_, inside in parts if not inside.all()}
    for one, other in combinations(alone, 2):
        for first, inside in alone[one]:
            found |= {f"{first}, {second}": inside & also for second, also in alone[other]}
    return {name: inside for name, inside in found.items() if inside.any()}


def worst_errors(predictions: pd.DataFrame, most: int = 20) -> pd.DataFrame:
    """The abnormal images called normal most surely, then the normal ones called abnormal most surely.

    Args:
        predictions: columns label, predicted, log_odds, image and any others.
        most: of each kind.

    Returns:
        The rows of `predictions`, in that order, after columns error (`false negative`, `false positive`) and rank.
    """
    kinds = (("false negative", ABNORMAL, True), ("false positive", NORMAL, False))
    tables = []
    for error, label, ascending in kinds:
        wrong = predictions[(predictions["label"] == label) & (predictions["predicted"] != label)]
        wrong = wrong.sort_values(["log_odds", "image"], ascending=[ascending, True]).head(most)
        tables.append(wrong.assign(error=error, rank=range(1, len(wrong) + 1)))
    table = pd.concat(tables, ignore_index=True)
    return table[["error", "rank", *predictions.columns]]


def examples(predictions: pd.DataFrame) -> pd.DataFrame:
    """Three predictions of each class to look at first: the surest right, a typical right and the surest wrong one.

    Typical is the right one in the middle, by log-odds. Where nothing is wrong, the least sure right one stands in.

    Args:
        predictions: of one split; columns fold, image, label, predicted, probability, log_odds.

    Returns:
        Those columns after `example` (`surest right`, `typical right`, `surest wrong`, `least sure right`), abnormal
        images first; less than three rows of a class that has less.
    """
    tables = []
    for label, sign in ((ABNORMAL, 1), (NORMAL, -1)):
        rows = predictions[predictions["label"] == label]
        rows = rows.assign(sure=sign * rows["log_odds"]).sort_values(
            ["sure", "image", "fold"], ascending=[False, True, True]
        )
        right, wrong = (rows[(rows["predicted"] == label) == of] for of in (True, False))
        chosen = {"surest right": right.head(1), "typical right": right.iloc[len(right) // 2 :].head(1)}
        chosen |= {"surest wrong": wrong.tail(1)} if len(wrong) else {"least sure right": right.tail(1)}
        tables += [one.assign(example=name) for name, one in chosen.items()]
    columns = ["fold", "image", "label", "predicted", "probability", "log_odds"]
    found = pd.concat(tables).drop_duplicates(["fold", "image"])
    return found[["example", *columns]].reset_index(drop=True)


def _groups(values: pd.Series) -> pd.Series:
    """The name of each row's group."""
    if not pd.api.types.is_numeric_dtype(values):
        return values.mask(values == "")
    if values.nunique() <= FEW:
        return values.map(lambda value: f"{value:g}", na_action="ignore")
    ranks = values.rank(method="average", pct=True)
    return pd.cut(ranks, [0, 1 / 3, 2 / 3, 1], labels=list(THIRDS)).astype(object)
