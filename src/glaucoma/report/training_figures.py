"""Figures of one training: its learning curves and its confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREY,
    PALE,
    SPLIT_COLOURS,
    heading,
    horizontal_lines,
    ink,
    new_figure,
    save,
    styled,
)

__all__ = ["confusion_figure", "learning_curves"]

FEW_EPOCHS = 25  # up to here each epoch is marked with a dot


@styled()
def learning_curves(history: pd.DataFrame, path: Path | str, title: str) -> None:
    """Draw loss and macro F1 by epoch, for the train and the test split.

    Epochs that are missing or not finite break the line and are marked in grey.

    Args:
        history: a row per epoch; columns epoch (whole numbers), loss, f1_macro, test_loss, test_f1_macro; columns that
            are missing are not drawn.
        path: PNG to write.
        title: above both panels.
    """
    figure = new_figure(9.0, 4.0)
    left, right = figure.subplots(1, 2)
    history = history.drop_duplicates("epoch", keep="last").set_index("epoch").sort_index()
    if len(history):
        history = history.reindex(range(int(history.index[0]), int(history.index[-1]) + 1))
    gaps = [_curves(left, history, "loss", "Loss (cross-entropy)"), _curves(right, history, "f1_macro", "Macro F1")]
    if left.lines:
        left.set_ylim(bottom=min(0, left.get_ylim()[0]))
    heading(figure, title, "Grey: epochs that were not recorded or not finite" if any(gaps) else "")
    save(figure, path)


def _curves(axes: Axes, history: pd.DataFrame, score: str, title: str) -> bool:
    """Draw one panel; returns whether epochs are missing in it."""
    axes.set_title(title)
    axes.set_xlabel("Epoch")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))
    horizontal_lines(axes)
    ends: list[tuple[float, str, str]] = []
    unknown = np.zeros(len(history), dtype=bool)
    for split, column in (("train", score), ("test", f"test_{score}")):
        if column not in history:
            continue
        values = history[column].to_numpy(dtype=float)
        values = np.where(np.isfinite(values), values, np.nan)
        unknown |= np.isnan(values)
        marker = "o" if len(values) <= FEW_EPOCHS or np.isfinite(values).sum() == 1 else None
        axes.plot(history.index, values, color=SPLIT_COLOURS[split], marker=marker, markersize=4, label=split)
        known = values[np.isfinite(values)]
        if len(known):
            ends.append((known[-1], f"{split} {known[-1]:.3f}", SPLIT_COLOURS[split]))
    for epoch in history.index[unknown]:
        axes.axvspan(epoch - 0.5, epoch + 0.5, color=PALE, linewidth=0, zorder=0)
    if ends:
        _label_ends(axes, ends, float(history.index[-1]))
    else:
        axes.text(0.5, 0.5, "nothing recorded", transform=axes.transAxes, color=GREY, ha="center")
    return bool(unknown.any())


def _label_ends(axes: Axes, ends: list[tuple[float, str, str]], last: float) -> None:
    """Write each curve's name and last value at its end, apart from each other, in place of a legend."""
    low, high = axes.get_ylim()
    apart = (high - low) * 0.065
    ends = sorted(ends)
    heights = [value for value, _, _ in ends]
    if len(heights) == 2 and heights[1] - heights[0] < apart:
        middle = sum(heights) / 2
        heights = [middle - apart / 2, middle + apart / 2]
    for height, (_, text, colour) in zip(heights, ends, strict=True):
        axes.annotate(
            text,
            (last, height),
            xytext=(8, 0),
            textcoords="offset points",
            color=colour,
            va="center",
            fontsize=9,
            annotation_clip=False,
        )


@styled()
def confusion_figure(confusion: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw a confusion matrix with counts and, below each, its share of the true class.

    Args:
        confusion: counts; rows are true classes, columns predicted ones, named in index and columns.
        path: PNG to write.
        title: above the matrix.
        note: below the title.
    """
    figure = new_figure(5.6, 4.9 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    counts = confusion.to_numpy()
    sums = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, sums, out=np.zeros(counts.shape), where=sums > 0)
    # each row fades in its own class's colour: the diagonal is dark where the class is found
    for row, name in enumerate(confusion.index):
        ramp = LinearSegmentedColormap.from_list(str(name), ["white", CONDITION_COLOURS.get(str(name), DARK)])
        for column in range(counts.shape[1]):
            share = shares[row, column]
            colour = ink(ramp(share)[:3])
            axes.add_patch(_cell(column, row, ramp(share)))
            axes.text(column, row - 0.05, f"{counts[row, column]:,}".replace(",", " "), **_centred(colour, 17))
            axes.text(column, row + 0.14, f"{share:.1%}" if sums[row, 0] else "–", **_centred(colour, 10))
    axes.set(xlim=(-0.5, counts.shape[1] - 0.5), ylim=(counts.shape[0] - 0.5, -0.5), aspect="equal")
    axes.set_xticks(range(counts.shape[1]), [str(name) for name in confusion.columns])
    labels = [
        f"{name}\nn = {total:,}".replace(",", " ") for name, total in zip(confusion.index, sums[:, 0], strict=True)
    ]
    axes.set_yticks(range(counts.shape[0]), labels)
    axes.set_xlabel("Predicted class")
    axes.set_ylabel("True class")
    axes.tick_params(length=0, labelsize=10)
    axes.spines[:].set_visible(False)
    heading(figure, title, note)
    save(figure, path)


def _cell(column: int, row: int, colour: tuple) -> Rectangle:
    return Rectangle((column - 0.49, row - 0.49), 0.98, 0.98, facecolor=colour, edgecolor=PALE, linewidth=0.8)


def _centred(colour: str, size: float) -> dict:
    return {"color": colour, "fontsize": size, "ha": "center", "va": "center"}
