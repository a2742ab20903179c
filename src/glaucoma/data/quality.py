"""How good one photograph is: measured on its pixels, and what is wrong with it in plain words.

The limits of exposure, contrast and sharpness are set so that none of ACRIMA's photographs is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_laplace

__all__ = ["BLANK", "BLURRED", "OVER_EXPOSED", "Quality", "complaints", "quality_of"]

SIDE = 256  # pixels that an image is squashed to, so that measures do not depend on its size
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GRAIN = 2.0  # pixels that the Laplacian is smoothed by; below, rounding to grey levels outweighs a blurred picture
BLACK = 16  # grey levels; below is the camera's border
WHITE = 250  # grey levels of 255; above, green is saturated and shows no structure

BLANK = 0.02  # contrast below which an image shows nothing; 0.025 at least in ACRIMA
OVER_EXPOSED = 0.30  # share of pixels that are saturated; 0.07 at most in ACRIMA
BLURRED = 6e-05  # sharpness; ACRIMA's photographs have 6.8e-05 at least


@dataclass(frozen=True)
class Quality:
    """Measures of one photograph.

    Attributes:
        brightness: mean grey level, 0–1.
        contrast: standard deviation of the grey levels, 0–0.5.
        over_exposed: share of pixels whose green, which shows the retina best, is saturated, 0–1.
        sharpness: variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
            ICPR 2000) over that of the grey levels, at 256 × 256 pixels; 0 where nothing varies.
        border: share of pixels that are black in all colours, 0–1.
    """

    brightness: float
    contrast: float
    over_exposed: float
    sharpness: float
    border: float


def quality_of(image: Image.Image) -> Quality:
    """Measure a decoded photograph (RGB, at least about 256 pixels a side where it has them)."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small)
    grey = (pixels @ LUMA).astype(np.float32) / 255
    variance = float(grey.var())
    return Quality(
        brightness=float(grey.mean()),
        contrast=float(np.sqrt(variance)),
        over_exposed=float((pixels[..., 1] > WHITE).mean()),
        sharpness=float(gaussian_laplace(grey, GRAIN).var()) / variance if variance else 0.0,
        border=float((pixels.max(axis=2) < BLACK).mean()),
    )


def complaints(quality: Quality, width: int, height: int, needed: int) -> dict[str, str]:
    """What is wrong with a photograph: a sentence for each of `tiny`, `blank`, `over_exposed`, `blurred` that it is.

    Args:
        quality: as `quality_of` gives it.
        width: of the file, pixels.
        height: the same.
        needed: pixels a side that the network takes.
    """
    found = {}
    if min(width, height) < needed:
        found["tiny"] = f"{width} × {height} pixels, enlarged to {needed} a side: the network sees detail that is none"
    if quality.contrast < BLANK:
        found["blank"] = f"grey levels vary by {quality.contrast:.1%} only: it shows nothing"
        return found
    if quality.over_exposed > OVER_EXPOSED:
        found["over_exposed"] = f"{quality.over_exposed:.0%} of its pixels are saturated"
    if quality.sharpness < BLURRED:
        found["blurred"] = f"sharpness {quality.sharpness:.1e}, under {BLURRED:.0e}: vessels cannot be seen"
    return found
