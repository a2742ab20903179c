"""Decode each distinct image once and measure everything that the index and the audit need from its pixels.

The index searches for copies and the audit for more, in two processes. The measurements are cached by content id, so no
image is decoded twice; the cache is safe to delete.
"""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import PIL
from PIL import Image

from glaucoma.base.files import atomic_path, hash_json
from glaucoma.base.index import distinct
from glaucoma.base.workers import in_threads
from glaucoma.photos.content import read_content
from glaucoma.photos.duplicates import DECODED, fingerprint, link, number
from glaucoma.photos.field import find_field
from glaucoma.photos.images import Unreadable, decode, quantisation
from glaucoma.photos.quality import Quality, quality_of

__all__ = ["THUMBNAIL", "Look", "clusters", "look_at"]

THUMBNAIL = 7  # pixels per side
VERSION = 4  # of the cache; raise it when a measure changes
# Luminance table of quality 50: ITU-T T.81 (1992), table K.1
LUMINANCE = np.array([
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
])  # fmt: skip
SCALES = [5000 // quality if quality < 50 else 200 - 2 * quality for quality in range(1, 101)]
SUMS = np.array([((LUMINANCE * scale + 50) // 100).clip(1, 255).sum() for scale in SCALES])


@dataclass(frozen=True)
class Look:
    """Measurements of one image's pixels and file.

    Attributes:
        print: its fingerprint, uint8 (64, 64).
        quality: measures of the photograph.
        thumbnail: uint8, (7, 7, 3), RGB; its mean is the image's mean colour.
        bytes: size of the file.
        jpeg: estimated JPEG quality, 1–100; NaN for other formats.
    """

    print: np.ndarray
    quality: Quality
    thumbnail: np.ndarray
    bytes: int
    jpeg: float


def look_at(
    index: pd.DataFrame, root: Path, title: str, *, max_megapixels: float, kept: Path | None = None
) -> dict[str, Look | str]:
    """Measure every distinct image of an index, in the order of content ids.

    Args:
        index: with at least `path` and `image` (content id).
        root: folder that paths are relative to.
        title: of the progress bar.
        max_megapixels: larger images count as unreadable.
        kept: cache file, read and rewritten; None: no cache.

    Returns:
        By content id, the measurements, or one sentence on why the image cannot be read.

    Raises:
        DataError: an image is gone or has changed since it was indexed.
    """
    images = distinct(index)
    key = hash_json([VERSION, max_megapixels, DECODED, PIL.__version__])
    known = _load(kept, key) if kept else {}

    def look(row: tuple[str, str]) -> Look | str:
        path, image = row
        try:
            content = read_content(root, path, image)  # read even if cached, to check that it is unchanged
            return known[image] if image in known else _look(content, max_megapixels)
        except Unreadable as reason:
            return str(reason)

    rows = list(zip(images["path"], images["image"], strict=True))
    found = dict(zip(images["image"], in_threads(look, rows, title), strict=True))
    seen = {image: one for image, one in found.items() if isinstance(one, Look)}
    if kept and seen.keys() != known.keys():
        _keep(kept, key, seen)
    return found


def clusters(looks: Mapping[str, Look | str]) -> tuple[dict[str, int], pd.DataFrame]:
    """The cluster of each image, by content id (equal numbers mean the same photograph), and the links between copies.

    An unreadable image is a cluster of its own. Links are those of `link`, with content ids as `first` and `second`.
    """
    prints = {image: one.print for image, one in looks.items() if isinstance(one, Look)}
    readable, links = list(prints), link(list(prints.values()))
    images = readable + [image for image, one in looks.items() if isinstance(one, str)]
    numbers = dict(zip(images, map(int, number(links, len(images))), strict=True))
    names = {end: [readable[place] for place in links[end]] for end in ("first", "second")}
    return numbers, links.assign(**names)


def _look(content: bytes, max_megapixels: float) -> Look:
    # Even at an eighth of its size, a JPEG is read to its end
    image = decode(content, max_megapixels=max_megapixels, at_least=DECODED)
    thumbnail = np.asarray(image.resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BOX))
    field = find_field(image)
    return Look(fingerprint(image, field), quality_of(image, field), thumbnail, len(content), _jpeg_quality(content))


def _jpeg_quality(content: bytes) -> float:
    """The JPEG quality whose scaled standard table has the nearest sum; NaN for other formats."""
    table = quantisation(content)
    return float("nan") if table is None else float(1 + np.abs(SUMS - sum(table)).argmin())


def _keep(file: Path, key: str, looks: Mapping[str, Look]) -> None:
    arrays = {
        "key": np.array(key),
        "images": np.array(list(looks)),
        "print": np.stack([one.print for one in looks.values()]),
        "thumbnail": np.stack([one.thumbnail for one in looks.values()]),
        "numbers": np.array([(*astuple(one.quality), one.bytes, one.jpeg) for one in looks.values()]),
    } if looks else {"key": np.array(key), "images": np.array([], dtype=str)}  # fmt: skip
    with atomic_path(file) as temporary:
        np.savez(temporary, **arrays)


def _load(file: Path, key: str) -> dict[str, Look]:
    """Cached measurements; empty if there are none or they were made with other settings."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            arrays = dict(archive)
        if str(arrays["key"]) != key:
            return {}
        return {
            str(image): Look(
                arrays["print"][i],
                Quality(*map(float, numbers[:-2])),
                arrays["thumbnail"][i],
                int(numbers[-2]),
                float(numbers[-1]),
            )
            for i, (image, numbers) in enumerate(zip(arrays["images"], arrays.get("numbers", []), strict=True))
        }
    except (OSError, ValueError, KeyError, IndexError, EOFError, zipfile.BadZipFile):
        return {}
