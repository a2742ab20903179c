"""The picture that explains one prediction: the photograph, and beside it the evidence for abnormal."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle
from PIL import Image

from glaucoma.report.style import heading, new_figure, plain_name, save, styled

__all__ = ["heat_figure", "heat_overlay"]

COLOURS = "cividis"  # Nuñez et al., PLOS ONE 13:e0199239 (2018): the same order to every colour vision
OPAQUE = 0.6  # over the photograph in grey, so that every colour is the heat's


@styled()
def heat_figure(
    photograph: np.ndarray, heat: np.ndarray, boxes: list[tuple[int, int, int, int]], name: str, note: str, path: Path
) -> None:
    """Draw an overlay.

    Args:
        photograph: uint8 (height, width, 3), RGB.
        heat: float (height, width), ≥ 0; drawn as shares of its highest value.
        boxes: left, top, width and height of what a network saw, where that is not all.
        name: of the file.
        note: what was predicted.
        path: the PNG to write.
    """
    height, width = photograph.shape[:2]
    share = _shares(heat)
    side = 3.6
    figure = new_figure(2 * side * min(1.0, width / height) + 1.2, side * min(1.0, height / width) + 1.3)
    left, right = figure.subplots(1, 2)
    grey = photograph.mean(axis=2)
    for axes, title, under in ((left, "Photograph", photograph), (right, "Evidence for abnormal", grey)):
        axes.imshow(under, cmap="gray")
        axes.set_title(title)
        axes.set_axis_off()
        for x, y, wide, high in boxes:
            for style in ({"color": "black", "lw": 2.4}, {"color": "white", "lw": 1}):
                axes.add_patch(Rectangle((x - 0.5, y - 0.5), wide, high, fill=False, **style))
    drawn = right.imshow(share, cmap=colormaps[COLOURS], vmin=0, vmax=1, alpha=OPAQUE)
    bar = figure.colorbar(drawn, ax=(left, right), shrink=0.9, pad=0.02, format=lambda value, _: f"{value:.0%}")
    bar.set_label("share of the highest value")
    bar.outline.set_visible(False)
    if not share.any():
        note += "\nNo region speaks for abnormal."
    elif boxes:
        note += "\nThe frame is what the network saw."
    heading(figure, f"Grad-CAM: {plain_name(name, 36)}", note)
    save(figure, path)


def heat_overlay(photograph: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """The right half of `heat_figure` alone, without title and scale.

    Args:
        photograph: uint8 (height, width, 3), RGB.
        heat: float (h, w), ≥ 0, on a coarser grid; drawn as shares of its highest value.

    Returns:
        uint8 (height, width, 3).
    """
    coarse = Image.fromarray(_shares(heat).astype("float32"))
    share = np.asarray(coarse.resize(photograph.shape[1::-1], Image.Resampling.BILINEAR))
    grey = photograph.mean(axis=2, keepdims=True)
    return (OPAQUE * 255 * colormaps[COLOURS](share)[..., :3] + (1 - OPAQUE) * grey).round().astype(np.uint8)


def _shares(heat: np.ndarray) -> np.ndarray:
    highest = float(heat.max())
    return heat / highest if highest > 0 else np.zeros_like(heat)
