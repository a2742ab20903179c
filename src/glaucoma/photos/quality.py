"""How good one photograph is: measured on its pixels, and what is wrong with it in plain words.

The limits of exposure, colour, contrast and sharpness are set so that none of ACRIMA's photographs is flagged.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_laplace

__all__ = ["BLANK", "BLURRED", "DARK", "OVER_EXPOSED", "RED", "Quality", "complaints", "quality_of"]

SIDE = 256  # pixels that an image is squashed to, so that measures do not depend on its size
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GRAIN = 2.0  # pixels that the Laplacian is smoothed by; below, rounding to grey levels outweighs a blurred picture
BLACK = 16  # grey levels; below is the camera's border
WHITE = 250  # grey levels of 255; above, green is saturated and shows no structure
BRIGHTEST = 99  # per cent of the pixels that are no brighter than `highlight`

BLANK = 0.02  # contrast below which an image shows nothing; 0.025 at least in ACRIMA
OVER_EXPOSED = 0.30  # share of pixels that are saturated; 0.07 at most in ACRIMA
DARK = 0.2  # highlight; 0.315 at least in ACRIMA
RED = 0.38  # share of red; a grey picture has 0.333, ACRIMA's photographs 0.432 at least
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
        highlight: grey level that one pixel in a hundred exceeds, 0–1: how bright what is brightest is, whatever the
            black border around it.
        red: share of red in the light of all pixels but the border's, 0–1: blood makes a retina red; 1/3 is grey.
    """

    brightness: float
    contrast: float
    over_exposed: float
    sharpness: float
    border: float
    highlight: float
    red: float


def quality_of(image: Image.Image) -> Quality:
    """Measure a decoded photograph (RGB, at least about 256 pixels a side where it has them)."""
    small = image.resize((SIDE, SIDE), Image.Resampling.BOX)
    pixels = np.asarray(small)
    grey = (pixels @ LUMA).astype(np.float32) / 255
    variance = float(grey.var())
    channels = [np.ascontiguousarray(pixels[..., i]) for i in range(3)]  # a reduction over colours takes longer
    black = np.logical_and.reduce([channel < BLACK for channel in channels])
    red, green, blue = (int(channel.sum(where=~black)) for channel in channels)
    return Quality(
        brightness=float(grey.mean()),
        contrast=float(np.sqrt(variance)),
        over_exposed=float((channels[1] > WHITE).mean()),
        sharpness=float(gaussian_laplace(grey, GRAIN).var()) / variance if variance else 0.0,
        border=float(black.mean()),
        highlight=float(np.percentile(grey, BRIGHTEST)),
        red=red / (red + green + blue) if red + green + blue else 1 / 3,
    )


def complaints(quality: Quality, width: int, height: int, needed: int) -> dict[str, str]:
    """What is wrong with a photograph: a sentence for each complaint.

    They are `tiny`, `blank` (which leaves out the rest), `dark`, `no_fundus`, `over_exposed` and `blurred`.

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
    if quality.highlight < DARK:
        found["dark"] = f"its brightest parts reach {quality.highlight:.0%} of white: too dark to tell anything from"
    if quality.red < RED:
        found["no_fundus"] = f"{quality.red:.0%} of its light is red, as in no colour photograph of a retina"
    if quality.over_exposed > OVER_EXPOSED:
        found["over_exposed"] = f"{quality.over_exposed:.0%} of its pixels are saturated"
    if quality.sharpness < BLURRED:
        found["blurred"] = f"sharpness {quality.sharpness:.1e}, under {BLURRED:.0e}: vessels cannot be seen"
    return found
