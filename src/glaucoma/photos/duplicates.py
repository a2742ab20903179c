"""Find duplicate photographs: resized, recompressed, mirrored or rotated copies, and crops of one another.

Only the square inside the camera's field (`field.Field`) is compared, as a 64 × 64 thumbnail. Pairs with similar hashes
(`candidates`) are verified by registering and correlating their fine structure (`register.registered`).

Different retinas correlate like random pictures. For 387 whole retinas of EyePACS and 705 disc crops of ACRIMA, 8 000
random pairs, randomly rotated, had mean correlations of 0.12 and 0.17 (standard deviations 0.05) and at most 0.45; the
5 232 pairs with the nearest hashes 0.25 and 0.27 (0.06 and 0.07) and at most 0.46. Copies of them (resized,
recompressed at quality 35 to 95, changed in tone, cropped by up to 4 % per side, padded, squashed or rotated by up to
3°) had at least 0.66 in 98 of 100 and a median of 0.94 (benchmarks/copies.md). benchmarks/audit_tree.py measures the
same on rendered retinas. `SAME` is more than four standard deviations above the mean of the nearest.
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

DECODED = 256  # least side of decoded images, pixels; more does not help
FLAT = 8.0  # grey levels; a thumbnail with a smaller range has no structure to compare
SAME = 0.6  # correlation from which two photographs are duplicates
EQUAL = 0.95  # correlation from which registration is skipped

TOGETHER = 256  # pairs verified at a time


def fingerprint(image: Image.Image, field: Field | None = None) -> np.ndarray:
    """Thumbnail for finding duplicates: uint8 (64, 64), the green channel inside the field, stretched to 0–255.

    Args:
        image: RGB, at least `DECODED` pixels per side, or its full size if smaller.
        field: its field, if known already.

    Returns:
        The thumbnail; all 0 if the photograph is blank.
    """
    box = (field or find_field(image)).inside
    grey = np.asarray(image.getchannel("G").convert("F").resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=box))
    low, high = float(grey.min()), float(grey.max())
    if high - low < FLAT:
        return np.zeros(grey.shape, np.uint8)
    return np.rint((grey - low) * (255 / (high - low))).astype(np.uint8)


def link(prints: Sequence[np.ndarray]) -> pd.DataFrame:
    """Pairs of duplicates: those of `compared` with a correlation of at least `SAME`."""
    pairs = compared(prints)
    one = pairs["correlation"] >= SAME
    return firm(pairs[one].reset_index(drop=True), pairs[~one], len(prints))


def compared(prints: Sequence[np.ndarray], apart: float = APART) -> pd.DataFrame:
    """Pairs of possible duplicates and their correlation.

    Args:
        prints: from `fingerprint`.
        apart: share of differing hash bits from which pairs are not compared.

    Returns:
        Columns `first`, `second` (positions in `prints`, first < second), `mirrored` (bool) and `turned` (0, 90, 180
        or 270: the second, mirrored left to right and then rotated to the left by this many degrees, equals the first
        or one is a part of the other) and `correlation` (of their registered fine structure, -1 to 1), in descending
        order of correlation.
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
    """A row of `compared` from a candidate, with the rotation inverted if the second comes first."""
    mirrored, degrees = TURNS[turn]
    if first > second:
        first, second, degrees = second, first, degrees if mirrored else -degrees % 360
    return first, second, mirrored, degrees, round(correlation, 4)


def firm(links: pd.DataFrame, others: pd.DataFrame, count: int) -> pd.DataFrame:
    """Remove the weakest links from clusters that contain more rejected pairs than links; strongest links come first.

    This splits chains of merely similar photographs and keeps copies of one photograph together.
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
    """Number the connected components of the pairs: int32, (count,); equal numbers mean the same cluster."""
    ends = links["first"].to_numpy(dtype=int), links["second"].to_numpy(dtype=int)
    graph = coo_array((np.ones(len(links), dtype=np.int8), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _verified(greys: np.ndarray, pairs: pd.DataFrame) -> list[float]:
    """The correlations of candidates' registered fine structure."""
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
