"""Recognise masks, outlines, overlays and segmentations among photographs, by name and by content."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from glaucoma.base.workers import in_threads
from glaucoma.photos.images import FORMATS

__all__ = ["MASKS", "VARIANTS", "is_mask_folder", "is_mask_name", "mask_looks"]

MASKS = re.compile(
    r"mask|segment|annotation|ground.?truth|^gts?$|contour|overlay|optic-(cup|disc)|artery|^vein|vessel|m[aá]scara",
    re.I,
)
VARIANTS = re.compile(
    r"_(cropped|square)$|^nerve.?removed", re.I
)  # second copies of the photographs, in some collections
NAME = re.compile(
    r"(?:^|[_\-. ])(?:masks?|seg|segs|segmented|segmentations?|overlays?|annotat(?:ed|ions?)|ground.?truth|gt|contours?"
    r"|m[aá]scaras?|segmentaci[oó]n)\d*(?:$|[_\-. (])",
    re.I,
)

UNPACKED = (".bmp", ".tif", ".tiff")  # usually uncompressed, so the file size is no hint
SMALL = 0.25  # of a large photograph's file size; larger files are not examined
PACKED = 0.04  # bytes per pixel; drawings take less, photographs of an eye rarely do
LARGEST = 100e6  # pixels; larger images are not decoded
SAMPLES = 256  # side of the examined copy, pixels
FLAT = 0.98  # share of a drawing's pixels in its few shades; JPEG blurs edges
SHADES, STEP = 4, 8  # most shades of a drawing, and the width of a shade in grey levels of 256
LEAST = 0.001  # share of its second shade; less is a blank picture
APART = 64  # levels between its shades, more than in the darkest photographs; fewer where all other shades are missing


def is_mask_folder(name: str) -> bool:
    """Whether a folder's name marks it as one of masks."""
    return bool(MASKS.search(name))


def is_mask_name(path: Path) -> bool:
    """Whether a file's name says that it is no photograph: `12_mask.png`."""
    return bool(NAME.search(path.stem))


def mask_looks(paths: Sequence[Path]) -> set[Path]:
    """The files that look like masks: two to four flat shades and almost nothing else.

    Only files with few bytes per pixel are decoded, so a folder of photographs is checked quickly.
    """
    sizes = np.array([_bytes(path) for path in paths])
    large = SMALL * np.quantile(sizes, 0.9) if len(paths) else 0
    small = [p for p, size in zip(paths, sizes, strict=True) if size < large or p.suffix.lower() in UNPACKED]
    if not small:
        return set()
    return {path for path, flat in zip(small, in_threads(_is_flat, small, "look for masks"), strict=True) if flat}


def _bytes(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _is_flat(path: Path) -> bool:
    try:
        with Image.open(path, formats=FORMATS) as image:
            width, height = image.size
            packed = path.suffix.lower() not in UNPACKED and image.mode not in ("1", "P")
            if width * height > LARGEST or (packed and _bytes(path) > PACKED * width * height):
                return False
            image.draft("RGB", (SAMPLES, SAMPLES))
            pixels = np.asarray(image.convert("RGB"))
    except Exception:  # the audit reports damaged files; a decoder may raise nearly anything
        return False
    step = [max(1, side // SAMPLES) for side in pixels.shape[:2]]
    seen = pixels[:: step[0], :: step[1]].reshape(-1, 3).astype(np.int32)
    shades, counts = np.unique((seen + STEP // 2) // STEP, axis=0, return_counts=True)
    most = np.argsort(-counts)[:SHADES]
    if counts[most].sum() < FLAT * len(seen) or np.sort(counts)[::-1][:2][-1] < LEAST * len(seen):
        return False
    return bool(np.ptp(shades[most], axis=0).max() * STEP >= APART or 1 < len(np.unique(seen, axis=0)) <= SHADES)
