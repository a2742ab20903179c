"""Charts of the data set: counts, sizes, brightness and colour, sources, and what folds share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from glaucoma.base.errors import many
from glaucoma.base.index import SPLITS, copies_note, named_sources
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREY,
    heading,
    horizontal_lines,
    ink,
    new_figure,
    plain_name,
    save,
    styled,
)

__all__ = ["appearance_chart", "folds_chart", "overlap_chart", "sizes_chart", "sources_chart", "splits_chart"]

MANY_FOLDS = 20  # beyond, bars are too narrow for a number each
BINS = 30
MANY_SHOWN = 15  # beyond, cells are too small for a number each
TRAITS = {"brightness": "Brightness", "red": "Red share", "green": "Green share", "blue": "Blue share"}
MOST_SOURCES = 6  # rows of `appearance_chart`
HISTOGRAM = 14
MOST = 12  # sources shown, the largest
MARKERS = {"normal": "o", "abnormal": "D"}


@styled()
def splits_chart(table: pd.DataFrame, path: Path | str, note: str) -> None:
    """Draw files by split and condition, with counts and the share within the split.

    Args:
        table: condition_by_split.csv.
        path: PNG to write.
        note: how many images the files are.
    """
    counts = table.set_index("split")
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
    heading(figure, "Condition by split", note)
    save(figure, path)


@styled()
def folds_chart(table: pd.DataFrame, path: Path | str, note: str) -> None:
    """Draw files by fold: a panel per split, bars stacked by condition. The panels' scales differ.

    Args:
        table: folds.csv.
        path: PNG to write.
        note: how many images the files are.
    """
    counts = table.set_index(["split", "condition", "fold"])["count"]
    folds = sorted(table["fold"].unique())
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
    heading(figure, "Files by fold, split and condition", note)
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


@styled()
def overlap_chart(table: pd.DataFrame, path: Path | str, note: str) -> None:
    """Draw overlap.csv as a heat map; a fold's own cell must be 0. `note`: how many images the files are."""
    shares = table.pivot(index="fold", columns="trained_by", values="share")
    names = [str(fold) for fold in shares.index]
    figure = new_figure(7.2, 6.6)
    axes = figure.subplots()
    colours = colormaps["Blues"]
    drawn = axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    if len(names) <= MANY_SHOWN:
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        for (row, column), share in np.ndenumerate(shares.to_numpy()):
            text = "–" if np.isnan(share) else f"{share:.0%}"
            colour = "black" if np.isnan(share) else ink(colours(share)[:3])
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Fold that trains on them", ylabel="Fold that tests on them")
    figure.colorbar(drawn, ax=axes, shrink=0.8, format=lambda value, _: f"{value:.0%}", label="Share of test images")
    heading(figure, "Test images that other folds train on", f"{note}\nThe diagonal must be 0%")
    save(figure, path)


@styled()
def appearance_chart(table: pd.DataFrame, path: Path | str) -> None:
    """Draw the distributions of appearance.csv by condition, a row for each of the largest sources and one for all."""
    sources = table["source"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    shown = sources.index[:MOST_SOURCES].tolist() if len(sources) > 1 else []
    parts = {"All": table} | {plain_name(name or "unknown"): table[table["source"] == name] for name in shown}
    figure = new_figure(12.0, 2.6 * len(parts) + 0.9)
    panels = figure.subplots(len(parts), len(TRAITS), squeeze=False, sharex="col")
    for row, (name, part) in zip(panels, parts.items(), strict=True):
        for axes, (trait, title) in zip(row, TRAITS.items(), strict=True):
            edges = (
                np.linspace(table[trait].min() - 1e-6, table[trait].max() + 1e-6, HISTOGRAM + 1)
                if len(table)
                else [0, 1]
            )
            for condition, colour in CONDITION_COLOURS.items():
                values = part.loc[part["condition"] == condition, trait]
                shares = 100 * np.histogram(values, edges)[0] / max(1, len(values))
                axes.stairs(shares, edges, fill=True, alpha=0.2, color=colour)
                axes.stairs(shares, edges, color=colour, linewidth=1.7, label=f"{condition} ({len(values)})")
            horizontal_lines(axes)
            axes.set_title(f"{name}: {title.lower()}" if shown else title)
        row[0].set_ylabel("Share of images (%)")
        row[0].set_ylim(top=1.45 * row[0].get_ylim()[1])
        row[0].legend(loc="upper left")
    panels[-1][0].set_xlabel("Mean grey level, 0–255")
    for axes in panels[-1][1:]:
        axes.set_xlabel("Share of red + green + blue")
    heading(figure, "Brightness and colour by condition", f"{many(len(table), 'distinct image')}, each once")
    save(figure, path)


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
