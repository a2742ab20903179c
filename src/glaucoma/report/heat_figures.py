"""Heat maps beside their photographs, for people who predict."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.patches import Rectangle

from glaucoma.base.progress import track
from glaucoma.photos.images import Unreadable
from glaucoma.predict.heat import COLOURS, OCCLUSION, OPAQUE, SAYS, HeatOf, heat_of_photograph, relative
from glaucoma.predict.inference import Classifier
from glaucoma.report.style import heading, new_figure, plain_name, save, styled

__all__ = ["explain_files", "heat_figure"]


def explain_files(
    models: Sequence[Classifier],
    method: str,
    explain: Sequence[HeatOf],
    files: Sequence[Path],
    rows: Sequence[int],
    folder: Path,
) -> list[Path]:
    """Write an overlay of each of these rows of `files`, one at a time, named by its row so that no two are one.

    Args:
        models: loaded classifiers.
        method: what explains them all, as `heats` gives it.
        explain: what explains each of them.
        files: of photographs.
        rows: which of them; what can no longer be read is left out.
        folder: to write into.

    Returns:
        The pictures written.
    """
    written = []
    for row in track(rows, "explain", len(rows), "image"):
        try:
            path = folder / f"{row + 1:04d}-{_plain(files[row].stem)}.png"
            written.append(_overlay(models, method, explain, files[row], path))
        except Unreadable:
            continue
    return written


def _overlay(models: Sequence[Classifier], method: str, explain: Sequence[HeatOf], file: Path, path: Path) -> Path:
    found = heat_of_photograph(models, explain, file)
    note = f"Probability of abnormal {found.probability:.3f}"
    note += f", mean of {len(models)} networks" if len(models) > 1 else ""
    note += ". For research, not a medical device."
    note += f"\n{SAYS[method]}." if method == OCCLUSION else ""
    title = f"{method[0].upper()}{method[1:]}: {plain_name(file.name, 36)}"
    heat_figure(found.photograph, found.heat, found.frames, title, note, path)
    return path


def _plain(stem: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)[:60]


@styled()
def heat_figure(
    photograph: np.ndarray, heat: np.ndarray, boxes: list[tuple[int, int, int, int]], title: str, note: str, path: Path
) -> None:
    """Draw an overlay.

    Args:
        photograph: uint8 (height, width, 3), RGB.
        heat: float (height, width), ≥ 0; drawn as shares of its highest value.
        boxes: left, top, width and height of what a network saw, where that is not all.
        title: the method and the file.
        note: what was predicted.
        path: the PNG to write.
    """
    height, width = photograph.shape[:2]
    share = relative(heat)
    side = 3.6
    figure = new_figure(2 * side * min(1.0, width / height) + 1.2, side * min(1.0, height / width) + 1.3)
    left, right = figure.subplots(1, 2)
    grey = photograph.mean(axis=2)
    for axes, what, under in ((left, "Photograph", photograph), (right, "Evidence for abnormal", grey)):
        axes.imshow(under, cmap="gray")
        axes.set_title(what)
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
    heading(figure, title, note)
    save(figure, path)
