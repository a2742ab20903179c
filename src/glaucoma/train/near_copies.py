"""Find unlisted copies: photographs closer to one in another split than expected by chance.

Permuted labels cannot detect them, because each copy gets its own label. In the frozen backbone's feature space, a copy
is much closer than the surrounding photographs are to each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import digamma
from sklearn.metrics import pairwise_distances_chunked

from glaucoma.evaluate.intervals import independent

__all__ = ["NearCopies", "near_copies"]

NEAR, FAR = 5, 20  # the neighbours by which the space around a photograph is measured
LEVEL = 0.1  # share of the pairs told that may be none, and how likely any is told where there is none
MEGABYTES = 100  # of distances at a time
COLUMNS = ["first", "second", "ratio", "p", "folds"]


@dataclass(frozen=True)
class NearCopies:
    """The result of the search for unlisted copies.

    Attributes:
        pairs: most similar first: first, second (content ids), ratio (distance of the two divided by that of the first
            to its fifth neighbour), p (of a ratio this low), folds (number of folds with only one of the two in train).
        images: number of photographs examined.
        dimension: of the feature space around them; None if there are too few.
        alarm_below: the ratio below which a pair is reported; None likewise.
    """

    pairs: pd.DataFrame
    images: int
    dimension: float | None
    alarm_below: float | None


def near_copies(
    features: np.ndarray, table: pd.DataFrame, folds: list[int], clusters: Mapping[str, str] | None = None
) -> NearCopies:
    """Find photographs with an unlisted copy in another split.

    Where photographs lie around each other with no copies among them, the ratio of the distances to the nearest and to
    the m-th neighbour follows from the dimension alone: its d-th power is the least of m - 1 uniform numbers (Facco et
    al., Sci Rep 7:12140, 2017, for m = 2). The dimension is that of neighbours 5 and 20, which a few copies leave as
    they are. By these chances as many pairs are told as keep the share of false ones low (Benjamini & Hochberg, J R
    Stat Soc B 57:289, 1995). Neighbours of the same patient or photograph, as far as known, do not count. Takes n²
    distances.

    Args:
        features: float (images, features), of the frozen backbone; standardised here.
        table: columns fold, split, image, row (in the features) and optionally patient.
        folds: the folds to use.
        clusters: the photograph of each image that has listed copies, by content id.
    """
    images = table.drop_duplicates("image").sort_values("image", ignore_index=True)
    groups, count = independent(images, clusters), len(images)
    nothing = NearCopies(pd.DataFrame(columns=COLUMNS), count, None, None)
    if count - np.bincount(groups).max(initial=0) < FAR:
        return nothing
    values = features[images["row"].to_numpy()].astype(np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)

    def nearest(distances: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        distances[groups[start : start + len(distances), None] == groups] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :FAR]
        return order, np.take_along_axis(distances, order, axis=1)

    parts = pairwise_distances_chunked(values, reduce_func=nearest, working_memory=MEGABYTES)
    found = [np.concatenate(part) for part in zip(*parts, strict=True)]
    neighbour, distance = found[0][:, 0], found[1]
    near = distance[:, NEAR - 1]
    growth = float(np.log(distance[near > 0, FAR - 1] / near[near > 0]).mean()) if (near > 0).any() else 0.0
    if growth < 1e-6:  # all distances are equal: the dimension is undefined
        return nothing
    dimension = (digamma(FAR) - digamma(NEAR)) / growth
    ratio = np.divide(distance[:, 0], near, out=np.ones(count), where=near > 0)
    p = -np.expm1((NEAR - 1) * np.log1p(-np.minimum(ratio**dimension, 1 - 1e-16)))
    below = np.flatnonzero(np.sort(p) <= LEVEL * np.arange(1, count + 1) / count)
    least = LEVEL * (below.max(initial=0) + 1) / count
    limit = float((-np.expm1(np.log1p(-least) / (NEAR - 1))) ** (1 / dimension))

    split = table[table["fold"].isin(folds)].pivot_table(index="image", columns="fold", values="split", aggfunc="first")
    trained = split.reindex(images["image"]).eq("train").to_numpy()
    parted = (trained != trained[neighbour]).sum(axis=1)
    names = images["image"].to_numpy()
    pairs = pd.DataFrame(
        {"first": names, "second": names[neighbour], "ratio": ratio, "p": p, "folds": parted}, columns=COLUMNS
    )
    pairs = pairs[(p <= least) & (parted > 0)].sort_values(["ratio", "first"])
    once = pd.DataFrame(np.sort(pairs[["first", "second"]].astype(str), axis=1), index=pairs.index).duplicated()
    return NearCopies(pairs[~once].reset_index(drop=True), count, float(dimension), limit)
