"""Image sizes by source: a source that differs in size and in its share of disease is a shortcut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.data.names import many
from glaucoma.report.style import CONDITION_COLOURS, DARK, heading, new_figure, plain_name, save, styled

__all__ = ["named_sources", "sources_chart"]

MOST = 12  # sources shown, the largest
MARKERS = {"normal": "o", "abnormal": "D"}


def named_sources(index: pd.DataFrame) -> pd.Series:
    """Distinct images of each source, the largest first; `unknown` where a row names none."""
    images = index.assign(source=index["source"].replace("", "unknown") if "source" in index else "unknown")
    names = images.drop_duplicates(["image", "source"])["source"]
    return names.value_counts().sort_index().sort_values(ascending=False, kind="stable")


@styled()
def sources_chart(index: pd.DataFrame, path: Path | str) -> None:
    """Draw the shorter side of each distinct readable image, a row per source and class, with its median.

    Args:
        index: as `read_index` returns it.
        path: PNG to write.
    """
    counts = named_sources(index).head(MOST)
    images = index.dropna(subset=["width", "height"]).drop_duplicates(["image", "condition"]).sort_values("image")
    shorter = images[["width", "height"]].min(axis=1).astype(float)
    source = images["source"].replace("", "unknown")
    figure = new_figure(9.0, 1.7 + 0.62 * len(counts))
    axes = figure.subplots()
    draw = np.random.default_rng(0)  # the dots' scatter across their row, which means nothing
    for row, name in enumerate(counts.index):
        for shift, (condition, colour) in zip((-0.19, 0.19), CONDITION_COLOURS.items(), strict=True):
            values = shorter[(source == name) & (images["condition"] == condition)]
            y = row + shift + draw.uniform(-0.1, 0.1, len(values))
            label = condition if row == 0 else None
            dots = {"markersize": 4, "alpha": 0.35, "mew": 0, "color": colour}
            axes.plot(values, y, MARKERS[condition], label=label, **dots)
            if len(values):
                axes.vlines(values.median(), row + shift - 0.16, row + shift + 0.16, color=DARK, linewidth=2)
                text = f"n = {len(values)}, median {values.median():.0f}"
                axes.annotate(text, (1.01, row + shift), xycoords=("axes fraction", "data"), va="center", fontsize=8)
    axes.set_yticks(range(len(counts)), [plain_name(name) for name in counts.index])
    axes.set(ylim=(len(counts) - 0.5, -0.5), xlabel="Shorter side (pixels); the bar is the median")
    axes.set_xlim(left=0)
    axes.grid(axis="x")
    axes.tick_params(axis="y", length=0)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.3 * 2.2 / figure.get_figheight()), ncols=2)
    total = len(named_sources(index))
    less = f", the largest {MOST} shown" if total > MOST else ""
    heading(figure, "Image size by source", f"{many(total, 'source')}{less}; each distinct image once")
    save(figure, path)
