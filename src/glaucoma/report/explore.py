"""Charts of the data set: files by condition, split and fold, and the size of the images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from glaucoma.data.names import many
from glaucoma.report.counts import by_fold, by_split, copies_note
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREY,
    heading,
    horizontal_lines,
    ink,
    new_figure,
    save,
    styled,
)

__all__ = ["folds_chart", "sizes_chart", "splits_chart"]

SPLITS = ("train", "test", "valid")  # as they are used
MANY_FOLDS = 20  # beyond, bars are too narrow for a number each
BINS = 30


@styled()
def splits_chart(index: pd.DataFrame, path: Path | str) -> None:
    """Draw files by split and condition, with counts and the share within the split."""
    counts = by_split(index).set_index("split")
    figure = new_figure(7.2, 4.4)
    axes = figure.subplots()
    width = 0.38
    for shift, (condition, colour) in zip((-0.5, 0.5), CONDITION_COLOURS.items(), strict=True):
        for x, split in enumerate(SPLITS):
            count, total = counts.at[split, condition], counts.at[split, "total"]
            axes.bar(x + shift * (width + 0.02), count, width, color=colour, label=condition if x == 0 else None)
            text = f"{_number(count)}\n{count / total:.1%}" if total else "0"
            place = {"xytext": (0, 4), "textcoords": "offset points", "ha": "center", "fontsize": 9}
            axes.annotate(text, (x + shift * (width + 0.02), count), **place)
    names = [f"{split}\n{many(counts.at[split, 'total'], 'file')}" for split in SPLITS]
    axes.set_xticks(range(len(SPLITS)), names, fontsize=10)
    axes.set_ylabel("Files as listed, all folds together")
    axes.tick_params(axis="x", length=0)
    axes.margins(y=0.16)
    axes.yaxis.set_major_formatter(lambda value, _: _number(value))
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
    horizontal_lines(axes)
    axes.legend(loc="upper right")
    heading(figure, "Condition by split", copies_note(index))
    save(figure, path)


@styled()
def folds_chart(index: pd.DataFrame, path: Path | str) -> None:
    """Draw files by fold: a panel per split, bars stacked by condition. The panels' scales differ."""
    counts = by_fold(index).set_index(["split", "condition", "fold"])["count"]
    folds = sorted(index["fold"].unique())
    figure = new_figure(12.0, 4.2)
    panels = figure.subplots(1, len(SPLITS))
    x = np.arange(len(folds))
    for axes, split in zip(panels, SPLITS, strict=True):
        below = np.zeros(len(folds), dtype=int)
        for condition, colour in CONDITION_COLOURS.items():
            heights = counts[split][condition].reindex(folds).to_numpy()
            axes.bar(x, heights, 0.82, bottom=below, color=colour, label=condition)
            _inside(axes, x, heights, below, ink(colour))
            below = below + heights
        axes.set_title(f"{split}: {many(int(below.sum()), 'file')}")
        axes.set_xlabel("Fold")
        if len(folds) <= MANY_FOLDS:
            axes.set_xticks(x, [str(fold) for fold in folds])
        middle, half = (len(folds) - 1) / 2, max(len(folds), 4) / 2 + 0.1  # few folds: bars of a normal width
        axes.set(xlim=(middle - half, middle + half), ylim=(0, max(1, 1.04 * below.max())))
        axes.tick_params(axis="x", length=0)
        axes.yaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(lambda value, _: _number(value))
        horizontal_lines(axes)
    panels[0].set_ylabel("Files (each panel has its own scale)")
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles[::-1], names[::-1], loc="upper right", ncols=2, borderaxespad=0.9)
    heading(figure, "Files by fold, split and condition", copies_note(index))
    save(figure, path)


@styled()
def sizes_chart(index: pd.DataFrame, path: Path | str, image_size: int) -> None:
    """Draw the sizes of the distinct readable images by condition; a difference between classes is a shortcut.

    Args:
        index: as `read_index` returns it.
        path: PNG to write.
        image_size: pixels a side that training resizes to, marked in the chart.
    """
    images = index.dropna(subset=["width", "height"]).drop_duplicates(["image", "condition"])
    shorter = images[["width", "height"]].min(axis=1)
    figure = new_figure(10.0, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=[1.25, 1])
    if images.empty:
        left.text(0.5, 0.5, "no readable image", ha="center", color=GREY, transform=left.transAxes)
    else:
        edges = np.linspace(0, float(max(shorter.max(), image_size)) * 1.02, BINS + 1)
        for condition, colour in CONDITION_COLOURS.items():
            own = images["condition"] == condition
            median = f", median {shorter[own].median():.0f} px" if own.any() else ""
            label = f"{condition}: {many(int(own.sum()), 'image')}{median}"
            shares = np.histogram(shorter[own], edges)[0] / max(1, own.sum())
            left.stairs(100 * shares, edges, fill=True, alpha=0.25, color=colour)
            left.stairs(100 * shares, edges, color=colour, linewidth=1.8, label=label)
            sizes = images.loc[own, ["width", "height"]]
            right.plot(sizes["width"], sizes["height"], "o", color=colour, markersize=3.5, alpha=0.35, mew=0)
        left.axvline(image_size, color=DARK, linestyle="--", linewidth=1, label=f"training: {image_size} px")
        left.set_ylim(top=left.get_ylim()[1] * 1.3)
        left.legend(loc="upper right", frameon=True, edgecolor="none", framealpha=0.9)
        longest = float(images[["width", "height"]].max().max()) * 1.05
        right.plot([0, longest], [0, longest], color=GREY, linewidth=1, linestyle=":", zorder=0)
        right.set(xlim=(0, longest), ylim=(0, longest), aspect="equal")
    left.set(xlabel="Shorter side (pixels)", ylabel="Share of the condition's images (%)", title="Shorter side")
    left.set_xlim(left=0)
    horizontal_lines(left)
    right.set(xlabel="Width (pixels)", ylabel="Height (pixels)", title="Width and height (dotted: square)")
    heading(figure, "Image size by condition", f"Each distinct image once; {copies_note(index)}")
    save(figure, path)


def _inside(axes: Axes, x: np.ndarray, heights: np.ndarray, below: np.ndarray, colour: str) -> None:
    """Write each bar's count into it."""
    if len(x) > MANY_FOLDS:
        return
    for place, height, start in zip(x, heights, below, strict=True):
        if height:
            where = {"ha": "center", "va": "center", "rotation": 90 if len(x) > 5 else 0}
            axes.text(place, start + height / 2, _number(height), color=colour, fontsize=8.5, **where)


def _number(value: float) -> str:
    return f"{value:,.0f}".replace(",", " ")
