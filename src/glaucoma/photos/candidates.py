"""Find pairs of photographs that may be duplicates, by hashing instead of comparing all pairs.

A thumbnail's hash is the signs of its structure's cosine transform (Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010), so exposure and uneven illumination do not matter. The hashes of its eight
mirrored and rotated versions follow from it. Parts of a thumbnail are hashed too, because a crop shows only a part.
Hashes that agree in a random subset of bits are compared in all bits (Indyk & Motwani, "Approximate nearest neighbors",
STOC 1998); the more images, the larger the subset, so the search stays nearly linear.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from glaucoma.photos.register import COARSE, SIDE, structure

__all__ = ["APART", "TURNS", "candidates", "parts"]

TURNS = [(mirrored, degrees) for mirrored in (False, True) for degrees in (0, 90, 180, 270)]
WAVES = 14  # half waves per side of the finest structure that is hashed
LOW, MIDDLE = (3, 10), (3, 14)  # half waves: of the bits drawn for lookup, and of all compared bits
TABLES = 64  # random subsets of bits
EXACT = 24  # largest integer that float32 represents exactly, in bits
MORE = 5  # bits drawn beyond those needed to separate all images
APART = 0.27  # share of differing bits from which photographs count as different
PARTS = {1.0: 1, 0.93: 2, 0.86: 3, 0.79: 4}  # share of a side that a crop may show: number of positions
LEAST = 0.6  # smallest share of a photograph that a crop shows
TOGETHER = 256  # images per lookup


def candidates(greys: np.ndarray, apart: float) -> pd.DataFrame:
    """Pairs of possible duplicates.

    Returns:
        A row per pair; columns `first`, `second` (positions in `greys`, in any order), `turn` (a position in `TURNS`:
        the second, mirrored and rotated, is a part of the first) and `part` (a position in `parts`).
    """
    usable = np.flatnonzero(greys.any(axis=(1, 2)))
    columns = ["first", "second", "turn", "part"]
    if len(usable) < 2:
        return pd.DataFrame(columns=columns)
    portions = np.array_split(usable, -(-len(usable) // TOGETHER))
    whole = np.concatenate([_waves(greys[some], parts()[:1])[:, 0] for some in portions])
    low, middle = _bits(np.stack([_turned(whole, *turn) for turn in TURNS]).reshape(-1, *whole.shape[1:]))
    tables = _Tables.of(low)
    found = []
    for some in portions:
        waves = _waves(greys[some], parts())
        near = _near(tables, middle, *_bits(waves.reshape(-1, *waves.shape[2:])), apart)
        place, part = np.divmod(near[0], waves.shape[1])
        turn, second = np.divmod(near[1], len(usable))
        found.append(np.stack([some[place], usable[second], turn, part, near[2]], axis=1))
    pairs = pd.DataFrame(np.concatenate(found), columns=[*columns, "apart"])
    pairs = pairs[pairs["first"] != pairs["second"]].sort_values(["apart", "part", "turn", "first"], kind="stable")
    ends = pd.DataFrame(np.sort(pairs[["first", "second"]], axis=1), index=pairs.index)
    return pairs[columns][~ends.duplicated()].sort_values(["first", "second"], ignore_index=True)


@cache
def parts() -> list[tuple[float, float, float, float]]:
    """Parts that a crop may show: top, left, height and width, as shares of the sides; the whole photograph first."""
    spans = [(start, share) for share, count in PARTS.items() for start in np.linspace(0, 1 - share, count).tolist()]
    return [(top, left, high, wide) for top, high in spans for left, wide in spans if high * wide >= LEAST]


def _waves(greys: np.ndarray, parts: list[tuple[float, float, float, float]]) -> np.ndarray:
    """The first cosine-transform coefficients of the parts' structure, float32 (n, parts, 15, 15), vertical first."""
    pictures = structure(greys, COARSE)
    spans = sorted({(top, high) for top, _, high, _ in parts} | {(left, wide) for _, left, _, wide in parts})
    basis = np.concatenate([_basis(*span) for span in spans])
    # Two large products are many times faster than two small ones per picture
    across = (pictures.reshape(-1, SIDE) @ basis.T).reshape(len(greys), SIDE, -1).swapaxes(0, 1)
    waves = (basis @ across.reshape(SIDE, -1)).reshape(len(spans), WAVES + 1, len(greys), len(spans), WAVES + 1)
    return np.stack(
        [waves[spans.index((top, high)), :, :, spans.index((left, wide))] for top, left, high, wide in parts]
    ).transpose(2, 0, 1, 3)


