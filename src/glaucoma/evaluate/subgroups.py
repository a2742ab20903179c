"""Where a model fails: its scores by source, size and image quality, and the images that it is most wrong about."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.ndimage import laplace

from glaucoma.evaluate.intervals import intervals
from glaucoma.evaluate.scores import ABNORMAL, NORMAL

__all__ = ["examples", "qualities", "subgroup_scores", "worst_errors"]

FEW = 4  # up to so many different values each is a group; more are cut into thirds
THIRDS = ("lowest third", "middle third", "highest third")
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
