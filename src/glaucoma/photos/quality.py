"""How good one photograph is: measured on its pixels, and what is wrong with it in plain words.

All but the border is measured inside the camera's field (`field.Field`): the black frame is neither dark nor sharp. The
limits are set so that no photograph of a retina is flagged wrongly, of discs or of all of it: figures in brackets are
those of ACRIMA's 705 discs and of 387 whole retinas of EyePACS, many of them pale, greenish or dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace, minimum_filter

from glaucoma.photos.field import Field, brightest, find_field

__all__ = ["BLANK", "BLURRED", "DARK", "OVER_EXPOSED", "Quality", "complaints", "quality_of"]

SIDE = 128  # pixels that the inside is squashed to, so that measures do not depend on its size
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GRAIN = 1.0  # pixels that derivatives are smoothed by; below, rounding to grey levels outweighs a blurred picture
BLACK = 16  # grey levels; below there is no light, or the camera's border
WHITE = 250  # grey levels of 255; above, green is saturated and shows no structure
BRIGHTEST = 99  # per cent of the pixels that are no brighter than `highlight`
SHADE = 0.03  # of the highlight, that counts as one shade
RIM = 3  # pixels of the field at its edge that do not count
WARM = 0.9, 0.97  # of green and of blue, which red reaches where the light is red to yellow, or hazy

BORDER = 0.02  # share of black from which on there is a frame
BLANK = 0.012  # contrast below which an image shows nothing (0.022 at least)
OVER_EXPOSED = 0.30  # share of pixels that are saturated
DARK = 0.2  # highlight (0.31 at least in ACRIMA; 0.13 in one very dim whole retina, 0.22 in the next)
BLURRED = 4e-04  # sharpness (6.6e-04 at least; blurred by a fortieth of their width, half have less)
GREY = 0.024  # colour of what is as good as grey (0.031 at least, where all is dark; else 0.043)
COLD = 0.2  # warmth below which nothing is a retina (0.31 at least)
PLAIN = 0.45  # share of one shade, of drawings and masks (0.24 at most)
HARD = 0.155  # edges of drawings, lettering and everyday photographs (0.12 at most)
ODD_HARD, ODD_WARMTH = 0.12, 0.85  # edges and warmth that only together are no retina's


@dataclass(frozen=True)
class Quality:
    """Measures of one photograph, inside its field.

    Attributes:
        brightness: mean grey level, 0–1.
        contrast: standard deviation of the grey levels, 0–0.5.
        over_exposed: share of pixels whose green, which shows the retina best, is saturated, 0–1.
        sharpness: variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
            ICPR 2000) over that of the grey levels, at 128 × 128 pixels; 0 where nothing varies.
        border: share of all pixels, the frame's included, that are black in all colours, 0–1.
        highlight: grey level that one pixel in a hundred exceeds, 0–1: how bright what is brightest is.
        colour: by how much red and blue differ, 0–1, where they differ most; exceeded by one pixel in ten.
        warmth: share of the lit pixels whose red reaches about their green and blue, 0–1: blood makes a retina red to
            yellow, haze takes colour away, but nothing makes all of it green or blue.
        plain: share of the field's pixels that have its commonest shade, 0–1.
        edges: gradient that one pixel in a hundred exceeds, in shares of the highlight per pixel, 0–1.
    """

    brightness: float
    contrast: float
    over_exposed: float
    sharpness: float
    border: float
    highlight: float
    colour: float
    warmth: float
    plain: float
    edges: float


def quality_of(image: Image.Image, field: Field | None = None) -> Quality:
    """Measure a decoded photograph.

    Args:
        image: RGB, at least about 256 pixels a side where it has them.
        field: its field, where that is known already.
    """
    field = field or find_field(image)
    pixels = np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BILINEAR, box=field.inside))
    grey = (pixels @ LUMA).astype(np.float32) / 255
    variance, highlight = float(grey.var()), float(np.percentile(grey, BRIGHTEST))
    red, green, blue = (pixels[..., i].astype(np.int16) for i in range(3))
    light = brightest(pixels) >= BLACK
    warm = (red >= WARM[0] * green) & (red >= WARM[1] * blue)
    slopes = gaussian_gradient_magnitude(grey, GRAIN)
    return Quality(
        brightness=float(grey.mean()),
        contrast=float(np.sqrt(variance)),
        over_exposed=float((green > WHITE).mean()),
        sharpness=float(gaussian_laplace(grey, GRAIN).var()) / variance if variance else 0.0,
        border=float((brightest(field.pixels) < BLACK).mean()),
        highlight=highlight,
        colour=float(np.percentile(np.abs(red - blue)[light], 90)) / 255 if light.any() else 0.0,
        warmth=float(warm[light].mean()) if light.any() else 1.0,
        plain=_plain(field, max(1.0, 255 * SHADE * highlight)),
        edges=float(np.percentile(slopes, BRIGHTEST)) / (highlight + 0.08),
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
    why = _no_fundus(quality)
    framed = BORDER < quality.border < 1 - BORDER  # a mask is as even as a blank picture is
    if quality.contrast < BLANK and not (why and framed):
        found["blank"] = f"grey levels vary by {quality.contrast:.1%} only: it shows nothing"
        return found
    if quality.highlight < DARK:
        found["dark"] = f"its brightest parts reach {quality.highlight:.0%} of white: too dark to tell anything from"
    elif why:
        found["no_fundus"] = why
    if quality.over_exposed > OVER_EXPOSED:
        found["over_exposed"] = f"{quality.over_exposed:.0%} of its pixels are saturated"
    if quality.sharpness < BLURRED:
        found["blurred"] = f"sharpness {quality.sharpness:.1e}, under {BLURRED:.0e}: vessels cannot be seen"
    return found


def _no_fundus(quality: Quality) -> str:
    """Why this is no colour photograph of a retina, in half a sentence; empty where nothing tells."""
    if quality.colour < GREY:
        return f"it is grey (its colours differ by {quality.colour:.1%}), as no colour photograph of a retina is"
    if quality.warmth < COLD:
        return f"{quality.warmth:.0%} of it is red to yellow, as in no photograph of a retina"
    if quality.plain > PLAIN:
        return f"{quality.plain:.0%} of it has one and the same colour, as in drawings and masks"
    if quality.edges > HARD:
        return "its edges are as hard as those of drawings, text and everyday photographs, and no retina's"
    if quality.edges > ODD_HARD and quality.warmth < ODD_WARMTH:
        return f"its edges are hard, and {quality.warmth:.0%} of it is red to yellow, as in no photograph of a retina"
    return ""


def _plain(field: Field, shade: float) -> float:
    """The share of the commonest shade among the field's pixels but for its rim; a shade spans so many grey levels."""
    padded = np.pad(field.lit, RIM, constant_values=True)
    seen = minimum_filter(padded, 2 * RIM + 1)[RIM:-RIM, RIM:-RIM]
    pixels = field.pixels[seen if seen.any() else field.lit]
    shades = (np.arange(256) / shade).clip(0, 63).astype(np.int32)
    red, green, blue = (shades[pixels[:, i]] for i in range(3))
    return float(np.bincount(red + 64 * green + 64**2 * blue).max() / len(pixels))
