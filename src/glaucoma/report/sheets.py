"""Photographs on one sheet, with words: samples by class, split and source, crops, poor photographs, and copies.

Drawn from the contact sheets of `glaucoma.audit.exhibits`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from glaucoma.base.errors import many
from glaucoma.base.files import read_csv
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    PURPLE,
    heading,
    new_figure,
    plain_name,
    save,
    styled,
)

__all__ = ["crops_figure", "duplicates_figure", "groups_figure", "mosaic_figure", "offenders_figure", "read_sheet"]

LEAST, MOST = 6.0, 12.0  # inches that a sheet is wide
TEXT = dict.fromkeys(
    ("path", "image", "condition", "split", "group", "fault", "why", "first_path", "second_path", "unreadable"), str
)
NAME, PAIR_NAME = 24, 18  # characters below a tile, and after its class
REASON, LINE = 72, 20  # characters of why a file is unreadable, and of a line of it


def read_sheet(file: Path) -> pd.DataFrame:
    """The table of a contact sheet, with the `pixels` of each tile, uint8 (side, side, 3); empty if there is none.

    Args:
        file: path without suffix.
    """
    picture, table = (file.with_name(file.name + suffix) for suffix in (".png", ".csv"))
    if not table.is_file():
        return pd.DataFrame()
    rows = read_csv(table, dtype=TEXT)
    rows = rows.fillna(dict.fromkeys(TEXT.keys() & set(rows), ""))
    with Image.open(picture) as opened:
        sheet = np.asarray(opened)
    places = zip(rows["side"], rows["line"] * rows["side"], rows["column"] * rows["side"], strict=True)
    return rows.assign(pixels=[sheet[top : top + side, left : left + side] for side, top, left in places])


@styled()
def mosaic_figure(rows: pd.DataFrame, path: Path, note: str) -> None:
    """Draw a balanced sample of the photographs, each with condition, fold, split and shortened file name.

    Args:
        rows: of `read_sheet`, one at least.
        path: PNG to write.
        note: how many images the listed files are.
    """
    figure, tiles = _figure(rows, 2.45)
    for axes, row in tiles:
        colour = CONDITION_COLOURS[row.condition]
        _tile(axes, row, colour)
        axes.set_title(row.condition, color=colour, fontsize=9.5, fontweight="bold", pad=4)
        axes.set_title(f"Fold{row.fold}/{row.split}", loc="right", fontsize=8.5, pad=4)
        _name(axes, plain_name(PurePosixPath(row.path).name))
    heading(figure, "Photographs by condition", f"A random sample, balanced if there are enough images; {note}")
    save(figure, path)


@styled()
def groups_figure(rows: pd.DataFrame, path: Path, by: str, note: str) -> None:
    """Draw a row of photographs for each class in each split, or in each source.

    Args:
        rows: of `read_sheet`, one at least.
        path: PNG to write.
        by: `split` or `source`.
        note: of which images.
    """
    figure, tiles = _figure(rows, 1.5)
    for axes, row in tiles:
        colour = CONDITION_COLOURS[row.condition]
        if row.path:
            _tile(axes, row, colour)
        if row.column == 0:
            name = f"{plain_name(row.group or 'unknown')}, {row.condition}: {many(row.images, 'image')}"
            axes.set_title(name, color=colour, fontweight="bold", fontsize=9.5, pad=4)
    heading(
        figure, f"Photographs by class and {by}", f"Drawn at random, up to {rows['column'].max() + 1} of each; {note}"
    )
    save(figure, path)


@styled()
def crops_figure(rows: pd.DataFrame, path: Path, boxes: pd.DataFrame, sizes: pd.DataFrame, crop: str) -> None:
    """Draw the boxes that were cut out.

    Args:
        rows: of `read_sheet`, one at least.
        path: PNG to write.
        boxes: of all images, several of an image with several views; columns image, view, left, top, width, height
            (pixels, upright) and found.
        sizes: columns width and height (pixels) of every image, by content id.
        crop: what was looked for.
    """
    figure, tiles = _figure(rows, 2.35)
    for axes, row in tiles:
        _tile(axes, row, GREEN if row.found else ORANGE)
        width, height = sizes.loc[row.image].astype(float)
        scale = row.side / max(width, height)
        found = boxes[(boxes["image"] == row.image) & boxes["found"].astype(bool)]
        for box in found.itertuples():
            left = box.left * scale + (row.side - width * scale) / 2
            top = box.top * scale + (row.side - height * scale) / 2
            for style in ({"color": "black", "lw": 3}, {"color": "white", "lw": 1.4}):
                axes.add_patch(Rectangle((left, top), box.width * scale, box.height * scale, fill=False, **style))
        title = "\n".join(f"{box.width} × {box.height} px" for box in found.itertuples())
        if not row.found:
            title = f"{title}\nnot all found".strip() if title else "not found: whole image"
        axes.set_title(title, fontsize=9, pad=4, fontweight="normal" if row.found else "bold")
        _name(axes, plain_name(PurePosixPath(row.path).name))
    whole = boxes.groupby("image")["found"].all()
    note = f"Found in {int(whole.sum())} of {len(whole)} images; if a part is not found, the whole photograph is used"
    heading(figure, f"Crops of data.crop: {crop}", note)
    save(figure, path)


@styled()
def offenders_figure(rows: pd.DataFrame, path: Path) -> None:
    """Draw poor photographs with their names and faults.

    Args:
        rows: of `read_sheet`, one at least.
        path: PNG to write.
    """
    figure, tiles = _figure(rows, 2.45)
    for axes, row in tiles:
        _tile(axes, row, PURPLE)
        axes.set_title(row.fault, fontsize=9.5, fontweight="bold", pad=4)
        _name(axes, plain_name(PurePosixPath(row.path).name, NAME))
    counts = rows.groupby("fault")["images"].first()
    less = f"; {len(rows)} shown" if len(rows) < counts.sum() else ""
    heading(figure, "Poor photographs", ", ".join(f"{count} {fault}" for fault, count in counts.items()) + less)
    save(figure, path)


@styled()
def duplicates_figure(rows: pd.DataFrame, path: Path) -> None:
    """Draw pairs of files that show one photograph side by side.

    Args:
        rows: of `read_sheet`, two for each pair.
        path: PNG to write.
    """
    figure, tiles = _figure(rows, 2.45)
    labels = rows.groupby("pair")["condition"].nunique()
    for axes, row in tiles:
        _tile(axes, row, CONDITION_COLOURS[row.condition])
        _name(axes, f"{row.condition}: {plain_name(PurePosixPath(row.path).name, PAIR_NAME)}")
        if row.column % 2:
            axes.set_title(f"correlation {row.correlation:.3f}", loc="right", fontsize=8.5, pad=4)
            continue
        what = "mirrored" if row.mirrored else "copy"
        what += f", turned {row.turned}°" if row.turned else ""
        what += ", other label" if labels[row.pair] > 1 else ""
        axes.set_title(f"{row.pair + 1}: {what}", fontsize=9.5, fontweight="bold", pad=4)
    total = int(rows["pairs"].iat[0])
    less = f", the first {len(labels)} shown" if len(labels) < total else ""
    note = f"{many(total, 'pair')} of files with different bytes{less}; the copy may be resized or recompressed"
    heading(figure, "Files that show the same photograph", note)
    save(figure, path)


def _figure(rows: pd.DataFrame, high: float) -> tuple[Figure, Iterator[tuple[Axes, Any]]]:
    """A figure of a sheet's lines, each `high` inches, and the tiles' axes with their rows."""
    lines, columns = int(rows["line"].max()) + 1, int(rows["column"].max()) + 1
    figure = new_figure(min(max(LEAST, 2.0 * columns), MOST), high * lines + 0.8)
    panels = figure.subplots(lines, columns, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    return figure, ((panels[row.line, row.column], row) for row in rows.itertuples())


def _tile(axes: Axes, row: Any, colour: str) -> None:
    """Show a photograph in a frame of a colour; or why it cannot be read."""
    if row.unreadable:
        axes.set(xlim=(0, 1), ylim=(1, 0), aspect="equal", facecolor=PALE)
        reason = "\n".join(["unreadable:", *wrap(plain_name(row.unreadable, REASON), LINE)])
        text = axes.text(0.5, 0.5, reason, ha="center", va="center", fontsize=8, color=DARK, clip_on=True)
        text.set_in_layout(False)
    else:
        axes.imshow(row.pixels)
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=colour, linewidth=2.2)


def _name(axes: Axes, name: str) -> None:
    axes.set_xlabel(name, fontsize=8, color=GREY, labelpad=3)
