"""Measure the quality of a photograph and describe its defects.

All measures but the border use only the camera's field (`field.Field`), so that the black frame does not count. The
limits are set so that no retina is flagged wrongly, whether a disc crop or whole: figures in brackets are measured on
ACRIMA's 705 disc crops and 387 whole retinas of EyePACS, many of them pale, greenish or dim.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_gradient_magnitude, gaussian_laplace, minimum_filter

from glaucoma.photos.field import Field, brightest, find_field

__all__ = ["BLANK", "BLURRED", "DARK", "OVER_EXPOSED", "Quality", "complaints", "quality_of"]

SIDE = 128  # side in pixels that the inside is resized to, so that measures do not depend on its size
LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
GRAIN = 1.0  # smoothing of derivatives in pixels; with less, rounding to grey levels outweighs a blurred picture
BLACK = 16  # grey level; darker pixels are unlit or belong to the camera's border
WHITE = 250  # grey level of 255; above, green is saturated and shows no structure
BRIGHTEST = 99  # percentile of `highlight`
SHADE = 0.03  # width of one shade, as a share of the highlight
RIM = 3  # pixels at the field's edge that are ignored
WARM = 0.9, 0.97  # shares of green and of blue that red reaches in red to yellow or hazy light
TONED = 0.25  # share of the bright parts' light; below, noise decides the hue

BORDER = 0.02  # share of black from which there is a frame
BLANK = 0.012  # contrast below which an image shows nothing (0.022 at least)
OVER_EXPOSED = 0.30  # share of pixels that are saturated
DARK = 0.2  # highlight (0.31 at least in ACRIMA; 0.13 in one very dim whole retina, 0.22 in the next)
BLURRED = 4e-04  # sharpness (6.6e-04 at least; blurred by a fortieth of their width, half have less)
GREY = 0.024  # colour below which an image is grey (0.031 at least in dark images, else 0.043)
COLD = 0.2  # warmth below which an image is no retina (0.31 at least)
PLAIN = 0.45  # share of one shade in drawings and masks (0.24 at most)
HARD = 0.155  # edges of drawings, lettering and everyday photographs (0.12 at most)
ODD_HARD, ODD_WARMTH = 0.12, 0.95  # limits for edges and warmth that rule out a retina only together
ROUGH = 0.2  # sharpness of noise (0.052 at most; 0.15 in small rendered retinas)
MANY_HUES = 0.17  # of maps in false colours (0.14 at most)


@dataclass(frozen=True)
class Quality:
    """Measures of one photograph, inside its field.

    Attributes:
        brightness: mean grey level, 0–1.
        contrast: standard deviation of the grey levels, 0–0.5.
        over_exposed: share of pixels with saturated green (the channel that shows the retina best), 0–1.
        sharpness: variance of the Laplacian (Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy",
            ICPR 2000) over the variance of the grey levels, at 128 × 128 pixels; 0 if the picture is constant.
        border: share of all pixels, including the frame, that are black in all channels, 0–1.
        highlight: 99th percentile of the grey levels, 0–1.
        colour: 90th percentile of the difference of red and blue, 0–1.
        warmth: share of the lit pixels whose red about reaches their green and blue, 0–1: blood makes a retina red to
            yellow, haze removes colour, but nothing turns the whole retina green or blue.
        plain: share of the field's pixels that have its commonest shade, 0–1.
        edges: 99th percentile of the gradient, as a share of the highlight per pixel, 0–1.
        hues: how much the colour varies: standard deviation of the channels' shares of the light, 0–0.9.
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
    hues: float


def quality_of(image: Image.Image, field: Field | None = None) -> Quality:
    """Measure a decoded photograph.

    Args:
        image: RGB, at least about 256 pixels per side if available.
        field: its field, if known already.
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
        hues=_hues(pixels),
    )


def complaints(quality: Quality, width: int, height: int, needed: int) -> dict[str, str]:
    """A sentence for each defect of a photograph.

    The defects are `tiny`, `blank` (which skips the rest), `dark`, `no_fundus`, `over_exposed` and `blurred`.

    Args:
        quality: from `quality_of`.
        width: of the file, pixels.
        height: the same.
        needed: the network's input size, pixels per side.
    """
    found = {}
    if min(width, height) < needed:
        found["tiny"] = f"{width} × {height} pixels, enlarged to {needed} a side, which adds no detail"
    why = _no_fundus(quality)
    framed = BORDER < quality.border < 1 - BORDER  # a mask is as uniform as a blank picture
    if quality.contrast < BLANK and not (why and framed):
        found["blank"] = f"grey levels vary by {quality.contrast:.1%} only: it shows nothing"
        return found
    if quality.highlight < DARK:
        found["dark"] = f"its brightest parts reach {quality.highlight:.0%} of white: too dark to judge"
    elif why:
        found["no_fundus"] = why
    if quality.over_exposed > OVER_EXPOSED:
        found["over_exposed"] = f"{quality.over_exposed:.0%} of its pixels are saturated"
    if quality.sharpness < BLURRED:
        found["blurred"] = f"sharpness {quality.sharpness:.1e}, under {BLURRED:.0e}: vessels cannot be seen"
    return found


def _no_fundus(quality: Quality) -> str:
    """Why this is no colour photograph of a retina, as a clause; empty if there is no sign."""
    if quality.colour < GREY:
        return f"it is grey (its colours differ by {quality.colour:.1%}), as no colour photograph of a retina is"
    if quality.warmth < COLD:
        return f"{quality.warmth:.0%} of it is red to yellow, as in no photograph of a retina"
    if quality.plain > PLAIN:
        return f"{quality.plain:.0%} of it has a single colour, as in drawings and masks"
    if quality.edges > HARD:
        return "its edges are as hard as in drawings, text and everyday photographs, but not in a retina"
    if quality.sharpness > ROUGH:
        return "neighbouring pixels differ as in noise, but not in a retina"
    if quality.hues > MANY_HUES:
        return "its colours vary as in maps in false colours, but not in a retina"
    if quality.edges > ODD_HARD and quality.warmth < ODD_WARMTH:
        return f"its edges are hard, and {quality.warmth:.0%} of it is red to yellow, as in no photograph of a retina"
    return ""


def _hues(pixels: np.ndarray) -> float:
    """`Quality.hues` of the field's pixels, each a mean of 4 × 4."""
    coarse = pixels.reshape(SIDE // 4, 4, SIDE // 4, 4, 3).mean(axis=(1, 3))
    light = coarse.sum(axis=2) + 3 * BLACK / 2
    shares = (coarse / light[..., None])[light >= TONED * np.percentile(light, BRIGHTEST)]
    return float(np.sqrt(shares.var(axis=0).sum()))


def _plain(field: Field, shade: float) -> float:
    """The share of the commonest shade (`shade` grey levels wide) among the field's pixels, without its rim."""
    padded = np.pad(field.lit, RIM, constant_values=True)
    seen = minimum_filter(padded, 2 * RIM + 1)[RIM:-RIM, RIM:-RIM]
    pixels = field.pixels[seen if seen.any() else field.lit]
    shades = (np.arange(256) / shade).clip(0, 63).astype(np.int32)
    red, green, blue = (shades[pixels[:, i]] for i in range(3))
    return float(np.bincount(red + 64 * green + 64**2 * blue).max() / len(pixels))
