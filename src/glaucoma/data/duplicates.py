"""Photographs that are one: resized, recompressed, mirrored or turned copies, found without comparing all pairs.

Only what the camera saw counts: the square inside the field (`field.Field`), in a 64 × 64 thumbnail. Its hash are the
signs of its cosine transform (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010), of
structure only, so that exposure and uneven light do not count; the hashes of its eight mirrored and turned images
follow from it. Images that agree in all of some drawn bits are candidates (Indyk & Motwani, "Approximate nearest
neighbors", STOC 1998; the more images, the more bits, so that the search is linear). A candidate is verified: its
structure is registered and correlated (`register.registered`), and only from `SAME` on are two photographs one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from PIL import Image
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from glaucoma.data.field import Field, find_field
from glaucoma.data.register import COARSE, FINE, SIDE, registered, structure

__all__ = ["DECODED", "SAME", "fingerprint", "firm", "link", "number"]

DECODED = 256  # pixels that images are decoded to at least; larger ones are told apart no better
FLAT = 8.0  # grey levels; a thumbnail that spans less shows nothing that could be compared
SAME = 0.6  # correlation from which on two photographs are one
EQUAL = 0.95  # correlation from which on there is nothing to register
TURNS = [(mirrored, degrees) for mirrored in (False, True) for degrees in (0, 90, 180, 270)]

WAVES = 14  # half waves a side of the finest structure that is hashed
LOW, MIDDLE = (3, 10), (3, 14)  # half waves: of the bits that candidates agree in, and of all that are compared
TABLES = 64  # draws of bits
MORE = 2  # bits drawn beyond those that tell all images apart
APART = 0.3  # share of bits from which on hashes are of different photographs
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
    """Which photographs are one.

    Returns:
        Columns `first`, `second` (positions in `prints`, first < second), `mirrored` (bool) and `turned` (0, 90, 180
        or 270: the second, mirrored left to right and then turned by so many degrees to the left, is the first) and
        `correlation` (`SAME`–1); a row for each pair that was compared and is one, the most alike first.
    """
    greys = np.stack(prints) if len(prints) else np.zeros((0, SIDE, SIDE), np.uint8)
    best: dict[tuple[int, int], tuple[float, int]] = {}
    pairs = _candidates(greys)
    for start in range(0, len(pairs), TOGETHER):
        some = pairs[start : start + TOGETHER]
        for (first, second, turn), correlation in zip(some.tolist(), _verified(greys, some), strict=True):
            best[first, second] = max((correlation, turn), best.get((first, second), (0.0, 0)))
    rows = [
        (first, second, *TURNS[turn], round(correlation, 4))
        for (first, second), (correlation, turn) in sorted(best.items())
    ]
    compared = pd.DataFrame(rows, columns=["first", "second", "mirrored", "turned", "correlation"])
    compared = compared.sort_values("correlation", ascending=False, kind="stable", ignore_index=True)
    one = compared["correlation"] >= SAME
    return firm(compared[one].reset_index(drop=True), compared[~one], len(prints))


def number(links: pd.DataFrame, count: int) -> np.ndarray:
    """Number the clusters that pairs form, at any remove; int32, (count,), equal numbers, same cluster."""
    ends = links["first"].to_numpy(dtype=int), links["second"].to_numpy(dtype=int)
    graph = coo_array((np.ones(len(links), dtype=np.int8), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1]


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


def _candidates(greys: np.ndarray) -> np.ndarray:
    """Pairs that may be one, int (n, 3): first < second, and how the second is to be turned: a place in `TURNS`."""
    usable = np.flatnonzero(greys.any(axis=(1, 2)))
    if len(usable) < 2:
        return np.zeros((0, 3), int)
    parts = np.array_split(greys[usable], -(-len(usable) // TOGETHER))
    waves = np.concatenate([_waves(structure(part, COARSE)) for part in parts])
    turned = np.stack([_turned(waves, *turn) for turn in TURNS])
    length = np.hypot(*np.mgrid[: WAVES + 1, : WAVES + 1])
    low, middle = (turned[..., (length >= least) & (length < most)] > 0 for least, most in (LOW, MIDDLE))
    packed = np.packbits(middle, axis=-1)
    limit = APART * middle.shape[-1]
    found = [np.zeros(0, int)]
    for second, first in _agreeing(low):
        turn, second = np.divmod(second, len(usable))
        keep = first < second
        turn, first, second = turn[keep], first[keep], second[keep]
        near = np.bitwise_count(packed[0, first] ^ packed[turn, second]).sum(axis=1) < limit
        found.append(np.ravel_multi_index((first[near], second[near], turn[near]), (*[len(usable)] * 2, len(TURNS))))
    first, second, turn = np.unravel_index(np.unique(np.concatenate(found)), (*[len(usable)] * 2, len(TURNS)))
    return np.stack([usable[first], usable[second], turn], axis=1)


def _agreeing(bits: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Images, turned in some way, that agree in drawn bits with one as it is: places in turns × n, and in n.

    Args:
        bits: bool (turns, n, bits).
    """
    turns, count, width = bits.shape
    chosen = min(width, int(np.log2(turns * count)) + MORE)
    random = np.random.default_rng(0)
    for _ in range(TABLES):
        places = random.choice(width, chosen, replace=False)
        keys = (bits[..., places] @ (1 << np.arange(chosen))).ravel()
        order = np.argsort(keys, kind="stable")
        left, right = (np.searchsorted(keys[order], keys[:count], side) for side in ("left", "right"))
        many = right - left
        starts = np.repeat(left - np.cumsum(many) + many, many)
        yield order[starts + np.arange(many.sum())], np.repeat(np.arange(count), many)


def _waves(pictures: np.ndarray) -> np.ndarray:
    """The first coefficients of the cosine transform, float (n, 15, 15): rows down, columns to the right."""
    places = (np.arange(SIDE) + 0.5) / SIDE
    basis = np.cos(np.pi * np.arange(WAVES + 1)[:, None] * places).astype(np.float32)
    return basis @ pictures @ basis.T


def _turned(waves: np.ndarray, mirrored: bool, degrees: int) -> np.ndarray:
    """The transform of the mirrored and then turned picture: a mirror image's odd waves change their sign."""
    sign = (-1.0) ** np.arange(WAVES + 1)
    if mirrored:
        waves = waves * sign
    for _ in range(degrees // 90):  # a turn to the left swaps the axes, then up and down
        waves = waves.swapaxes(-1, -2) * sign[:, None]
    return waves


def _verified(greys: np.ndarray, pairs: np.ndarray) -> list[float]:
    """The correlation of candidates' registered fine structure."""
    images, places = np.unique(pairs[:, :2], return_inverse=True)
    coarse, fine = (structure(greys[images], scales) for scales in (COARSE, FINE))
    found = []
    for (first, second), turn in zip(places.reshape(-1, 2), pairs[:, 2], strict=True):
        mirrored, degrees = TURNS[turn]
        step = -1 if mirrored else 1
        pair = [(one[first], np.rot90(one[second][:, ::step], degrees // 90)) for one in (coarse, fine)]
        plain = float((pair[1][0] * pair[1][1]).sum())
        found.append(plain if plain >= EQUAL else registered(*pair))
    return found
