"""Crop a photograph for the network: the whole image, the round retina, or the region around the optic disc.

Several views are placed side by side in one picture, each resized to a square: a network of convolutions and global
pooling handles that like a single square.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.ndimage import find_objects, label

from glaucoma.base.params import views_of
from glaucoma.photos.discs import Disc, find_disc
from glaucoma.photos.images import decode, decode_for, to_pixels

__all__ = ["Box", "cropped", "decode_uncropped", "find_boxes", "load_cropped"]

# disc radii from the disc's centre to the box's sides; 1.5: Diaz-Pinto et al., BioMed Eng OnLine 18:29 (2019)
AROUND = {"disc": 1.5, "wide": 3.0}
DARK = 20  # maximum of the brightest channel in the camera's black border
SIDE = 256  # longer side, in pixels, of the copy that is searched for the border


@dataclass(frozen=True)
class Box:
    """A crop box in the photograph's pixels, after Exif orientation.

    Attributes:
        view: one of `params.VIEWS`.
        left, top, width, height: whole pixels, within the photograph.
        found: whether the disc or the retina was found; if not, the box is the whole photograph.
    """

    view: str
    left: int
    top: int
    width: int
    height: int
    found: bool

    @property
    def corners(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom."""
        return self.left, self.top, self.left + self.width, self.top + self.height


def find_boxes(image: Image.Image, crop: str) -> tuple[Box, ...]:
    """The boxes of `crop` in an RGB photograph; the whole photograph, with `found` False, where detection fails.

    A disc's box is a square, shifted to lie within the photograph and at most as long as its shorter side.
    """
    views = views_of(crop)
    disc = find_disc(image) if AROUND.keys() & set(views) else None
    return tuple(_box(image, view, disc) for view in views)


def _box(image: Image.Image, view: str, disc: Disc | None) -> Box:
    whole = Box(view, 0, 0, *image.size, found=view == "none")
    if view == "retina":
        return _retina(image) or whole
    if view not in AROUND or disc is None:
        return whole
    side = min(round(2 * AROUND[view] * disc.radius), *image.size)
    left, top = (
        int(np.clip(round(centre - side / 2), 0, length - side))
        for centre, length in zip((disc.x, disc.y), image.size, strict=True)
    )
    return Box(view, left, top, side, side, found=True)


def load_cropped(
    source: Path | bytes, size: int, *, max_megapixels: float, crop: str
) -> tuple[np.ndarray, tuple[Box, ...]]:
    """Decode a photograph and crop it for the network, in training and prediction alike.

    Returns:
        uint8, (size, views · size, 3), 0–255, RGB; and a box per view, none if `crop` is none.

    Raises:
        Unreadable: with the reason.
    """
    return cropped(decode_uncropped(source, size, max_megapixels=max_megapixels, crop=crop), size, crop)


def decode_uncropped(source: Path | bytes, size: int, *, max_megapixels: float, crop: str) -> Image.Image:
    """Decode a photograph at the resolution that `cropped` needs: in full if a part will be cropped.

    Raises:
        Unreadable: with the reason.
    """
    if crop == "none":
        return decode_for(source, size, max_megapixels=max_megapixels)
    return decode(source, max_megapixels=max_megapixels)


def cropped(image: Image.Image, size: int, crop: str) -> tuple[np.ndarray, tuple[Box, ...]]:
    """Crop an image from `decode_uncropped`, resize each view to a square and join them; see `load_cropped`."""
    if crop == "none":
        return to_pixels(image, size), ()
    boxes = find_boxes(image, crop)
    return np.concatenate([to_pixels(image.crop(box.corners), size) for box in boxes], axis=1), boxes


def _retina(image: Image.Image) -> Box | None:
    """The bounding box of the largest lit region; None if it is less than a tenth of the photograph."""
    scale = max(1.0, max(image.size) / SIDE)
    size = [max(1, round(side / scale)) for side in image.size]
    lit = np.asarray(image.resize(size, Image.Resampling.BOX)).max(axis=2) > DARK
    regions, count = label(lit)
    if not count:
        return None
    areas = np.bincount(regions.ravel())[1:]
    if areas.max() < 0.1 * lit.size:
        return None
    rows, columns = find_objects(regions)[int(areas.argmax())]
    across, down = image.width / size[0], image.height / size[1]
    left, right = int(columns.start * across), min(image.width, int(np.ceil(columns.stop * across)))
    top, bottom = int(rows.start * down), min(image.height, int(np.ceil(rows.stop * down)))
    return Box("retina", left, top, right - left, bottom - top, found=True)
