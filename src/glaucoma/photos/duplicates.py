"""Photographs that are one: resized, recompressed, mirrored or turned copies, and crops of one out of another.

Only what the camera saw counts: the square inside the field (`field.Field`), in a 64 × 64 thumbnail. Pairs whose hashes
are alike (`candidates`) are verified: their fine structure is registered and correlated (`register.registered`).

The correlation's meaning: of two different retinas it is that of two random pictures. Of 387 whole retinas of EyePACS
and of 705 disc crops of ACRIMA, 8 000 pairs drawn at random, turned at random, had 0.12 and 0.17 in the mean (standard
deviations 0.05) and 0.45 at most; 6 000 of those whose hashes lie nearest, 0.19 and 0.22 (0.07) and 0.45 at most.
Copies of them, resized, recompressed to a quality of 35 to 95, changed in tone, cropped by up to 4 % a side, padded,
squashed or turned by up to 3°, had 0.69 or more in 98 of 100 and 0.95 in the median. benchmarks/audit_tree.py measures
the same on rendered retinas. `SAME` is more than five standard deviations above different photographs' mean.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from glaucoma.photos.candidates import APART, TURNS, candidates, parts
from glaucoma.photos.field import Field, find_field
from glaucoma.photos.register import COARSE, FINE, SIDE, registered, structure

__all__ = ["DECODED", "SAME", "compared", "fingerprint", "firm", "link", "number"]

DECODED = 256  # pixels that images are decoded to at least; larger ones are told apart no better
FLAT = 8.0  # grey levels; a thumbnail that spans less shows nothing that could be compared
SAME = 0.6  # correlation from which on two photographs are one
EQUAL = 0.95  # correlation from which on there is nothing to register

TOGETHER = 256  # pairs that are verified at a time


def fingerprint(image: Image.Image, field: Field | None = None) -> np.ndarray:
    """What tells one photograph from another: uint8 (64, 64), the green light inside the field, 0–255 its own range.

    Args:
        image: RGB, of at least `DECODED` pixels a side, or of all it has.
        field: its field, where that is known already.

    Returns:
        All 0 where the photograph shows nothing.
    """
    box = (field or find_field(image)).inside
    grey = np.asarray(image.getchannel("G").convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    low, high = float(grey.min()), float(grey.max())
    if high - low < FLAT:
        return np.zeros(grey.shape, np.uint8)
    return np.rint((grey - low) * (255 / (high - low))).astype(np.uint8)


def link(prints: Sequence[np.ndarray]) -> pd.DataFrame:
    """Which photographs are one: of the pairs that `compared` gives, those that correlate by `SAME` at least."""
    pairs = compared(prints)
    one = pairs["correlation"] >= SAME
    return firm(pairs[one].reset_index(drop=True), pairs[~one], len(prints))


def compared(prints: Sequence[np.ndarray], apart: float = APART) -> pd.DataFrame:
    """Pairs that may be one, and how alike they are.

    Args:
        prints: as `fingerprint` gives them.
        apart: share of bits from which on hashes are of different photographs, which are not compared.

    Returns:
        Columns `first`, `second` (positions in `prints`, first < second), `mirrored` (bool) and `turned` (0, 90, 180
        or 270: the second, mirrored left to right and then turned by so many degrees to the left, is the first or a
        part of it, or the first a part of it) and `correlation` (of their registered fine structure, -1 to 1), the
        most alike first.
    """
    greys = np.stack(prints) if len(prints) else np.zeros((0, SIDE, SIDE), np.uint8)
    pairs = candidates(greys, apart)
    portions = [pairs.iloc[start : start + TOGETHER] for start in range(0, len(pairs), TOGETHER)]
    rows = [
        _row(*row, correlation)  # type: ignore[call-arg]  # of three cells
        for portion in portions
        for row, correlation in zip(portion.to_numpy()[:, :3].tolist(), _verified(greys, portion), strict=True)
    ]
    found = pd.DataFrame(rows, columns=["first", "second", "mirrored", "turned", "correlation"])
    return found.sort_values(["correlation", "first", "second"], ascending=[False, True, True], ignore_index=True)


def _row(first: int, second: int, turn: int, correlation: float) -> tuple[int, int, bool, int, float]:
    """A row of `compared` from a candidate: turned back where the second comes first."""
    mirrored, degrees = TURNS[turn]
    if first > second:
        first, second, degrees = second, first, degrees if mirrored else -degrees % 360
    return first, second, mirrored, degrees, round(correlation, 4)


def firm(links: pd.DataFrame, others: pd.DataFrame, count: int) -> pd.DataFrame:
    """Links, the strongest first, less the weakest of each cluster in which more pairs turned out not to be one.

    So chains of pairs that are just alike come apart, and copies of one photograph stay together.
    """
    while len(links):
        numbers = number(links, count)
        first, second = (numbers[others[end].to_numpy(dtype=int)] for end in ("first", "second"))
        cluster = numbers[links["first"].to_numpy(dtype=int)]
        within = np.bincount(first[first == second], minlength=count)
        loose = within[cluster] > np.bincount(cluster, minlength=count)[cluster]
        if not loose.any():
            break
        links = links.drop(pd.Series(links.index[loose]).groupby(cluster[loose]).last())
    return links.reset_index(drop=True)


def number(links: pd.DataFrame, count: int) -> np.ndarray:
    """Number the clusters that pairs form, at any remove; int32, (count,), equal numbers, same cluster."""
    ends = links["first"].to_numpy(dtype=int), links["second"].to_numpy(dtype=int)
    graph = coo_array((np.ones(len(links), dtype=np.int8), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _verified(greys: np.ndarray, pairs: pd.DataFrame) -> list[float]:
    """The correlation of candidates' registered fine structure."""
    images, places = np.unique(pairs[["first", "second"]], return_inverse=True)
    coarse, fine = (structure(greys[images], scales) for scales in (COARSE, FINE))
    found = []
    for (first, second), turn, part in zip(places.reshape(-1, 2), pairs["turn"], pairs["part"], strict=True):
        mirrored, degrees = TURNS[turn]
        step = -1 if mirrored else 1
        coarsely, finely = ((np.rot90(one[second][:, ::step], degrees // 90), one[first]) for one in (coarse, fine))
        plain = float((finely[0] * finely[1]).sum())
        found.append(plain if plain >= EQUAL else registered(coarsely, finely, parts()[part]))
    return found
