"""One photograph as a square tile of a figure."""

from __future__ import annotations

from pathlib import Path
from textwrap import wrap

from matplotlib.axes import Axes
from PIL import Image, ImageOps

from glaucoma.photos.images import Unreadable, decode
from glaucoma.report.style import DARK, PALE, plain_name

__all__ = ["TILE", "tile"]

TILE = 280  # pixels a side, about what a tile has on paper
REASON, ACROSS = 72, 20  # characters of why a file is unreadable, and of a line of it


def tile(axes: Axes, file: Path, max_megapixels: float, colour: str) -> None:
    """Show a photograph, fitted into a square without distortion, in a frame of a colour; or why it cannot be read."""
    try:
        photograph = decode(file, max_megapixels=max_megapixels, at_least=TILE)
        axes.imshow(ImageOps.pad(photograph, (TILE, TILE), Image.Resampling.LANCZOS, color="white"))
    except Unreadable as why:
        axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", facecolor=PALE)
        reason = "\n".join(["unreadable:", *wrap(plain_name(str(why), REASON), ACROSS)])
        text = axes.text(0.5, 0.5, reason, ha="center", va="center", fontsize=8, color=DARK, clip_on=True)
        text.set_in_layout(False)
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=colour, linewidth=2.2)
