"""A sample of the photographs as labelled square tiles."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from glaucoma.data.names import many
from glaucoma.report.counts import copies_note
from glaucoma.report.style import CONDITION_COLOURS, GREY, heading, new_figure, plain_name, save, styled
from glaucoma.report.tiles import tile

__all__ = ["mosaic", "mosaic_by", "sample"]

COLUMNS, ROWS_PER_CONDITION = 6, 2
IN_A_ROW = 8  # photographs of each group in `mosaic_by`
MOST_GROUPS = 6  # sources shown, the largest


def sample(index: pd.DataFrame, seed: int, each: int = COLUMNS * ROWS_PER_CONDITION) -> pd.DataFrame:
    """Draw `each` distinct images of either condition, or all if there are fewer; normal ones first.

    The draw depends on the seed and on what is listed, not on the order of the rows.
    """
    draw = np.random.default_rng(seed)
    chosen = []
    for condition in CONDITION_COLOURS:
        listed = index[index["condition"] == condition].sort_values(["image", "fold", "split", "path"])
        listed = listed.iloc[draw.permutation(len(listed))].drop_duplicates("image")
        chosen.append(listed.head(each))
    return pd.concat(chosen, ignore_index=True)


@styled()
def mosaic(index: pd.DataFrame, root: Path | str, path: Path | str, *, seed: int, max_megapixels: float) -> None:
    """Draw a balanced sample of the photographs, each with condition, fold, split and shortened file name.

    A photograph is fitted into its square tile without distortion. A file that cannot be read has a tile that says why.

    Args:
        index: as `read_index` returns it.
        root: folder that the index' paths start from.
        path: PNG to write.
        seed: of the draw.
        max_megapixels: larger images count as unreadable.
    """
    chosen = sample(index, seed)
    rows = max(1, math.ceil(chosen["condition"].value_counts().max() / COLUMNS))
    figure = new_figure(12.0, 2 * rows * 2.45 + 0.7)
    panels = figure.subplots(2 * rows, COLUMNS)
    for axes in panels.flat:
        axes.set_axis_off()
    for half, condition in enumerate(CONDITION_COLOURS):
        tiles = panels[half * rows : (half + 1) * rows].flat
        for axes, row in zip(tiles, chosen[chosen["condition"] == condition].itertuples(), strict=False):
            _tile(axes, row, Path(root), max_megapixels)
    note = f"A random sample, balanced if there are enough images; {copies_note(index)}"
    heading(figure, "Photographs by condition", note)
    save(figure, path)


@styled()
def mosaic_by(
    index: pd.DataFrame, by: str, root: Path | str, path: Path | str, *, seed: int, max_megapixels: float
) -> None:
    """Draw a row of photographs for each class in each split of the first fold, or in each of the largest sources.

    Args:
        index: as `read_index` returns it.
        by: `split` or `source`.
        root: folder that the index' paths start from.
        path: PNG to write.
        seed: of the draw.
        max_megapixels: larger images count as unreadable.
    """
    first = index["fold"].min()
    listed = index[index["fold"] == first] if by == "split" else index
    counts = listed[by].fillna("").value_counts().sort_index().sort_values(ascending=False, kind="stable")
    groups = ("train", "test", "valid") if by == "split" else tuple(counts.index[:MOST_GROUPS])
    rows = [(condition, group) for group in groups for condition in CONDITION_COLOURS]
    figure = new_figure(12.0, 1.5 * len(rows) + 0.7)
    panels = figure.subplots(len(rows), IN_A_ROW)
    for axes in panels.flat:
        axes.set_axis_off()
    for line, (condition, group) in zip(panels, rows, strict=True):
        part = listed[(listed[by].fillna("") == group) & (listed["condition"] == condition)]
        total = part["image"].nunique()
        for axes, row in zip(line, _draw(part, seed).head(IN_A_ROW).itertuples(), strict=False):
            tile(axes, Path(root) / row.path, max_megapixels, CONDITION_COLOURS[condition])
        name = f"{plain_name(group or 'unknown')}, {condition}: {many(total, 'image')}"
        line[0].set_title(name, color=CONDITION_COLOURS[condition], fontweight="bold", fontsize=9.5, pad=4)
    which = f"fold {first}, " if by == "split" else "all folds, "
    more = (
        f", the largest {MOST_GROUPS} of {len(counts)} sources" if by == "source" and len(counts) > MOST_GROUPS else ""
    )
    note = f"Drawn at random, {which}up to {IN_A_ROW} of each{more}"
    heading(figure, f"Photographs by class and {by}", note)
    save(figure, path)


def _draw(rows: pd.DataFrame, seed: int) -> pd.DataFrame:
    """The distinct images of some rows in an order that depends on the seed and on what is listed alone."""
    rows = rows.sort_values(["image", "fold", "split", "path"])
    return rows.iloc[np.random.default_rng(seed).permutation(len(rows))].drop_duplicates("image")


def _tile(axes: Axes, row: tuple, root: Path, max_megapixels: float) -> None:
    colour = CONDITION_COLOURS[row.condition]
    tile(axes, root / row.path, max_megapixels, colour)
    axes.set_title(row.condition, color=colour, fontsize=9.5, fontweight="bold", pad=4)
    axes.set_title(f"Fold{row.fold}/{row.split}", loc="right", fontsize=8.5, pad=4)
    axes.set_xlabel(plain_name(PurePosixPath(row.path).name), fontsize=8, color=GREY, labelpad=3)
