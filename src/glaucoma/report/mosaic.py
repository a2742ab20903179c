"""Photographs on one sheet: samples by class, split and source, and what `data.crop` cuts out."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from PIL import Image, ImageOps

from glaucoma.base import paths
from glaucoma.base.errors import many
from glaucoma.base.files import read_csv
from glaucoma.base.index import SPLITS, distinct
from glaucoma.base.params import Params
from glaucoma.photos.images import Unreadable, decode
from glaucoma.report.explore import copies_note, named_sources, sources_chart
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PALE,
    heading,
    new_figure,
    plain_name,
    save,
    styled,
)

__all__ = ["TILE", "crops_chart", "mosaic", "mosaic_by", "sample", "tile", "write_crops", "write_mosaics"]

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
    groups = SPLITS if by == "split" else tuple(counts.index[:MOST_GROUPS])
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


def _tile(axes: Axes, row: Any, root: Path, max_megapixels: float) -> None:
    colour = CONDITION_COLOURS[row.condition]
    tile(axes, root / row.path, max_megapixels, colour)
    axes.set_title(row.condition, color=colour, fontsize=9.5, fontweight="bold", pad=4)
    axes.set_title(f"Fold{row.fold}/{row.split}", loc="right", fontsize=8.5, pad=4)
    axes.set_xlabel(plain_name(PurePosixPath(row.path).name), fontsize=8, color=GREY, labelpad=3)


def write_mosaics(index: pd.DataFrame, root: Path, folder: Path, params: Params) -> None:
    """Draw mosaic.png and mosaic_split.png; where there are several sources mosaic_source.png, sizes_by_source.png."""
    how: dict[str, Any] = {"seed": params.seed, "max_megapixels": params.data.max_megapixels}
    mosaic(index, root, folder / "mosaic.png", **how)
    mosaic_by(index, "split", root, folder / "mosaic_split.png", **how)
    if len(named_sources(index)) > 1:
        mosaic_by(index, "source", root, folder / "mosaic_source.png", **how)
        sources_chart(index, folder / "sizes_by_source.png")


def write_crops(index: pd.DataFrame, root: Path, folder: Path, params: Params) -> None:
    """Draw crops.png, the boxes of `data.crop`; without a crop, that of an earlier run is removed."""
    if params.data.crop == "none" or not paths.CROPS.is_file():
        (folder / "crops.png").unlink(missing_ok=True)
        return
    how: dict[str, Any] = {"crop": params.data.crop, "seed": params.seed, "max_megapixels": params.data.max_megapixels}
    crops_chart(read_csv(paths.CROPS), index, root, folder / "crops.png", **how)


CROPS_COLUMNS, MOST, MOST_FAILURES = 6, 12, 6


@styled()
def crops_chart(
    boxes: pd.DataFrame,
    index: pd.DataFrame,
    root: Path | str,
    path: Path | str,
    *,
    crop: str,
    seed: int,
    max_megapixels: float,
) -> None:
    """Draw the boxes that were cut out.

    Args:
        boxes: one row at least, several of an image with several views; columns image, path, view, left, top, width,
            height (pixels, upright) and found.
        index: as `read_index` returns it.
        root: folder that the paths start from.
        path: PNG to write.
        crop: what was looked for.
        seed: of the draw.
        max_megapixels: larger images count as unreadable.
    """
    sizes = distinct(index).set_index("image")[["width", "height"]]
    images = boxes.groupby("image", sort=True).agg(path=("path", "first"), found=("found", "all")).reset_index()
    drawn = images.iloc[np.random.default_rng(seed).permutation(len(images))]
    failed = drawn[~drawn["found"]].head(MOST_FAILURES)
    chosen = pd.concat([failed, drawn[drawn["found"]].head(MOST - len(failed))])
    parts = dict(tuple(boxes.groupby("image")))
    rows = math.ceil(len(chosen) / CROPS_COLUMNS)
    figure = new_figure(12.0, 2.35 * rows + 0.8)
    panels = figure.subplots(rows, CROPS_COLUMNS, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, row in zip(panels.flat, chosen.itertuples(), strict=False):
        tile(axes, Path(root) / row.path, max_megapixels, GREEN if row.found else ORANGE)
        width, height = sizes.loc[row.image].astype(float)
        scale = TILE / max(width, height)
        found = parts[row.image][parts[row.image]["found"]]
        for box in found.itertuples():
            left, top = box.left * scale + (TILE - width * scale) / 2, box.top * scale + (TILE - height * scale) / 2
            for style in ({"color": "black", "lw": 3}, {"color": "white", "lw": 1.4}):
                axes.add_patch(Rectangle((left, top), box.width * scale, box.height * scale, fill=False, **style))
        title = "\n".join(f"{box.width} × {box.height} px" for box in found.itertuples())
        if not row.found:
            title = f"{title}\nnot all found".strip() if title else "not found: whole image"
        axes.set_title(title, fontsize=9, pad=4, fontweight="normal" if row.found else "bold")
        axes.set_xlabel(plain_name(PurePosixPath(row.path).name), fontsize=8, color=GREY, labelpad=3)
    count = int(images["found"].sum())
    note = f"Found in {count} of {len(images)} images; if a part is not found, the whole photograph takes its place"
    heading(figure, f"Crops of data.crop: {crop}", note)
    save(figure, path)


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