def _basis(start: float, share: float) -> np.ndarray:
    """Cosines over a part of a side, float32 (15, 64)."""
    places = ((np.arange(SIDE) + 0.5) / SIDE - start) / share
    within = (places >= 0) & (places < 1)
    return (np.cos(np.pi * np.arange(WAVES + 1)[:, None] * places) * within / share).astype(np.float32)


def _turned(waves: np.ndarray, mirrored: bool, degrees: int) -> np.ndarray:
    """The transform of the mirrored, then rotated picture: mirroring flips the sign of odd waves."""
    sign = (-1.0) ** np.arange(WAVES + 1)
    if mirrored:
        waves = waves * sign
    for _ in range(degrees // 90):  # rotation to the left: swap the axes, then flip vertically
        waves = waves.swapaxes(-1, -2) * sign[:, None]
    return waves


def _bits(waves: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Signs of the coefficients: the low ones, bool (n, bits), and all compared ones, packed, uint8 (n, bytes)."""
    length = np.hypot(*np.mgrid[: WAVES + 1, : WAVES + 1])
    low, middle = (waves[:, (length >= least) & (length < most)] > 0 for least, most in (LOW, MIDDLE))
    return low, np.packbits(middle, axis=1)


@dataclass(frozen=True)
class _Tables:
    """Hash tables: one per random subset (draw) of bits.

    Attributes:
        draws: float32 (bits, draws), powers of two at the drawn bits; multiplied by bits, an exact key per draw.
        keys: for each draw, the keys in order.
        starts: for each draw, the start of each key's entries in `rows`, and the end.
        rows: for each draw, the rows in the order of their keys.
    """

    draws: np.ndarray
    keys: list[np.ndarray]
    starts: list[np.ndarray]
    rows: list[np.ndarray]

    @classmethod
    def of(cls, low: np.ndarray) -> _Tables:
        random = np.random.default_rng(0)
        chosen = min(low.shape[1], EXACT, int(np.log2(len(low))) + MORE)
        draws = np.zeros((low.shape[1], TABLES), np.float32)
        for draw in draws.T:
            draw[random.choice(len(draw), chosen, replace=False)] = 2.0 ** np.arange(chosen)
        each = _keys(low, draws)
        orders = [np.argsort(keys, kind="stable").astype(np.int32) for keys in each]
        firsts = [np.unique(keys[order], return_index=True) for keys, order in zip(each, orders, strict=True)]
        starts = [np.append(start, len(low)).astype(np.int32) for _, start in firsts]
        return cls(draws, [keys for keys, _ in firsts], starts, orders)

    def agreeing(self, low: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each draw, pairs of a position in `low`, bool (n, bits), and a row with the same drawn bits."""
        for wanted, keys, starts, rows in zip(_keys(low, self.draws), self.keys, self.starts, self.rows, strict=True):
            place = np.searchsorted(keys, wanted).clip(max=len(keys) - 1)
            queries = np.flatnonzero(keys[place] == wanted)
            left, many = starts[place[queries]], np.diff(starts)[place[queries]]
            yield np.repeat(queries, many), rows[np.repeat(left - np.cumsum(many) + many, many) + np.arange(many.sum())]


def _keys(low: np.ndarray, draws: np.ndarray) -> np.ndarray:
    return draws.T @ np.ascontiguousarray(low.T, dtype=np.float32)


def _near(
    tables: _Tables, middle: np.ndarray, low: np.ndarray, queried: np.ndarray, apart: float
) -> tuple[np.ndarray, ...]:
    """Queries and rows that agree in all bits of a draw and in most bits overall, and the number of differing bits."""
    found = []
    limit = apart * 8 * middle.shape[1]
    for queries, rows in tables.agreeing(low):
        unlike = np.bitwise_count(queried[queries] ^ middle[rows]).sum(axis=1)
        keep = unlike < limit
        found.append((queries[keep], rows[keep], unlike[keep]))
    return tuple(np.concatenate(some).astype(np.int64) for some in zip(*found, strict=True))
