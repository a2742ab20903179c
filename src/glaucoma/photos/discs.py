"""Locate the optic disc: the bright circle with the steepest edge all around.

Vessels are removed by morphological closing. A circular Hough transform then weights each edge by strength and
direction (Aquino, Gegúndez-Arias & Marín, IEEE Trans. Med. Imaging 29, 2010). The inside must be brighter than the ring
around it (template of Lowell et al., ibid. 23, 2004).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter, grey_closing
from scipy.signal import fftconvolve

__all__ = ["Disc", "find_disc"]

SIDE = 128  # longer side, in pixels, of the copy that is searched
RADII = tuple(np.geomspace(5, 48, 20).round(1).tolist())  # pixels of that copy: 0.04–0.37 of the longer side
WEIGHTS = np.array([0.4, 0.6, 0.0], np.float32)  # red shows the disc's edge, green its brightness; blue is noise
LEAST = 1.6  # least geometric mean of edge and contrast of a disc, in standard deviations of the picture


@dataclass(frozen=True)
class Disc:
    """A circle in the picture's pixels, x to the right, y down, and its score (`LEAST` or more)."""

    x: float
    y: float
    radius: float
    score: float


def find_disc(image: Image.Image) -> Disc | None:
    """Find the optic disc in an RGB photograph; None if nothing looks like one."""
    scale = SIDE / max(image.size)
    size = [max(8, round(side * scale)) for side in image.size]
    pixels = np.asarray(image.resize(size, Image.Resampling.BOX), np.float32)
    inside = gaussian_filter((pixels.max(axis=2) > 12).astype(np.float32), 1.5)
    seen = inside > 0.95  # excludes the camera's dark border, whose edge is steep
    if seen.mean() < 0.2:
        return None
    grey = gaussian_filter(grey_closing(pixels @ WEIGHTS, (7, 7)), 1.0)
    grey = (grey - grey[seen].mean()) / max(float(grey[seen].std()), 4.0)
    best = max(_best(grey, seen, radius) for radius in RADII)
    score, y, x, radius = best
    if score < LEAST:
        return None
    return Disc((x + 0.5) / size[0] * image.width, (y + 0.5) / size[1] * image.height, radius / scale, score)


def _best(grey: np.ndarray, seen: np.ndarray, radius: float) -> tuple[float, int, int, float]:
    """The best circle of one radius: its score, row and column, and the radius."""
    across, down, disc, ring = _kernels(radius)
    gy, gx = np.gradient(grey)
    weight = seen.astype(np.float32)

    def mean(values: np.ndarray, kernel: np.ndarray, norm: np.ndarray) -> np.ndarray:
        return fftconvolve(values * weight, kernel, "same") / np.maximum(norm, 1e-3)

    on_disc, on_ring = (np.maximum(fftconvolve(weight, kernel, "same"), 0) for kernel in (disc, ring))
    contrast = mean(grey, disc, on_disc) - mean(grey, ring, on_ring)
    edge = -(fftconvolve(gx * weight, across, "same") + fftconvolve(gy * weight, down, "same")) * radius
    score = np.sqrt(np.maximum(edge, 0) * np.maximum(contrast, 0))
    score[(on_disc < 0.75) | (on_ring < 0.3) | ~seen] = 0
    row, column = np.unravel_index(int(score.argmax()), score.shape)
    return float(score[row, column]), int(row), int(column), radius


@cache
def _kernels(radius: float) -> tuple[np.ndarray, ...]:
    """Kernels: outward gradient along a circle (across, down), mean within it, and mean of the ring around it."""
    reach = int(np.ceil(1.5 * radius)) + 1
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1].astype(np.float32)
    away = np.hypot(x, y)
    edge = np.exp(-0.5 * ((away - radius) / (0.5 + 0.06 * radius)) ** 2)
    edge /= edge.sum()
    disc, ring = (away <= radius).astype(np.float32), ((away > 1.05 * radius) & (away <= 1.5 * radius)).astype("f4")
    # fftconvolve flips its kernel, which changes the sign of odd ones
    outward = [-edge * part / np.maximum(away, 1) for part in (x, y)]
    return *outward, disc / disc.sum(), ring / ring.sum()
