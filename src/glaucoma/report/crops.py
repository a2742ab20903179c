"""The boxes of `data.crop` on some photographs, those without a box first."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from matplotlib.patches import Rectangle

from glaucoma.data.index import distinct
from glaucoma.report.style import GREEN, GREY, ORANGE, heading, new_figure, plain_name, save, styled
from glaucoma.report.tiles import TILE, tile

__all__ = ["crops_chart"]

COLUMNS, MOST, MOST_FAILURES = 6, 12, 6


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
    rows = math.ceil(len(chosen) / COLUMNS)
    figure = new_figure(12.0, 2.35 * rows + 0.8)
    panels = figure.subplots(rows, COLUMNS, squeeze=False)
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
