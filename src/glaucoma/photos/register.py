"""Register the fine structure of two pictures and correlate it, to decide whether they show the same.

Fine structure is a band of scales that shows the vessels, normalised by the local contrast, so that exposure, colour
and uneven illumination do not matter. One picture is registered to the other by an affine transform, found by inverse
compositional alignment (Baker & Matthews, "Lucas-Kanade 20 Years On", Int J Comput Vision 56:221, 2004), on coarse
structure first.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import affine_transform, gaussian_filter

__all__ = ["COARSE", "FINE", "SIDE", "registered", "structure"]

SIDE = 64  # side of a picture, pixels
FINE = (0.5, 2.0, 4.0)  # pixels: the band's scales, and the scale of the local contrast
COARSE = (1.0, 4.0, 7.0)
FLOOR = 0.3  # least local contrast, as a share of the whole picture's, so that noise is not amplified
MOST = 3.0  # contrasts; larger values, as of reflexes, are clipped
EDGE = SIDE // 20  # pixels ignored at the rim, where the filters lack data
REACH = SIDE // 8  # largest shift, in pixels, before alignment
STEPS = 8  # of alignment
OVERLAP = 0.5  # share of a picture that must lie within the other
# Coarse correlation after alignment below which fine structure is not compared: similar sharp rims, as in drawn discs,
# make fine structure correlate by up to 0.80 and coarse by 0.75; detected copies of real photographs had at least 0.87
# in 98 of 100
HOPELESS = 0.75


def structure(pictures: np.ndarray, scales: tuple[float, float, float]) -> np.ndarray:
    """The structure of pictures in a band of scales.

    Args:
        pictures: (n, side, side), any numbers.
        scales: the finest and the coarsest scale and the local neighbourhood, standard deviations in pixels.

    Returns:
        float32, (n, side, side), each with mean 0 and norm 1, so that a sum of products is a correlation; 0 if there is
        no structure.
    """
    fine, coarse, around = ((0, scale, scale) for scale in scales)
    band = pictures.astype(np.float32)
    band = gaussian_filter(band, fine) - gaussian_filter(band, coarse)
    local = np.sqrt(np.maximum(gaussian_filter(band * band, around), 0))
    whole = np.sqrt((band * band).mean(axis=(1, 2), keepdims=True))
    band = (band / (local + FLOOR * whole + 1e-6)).clip(-MOST, MOST)
    band -= band.mean(axis=(1, 2), keepdims=True)
    return band / np.maximum(np.sqrt((band * band).sum(axis=(1, 2), keepdims=True)), 1e-6)


def registered(
    coarse: tuple[np.ndarray, np.ndarray],
    fine: tuple[np.ndarray, np.ndarray],
    part: tuple[float, float, float, float] = (0.0, 0.0, 1.0, 1.0),
) -> float:
    """The correlation of two pictures' fine structure after registering the second to the first, -1 to 1.

    Args:
        coarse: both pictures' structure at `COARSE` scales, float32 (64, 64).
        fine: the same at `FINE` scales.
        part: of the second that the first may show: top, left, height and width, as shares of its sides.

    Returns:
        The correlation; 0 if they do not overlap enough or their coarse correlation is below `HOPELESS`.
    """
    top, left, high, wide = part
    matrix, shift = np.diag([high, wide]), np.array([top + high / 2 - 0.5, left + wide / 2 - 0.5]) * SIDE
    seen = affine_transform(coarse[1], matrix, _offset(matrix, shift), order=1)
    score, matrix, shift = _align(*coarse, matrix, shift + matrix @ _shift(coarse[0], seen))
    return _align(*fine, matrix, shift)[0] if score >= HOPELESS else 0.0


def _offset(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """SciPy's offset for a transform about the pictures' centres."""
    return shift + CENTRE - matrix @ [CENTRE, CENTRE]


def _shift(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """The shift of `other` that best matches `one`, in whole pixels: (down, right)."""
    match = np.fft.irfft2(np.conj(np.fft.rfft2(one)) * np.fft.rfft2(other), one.shape)
    moves = np.r_[0 : REACH + 1, -REACH:0]
    near = match[np.ix_(moves, moves)]
    return moves[list(np.unravel_index(near.argmax(), near.shape))].astype(float)


CENTRE = (SIDE - 1) / 2
DOWN, RIGHT = ((axis - CENTRE) / CENTRE for axis in np.mgrid[:SIDE, :SIDE].astype(np.float32))
COUNTS = np.zeros((SIDE, SIDE), bool)
COUNTS[EDGE:-EDGE, EDGE:-EDGE] = True


def _align(
    one: np.ndarray, other: np.ndarray, matrix: np.ndarray, shift: np.ndarray
) -> tuple[float, np.ndarray, np.ndarray]:
    """The best correlation while aligning `other` to `one`, and its transform from pixels of `one` to `other`."""
    down, right = np.gradient(one)
    slopes = np.stack([down * DOWN, down * RIGHT, down, right * DOWN, right * RIGHT, right])[:, COUNTS]
    inverse = np.linalg.pinv(slopes @ slopes.T) @ slopes
    best = (0.0, matrix, shift)
    fixed = one[COUNTS]
    for step in range(STEPS + 1):
        moved = affine_transform(other, matrix, _offset(matrix, shift), order=1, output=np.float32, cval=np.nan)[COUNTS]
        seen = ~np.isnan(moved)
        if seen.mean() < OVERLAP:
            break
        there, here = moved[seen], fixed[seen]
        there, here = there - there.mean(), here - here.mean()
        lengths = float(np.linalg.norm(there)), float(np.linalg.norm(here))
        if not min(lengths):
            break
        correlation = float(there @ here) / (lengths[0] * lengths[1])
        if correlation > best[0]:
            best = (correlation, matrix, shift)
        if step == STEPS:
            break
        residual = np.zeros(len(fixed), np.float32)
        residual[seen] = there * (lengths[1] / lengths[0]) - here
        a, b, y, c, d, x = inverse @ residual
        undo = np.linalg.inv(np.eye(2) + np.array([[a, b], [c, d]]) / CENTRE)
        matrix, shift = matrix @ undo, shift - matrix @ undo @ [y, x]
        if not 0.3 < np.linalg.det(matrix) < 2.5:
            break
    return best
