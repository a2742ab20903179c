"""Photographs that are one: resized, recompressed or mirrored copies, found without comparing all pairs.

Each image has a perceptual hash (256 signs of its cosine transform; Zauner, "Implementation and Benchmarking of
Perceptual Image Hash Functions", 2010) of itself and of its mirror image. Images that agree in one of the hash's 16
bands are candidates, which keeps the search near linear. Fundus photographs all look alike, so a candidate counts only
if its whole hash and its fine structure agree, the latter being the correlation of 32 × 32 thumbnails less their
blurred selves. Where the camera's round field is in sight, the square inside it is compared: its black border and its
rim are alike in all photographs of a camera, and would make two different eyes correlate.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import imagehash
import numpy as np
import pandas as pd
from PIL import Image
from scipy.ndimage import gaussian_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

__all__ = ["DECODED", "Fingerprint", "fingerprint", "link", "number"]

DECODED = 256  # pixels that images are decoded to at least; larger ones are told apart no better
SIDE = 16  # of the hash; SIDE² bits
GREY = 32  # pixels a side of the thumbnail
BLUR = 2.0  # of the thumbnail, pixels; what is coarser, all fundus photographs share
CORRELATION = 0.75  # from which on two photographs are one
DIFFERENT = 48  # bits of 256 from which on hashes are of different photographs; on ACRIMA copies have 46 at most
DARK = 20  # grey level of the brightest channel up to which a pixel belongs to the camera's black border
LIT = 0.1  # share of a row or column from which on it crosses the field
FLAT = 2.0  # grey levels; a thumbnail that varies less shows nothing that could be compared


@dataclass(frozen=True)
class Fingerprint:
    """What tells one photograph from another.

    Attributes:
        bits: uint8, (32,), the packed hash.
        mirrored: the same of the mirror image.
        grey: uint8, (32, 32), the thumbnail.
    """

    bits: np.ndarray
    mirrored: np.ndarray
    grey: np.ndarray


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of a decoded photograph of at least `DECODED` pixels a side, or of all it has."""
    grey = _inside(image).convert("L").resize((4 * SIDE, 4 * SIDE), Image.Resampling.BOX)
    bits, mirrored = (
        np.packbits(imagehash.phash(one, hash_size=SIDE).hash)
        for one in (grey, grey.transpose(Image.Transpose.FLIP_LEFT_RIGHT))
    )
    return Fingerprint(bits, mirrored, np.asarray(grey.resize((GREY, GREY), Image.Resampling.BOX)))


def _inside(image: Image.Image) -> Image.Image:
    """The square within the camera's round field, or all of a photograph whose corners are not black."""
    lit = np.asarray(image.resize((GREY, GREY), Image.Resampling.BOX)).max(axis=2) > DARK
    if lit[[0, 0, -1, -1], [0, -1, 0, -1]].sum() > 1:
        return image
    across, down = np.flatnonzero(lit.mean(axis=0) > LIT), np.flatnonzero(lit.mean(axis=1) > LIT)
    if not len(across) or not len(down):
        return image
    cell = image.width / GREY, image.height / GREY
    left, right = across[0] * cell[0], (across[-1] + 1) * cell[0]
    top, bottom = down[0] * cell[1], (down[-1] + 1) * cell[1]
    half = max(right - left, bottom - top) / 2 / np.sqrt(2)  # a field that is cut off is as wide as it is high
    x, y = (left + right) / 2, (top + bottom) / 2
    wide, high = min(half, (right - left) / 2), min(half, (bottom - top) / 2)
    return image.crop((round(x - wide), round(y - high), round(x + wide), round(y + high)))


def link(prints: Sequence[Fingerprint]) -> pd.DataFrame:
    """Which photographs are one.

    Returns:
        Columns `first`, `second` (positions in `prints`, first < second), `mirrored` (bool) and `correlation`
        (`CORRELATION`–1), sorted. Of many copies of one photograph not each pair is named, but all hang together.
    """
    columns = ["first", "second", "mirrored", "correlation"]
    count = len(prints)
    if count < 2:
        return pd.DataFrame(columns=columns)
    greys = np.stack([one.grey for one in prints]).astype(np.float32)
    plain = greys.std(axis=(1, 2)) >= FLAT
    # Mirror images are entries of their own behind the images: an image that agrees with one is a mirrored copy
    fine = np.concatenate([_fine(greys), _fine(greys[:, :, ::-1])])
    bits = np.stack([one.bits for one in prints] + [one.mirrored for one in prints])
    found: dict[tuple[int, int, bool], float] = {}
    for members in _buckets(bits, np.concatenate([plain, plain])):
        for first, second, correlation in _alike(members, fine, bits, count):
            one, other = first % count, second % count
            key = (min(one, other), max(one, other), (first < count) != (second < count))
            if one != other:
                found[key] = max(correlation, found.get(key, 0.0))
    rows = [(*key, round(correlation, 4)) for key, correlation in sorted(found.items())]
    return pd.DataFrame(rows, columns=columns)


def number(links: pd.DataFrame, count: int) -> np.ndarray:
    """Number the clusters that pairs form, at any remove; int32, (count,), equal numbers, same cluster."""
    ends = links["first"].to_numpy(dtype=int), links["second"].to_numpy(dtype=int)
    graph = coo_array((np.ones(len(links), dtype=np.int8), ends), shape=(count, count))
    return connected_components(graph, directed=False)[1]


def _fine(greys: np.ndarray) -> np.ndarray:
    """Fine structure as unit vectors: float32, (n, GREY²), so that a product is a correlation."""
    flat = (greys - gaussian_filter(greys, (0, BLUR, BLUR))).reshape(len(greys), -1)
    flat -= flat.mean(axis=1, keepdims=True)
    return flat / np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)


def _buckets(bits: np.ndarray, usable: np.ndarray) -> Iterator[np.ndarray]:
    """Entries that agree in one of the hash's bands of 16 bits, in order."""
    rows = np.flatnonzero(usable)
    for band in np.ascontiguousarray(bits[rows]).view(np.uint16).T:
        order = np.argsort(band, kind="stable")
        edges = np.flatnonzero(np.diff(band[order])) + 1
        for members in np.split(rows[order], edges):
            if len(members) > 1:
                yield members


def _alike(members: np.ndarray, fine: np.ndarray, bits: np.ndarray, count: int) -> Iterator[tuple[int, int, float]]:
    """Pairs of one bucket that are one photograph: each new photograph in turn is compared with all of the bucket."""
    new = members < count  # two mirror images say what their originals do
    while new.any():
        one = members[new.argmax()]
        correlations = fine[members] @ fine[one]
        apart = np.unpackbits(bits[members] ^ bits[one], axis=1).sum(axis=1)
        same = (correlations >= CORRELATION) & (apart < DIFFERENT)
        same[members == one] = True
        new &= ~same
        yield from (
            (int(one), int(other), float(c)) for other, c in zip(members[same], correlations[same], strict=True)
        )
