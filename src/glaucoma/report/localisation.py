"""How much of an explanation's heat lies on the optic disc, where the disc's place is known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from PIL import Image

__all__ = ["disc_mask", "heat_share"]


def disc_mask(disc: Mapping[str, float], box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Which pixels of what the network sees belong to the disc.

    Args:
        disc: the sample's truth: `disc_x`, `disc_y` (centre), `disc_radius_x`, `disc_radius_y` (half axes along its own
            axes), all in pixels of the photograph, x to the right, y down; `disc_tilt` (degrees, clockwise).
        box: left, top, width, height of the part that the network sees, in the same pixels.
        size: pixels a side that this part is squashed to.

    Returns:
        bool (size, size).
    """
    left, top, width, height = box
    middle = (np.arange(size) + 0.5) / size
    x = (left + middle * width)[None, :] - disc["disc_x"]
    y = (top + middle * height)[:, None] - disc["disc_y"]
    tilt = np.radians(disc["disc_tilt"])
    along, across = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    return (along / disc["disc_radius_x"]) ** 2 + (across / disc["disc_radius_y"]) ** 2 <= 1


def heat_share(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share (0–1) of a heat map, float (h, w) ≥ 0, that lies within a mask, bool (size, size); NaN without heat.

    The map is enlarged to the mask's size as overlays show it, between the centres of its places.
    """
    fine = np.asarray(Image.fromarray(heat.astype("float32")).resize(mask.shape[::-1], Image.Resampling.BILINEAR))
    total = float(fine.sum(dtype="float64"))
    return float(fine[mask].sum(dtype="float64")) / total if total > 0 else float("nan")
