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
from functools import cache

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
MORE = 5  # bits drawn beyond those that tell all images apart
APART = 0.27  # share of bits from which on hashes are of different photographs
PARTS = {1.0: 1, 0.93: 2, 0.86: 3, 0.79: 4}  # shares of a side that a crop may show, and at how many places
LEAST = 0.6  # share of a photograph that a crop shows at least
TOGETHER = 256  # images that are looked up, and pairs that are verified, at a time


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
    pairs = _candidates(greys)
    parts = [pairs.iloc[start : start + TOGETHER] for start in range(0, len(pairs), TOGETHER)]
    rows = [
        _row(*row, correlation)
        for part in parts
        for row, correlation in zip(part.to_numpy()[:, :3].tolist(), _verified(greys, part), strict=True)
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


def _row(first: int, second: int, turn: int, correlation: float) -> tuple[int, int, bool, int, float]:
    """A row of `link` from a candidate: turned back where the second comes first."""
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


def _candidates(greys: np.ndarray) -> pd.DataFrame:
    """Pairs that may be one.

    Returns:
        Columns `first`, `second` (places in `greys`, in any order), `turn` (a place in `TURNS`: the second, mirrored
        and turned, is a part of the first) and `part` (a place in `_parts`), a row for each pair.
    """
    usable = np.flatnonzero(greys.any(axis=(1, 2)))
    columns = ["first", "second", "turn", "part"]
    if len(usable) < 2:
        return pd.DataFrame(columns=columns)
    portions = np.array_split(usable, -(-len(usable) // TOGETHER))
    whole = np.concatenate([_waves(greys[some], _parts()[:1])[:, 0] for some in portions])
    low, middle = _bits(np.stack([_turned(whole, *turn) for turn in TURNS]).reshape(-1, *whole.shape[1:]))
    tables = list(_tables(low))
    found = []
    for some in portions:
        waves = _waves(greys[some], _parts())
        near = _near(tables, middle, *_bits(waves.reshape(-1, *waves.shape[2:])))
        place, part = np.divmod(near[0], waves.shape[1])
        turn, second = np.divmod(near[1], len(usable))
        found.append(np.stack([some[place], usable[second], turn, part, near[2]], axis=1))
    pairs = pd.DataFrame(np.concatenate(found), columns=[*columns, "apart"])
    pairs = pairs[pairs["first"] != pairs["second"]].sort_values(["apart", "part", "turn", "first"], kind="stable")
    ends = pd.DataFrame(np.sort(pairs[["first", "second"]], axis=1), index=pairs.index)
    return pairs[columns][~ends.duplicated()].sort_values(["first", "second"], ignore_index=True)


@cache
def _parts() -> list[tuple[float, float, float, float]]:
    """What a crop may show of a photograph: top, left, height and width, as shares of its sides; first all of it."""
    spans = [(start, share) for share, count in PARTS.items() for start in np.linspace(0, 1 - share, count).tolist()]
    return [(top, left, high, wide) for top, high in spans for left, wide in spans if high * wide >= LEAST]


def _waves(greys: np.ndarray, parts: list[tuple[float, float, float, float]]) -> np.ndarray:
    """The first coefficients of the cosine transform of parts' structure, float32 (n, parts, 15, 15): rows down."""
    pictures = structure(greys, COARSE)
    spans = sorted({(top, high) for top, _, high, _ in parts} | {(left, wide) for _, left, _, wide in parts})
    basis = np.concatenate([_basis(*span) for span in spans])
    waves = (basis @ pictures @ basis.T).reshape(len(greys), len(spans), WAVES + 1, len(spans), WAVES + 1)
    return np.stack(
        [waves[:, spans.index((top, high)), :, spans.index((left, wide))] for top, left, high, wide in parts], axis=1
    )


def _basis(start: float, share: float) -> np.ndarray:
    """Cosines over a part of a side, float32 (15, 64)."""
    places = ((np.arange(SIDE) + 0.5) / SIDE - start) / share
    within = (places >= 0) & (places < 1)
    return (np.cos(np.pi * np.arange(WAVES + 1)[:, None] * places) * within / share).astype(np.float32)


def _turned(waves: np.ndarray, mirrored: bool, degrees: int) -> np.ndarray:
    """The transform of the mirrored and then turned picture: a mirror image's odd waves change their sign."""
    sign = (-1.0) ** np.arange(WAVES + 1)
    if mirrored:
        waves = waves * sign
    for _ in range(degrees // 90):  # a turn to the left swaps the axes, then up and down
        waves = waves.swapaxes(-1, -2) * sign[:, None]
    return waves


def _bits(waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signs of coefficients: bool (n, low ones), and all that are compared, packed, uint8 (n, bytes)."""
    length = np.hypot(*np.mgrid[: WAVES + 1, : WAVES + 1])
    low, middle = (waves[:, (length >= least) & (length < most)] > 0 for least, most in (LOW, MIDDLE))
    return low, np.packbits(middle, axis=1)


Table = tuple[np.ndarray, np.ndarray, np.ndarray]


def _tables(low: np.ndarray) -> Iterator[Table]:
    """For each draw which bits it is of, the rows' keys of these bits in order, and the rows in this order."""
    random = np.random.default_rng(0)
    chosen = min(low.shape[1], 31, int(np.log2(len(low))) + MORE)
    for _ in range(TABLES):
        places = random.choice(low.shape[1], chosen, replace=False)
        keys = _keys(low, places)
        order = np.argsort(keys, kind="stable").astype(np.int32)
        yield places, keys[order], order


def _keys(low: np.ndarray, places: np.ndarray) -> np.ndarray:
    return low[:, places].astype(np.float32) @ (2.0 ** np.arange(len(places)))  # exact, and faster than integers


def _near(tables: list[Table], middle: np.ndarray, low: np.ndarray, queried: np.ndarray) -> tuple[np.ndarray, ...]:
    """Queries and rows of the tables that agree in all bits of a draw and in most of all bits; and in how many not."""
    found = []
    limit = APART * 8 * middle.shape[1]
    for places, keys, order in tables:
        wanted = _keys(low, places)
        left, right = np.searchsorted(keys, wanted, "left"), np.searchsorted(keys, wanted, "right")
        many = right - left
        queries = np.repeat(np.arange(len(low)), many)
        rows = order[np.repeat(left - np.cumsum(many) + many, many) + np.arange(many.sum())]
        apart = np.bitwise_count(queried[queries] ^ middle[rows]).sum(axis=1)
        keep = apart < limit
        found.append((queries[keep], rows[keep], apart[keep]))
    return tuple(np.concatenate(some).astype(np.int64) for some in zip(*found, strict=True))


def _verified(greys: np.ndarray, pairs: pd.DataFrame) -> list[float]:
    """The correlation of candidates' registered fine structure."""
    images, places = np.unique(pairs[["first", "second"]], return_inverse=True)
    coarse, fine = (structure(greys[images], scales) for scales in (COARSE, FINE))
    found = []
    for (first, second), turn, part in zip(places.reshape(-1, 2), pairs["turn"], pairs["part"], strict=True):
        mirrored, degrees = TURNS[turn]
        step = -1 if mirrored else 1
        pair = [(np.rot90(one[second][:, ::step], degrees // 90), one[first]) for one in (coarse, fine)]
        plain = float((pair[1][0] * pair[1][1]).sum())
        found.append(plain if plain >= EQUAL else registered(*pair, _parts()[part]))
    return found
