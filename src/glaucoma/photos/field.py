"""The camera's field in a photograph: the lit region without the black frame, and the largest square within it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import distance_transform_cdt, label

__all__ = ["Field", "brightest", "find_field"]

SIDE = 128  # side in pixels of the squashed copy that is searched for the field
LIGHT = 0.1  # of the range from black to the bright parts; darker pixels belong to the frame
LEAST = 8  # grey levels above black that always count as lit; JPEG ringing stays below
BLACK = 40  # highest grey level of a black frame
BRIGHT = 90  # percentile that defines the bright parts
FIELD = 0.1  # least lit share of a photograph, row or column within the field
ALL = 0.94  # share of the field's box from which the square is the whole box


@dataclass(frozen=True)
class Field:
    """A camera's field.

    Attributes:
        pixels: uint8, (128, 128, 3): the photograph, squashed to a square.
        lit: bool, (128, 128): the field in the squashed photograph; all True if there is no black frame.
        inside: left, top, right and bottom, in pixels of the photograph, of the largest square within the field, whose
            bounding box counts as a square. It is the same in copies that were squashed, padded with black or cropped
            in the frame.
    """

    pixels: np.ndarray
    lit: np.ndarray
    inside: tuple[float, float, float, float]


def find_field(image: Image.Image) -> Field:
    """The field of an RGB photograph of any size."""
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX))
    lit = _lit(brightest(pixels))
    return Field(pixels, lit, _inside(lit, image.width, image.height))


def brightest(pixels: np.ndarray) -> np.ndarray:
    """The brightest channel of each pixel: uint8 (…, 3) → (…); faster than a reduction over the last axis."""
    return np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])


def _lit(small: np.ndarray) -> np.ndarray:
    """The largest lit region, with holes along rows and columns filled; everything if there is no such region."""
    black, bright = float(small.min()), float(np.percentile(small, BRIGHT))
    everything = np.ones(small.shape, bool)
    if black > BLACK:
        return everything
    regions, count = label(small > black + max(LEAST, LIGHT * (bright - black)))
    if not count:
        return everything
    field = regions == 1 + np.bincount(regions.ravel())[1:].argmax()
    # A dark macula or a shaded centre is part of the field: it has lit parts on all four sides
    for axis in (0, 1):
        before = np.logical_or.accumulate(field, axis=axis)
        after = np.flip(np.logical_or.accumulate(np.flip(field, axis), axis=axis), axis)
        everything &= before & after
    return everything if everything.mean() >= FIELD else np.ones(small.shape, bool)


def _inside(field: np.ndarray, width: int, height: int) -> tuple[float, float, float, float]:
    """The largest square within the field of a photograph of this size, as in `Field`."""
    rows, columns = (np.flatnonzero(field.mean(axis=axis) >= FIELD) for axis in (1, 0))
    if not len(rows) or not len(columns):
        return 0.0, 0.0, float(width), float(height)
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    box = Image.fromarray(field[top:bottom, left:right]).resize((SIDE, SIDE), Image.Resampling.NEAREST)
    depth = distance_transform_cdt(np.pad(np.asarray(box), 1), "chessboard")[1:-1, 1:-1]
    deepest = int(depth.max())
    y, x = (places.mean() + 0.5 for places in np.nonzero(depth >= deepest - 1))
    reach = deepest - 0.5
    if 2 * reach >= ALL * SIDE:
        y = x = reach = SIDE / 2
    across, down = (right - left) / SIDE, (bottom - top) / SIDE  # of the box's pixels, in the field's
    return (
        max(0.0, (left + (x - reach) * across) / SIDE * width),
        max(0.0, (top + (y - reach) * down) / SIDE * height),
        min(float(width), (left + (x + reach) * across) / SIDE * width),
        min(float(height), (top + (y + reach) * down) / SIDE * height),
    )
