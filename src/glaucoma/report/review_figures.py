"""Figures that reviewers ask for: calibration curves, predictive values, labels to look at again, drift."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter

from glaucoma.base.errors import many
from glaucoma.model.likeness import NOTABLE
from glaucoma.report.score_figures import METHOD_COLOURS
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

__all__ = ["calibration_figure", "drift_figure", "labels_sheet", "predictive_figure"]

RULE_COLOURS = (DARK, CONDITION_COLOURS["normal"], CONDITION_COLOURS["abnormal"], GREEN, ORANGE, PURPLE)
MOST_LABELS, BESIDE = 8, 2  # labels of a sheet, and the nearest photographs beside each
RULE_LINES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))  # distinct without colour


@styled()
def calibration_figure(
    curves: pd.DataFrame, counts: pd.DataFrame, measures: pd.DataFrame, path: Path | str, title: str, note: str = ""
) -> None:
    """Draw each method's smooth calibration curve with its band, and the probabilities of each class below.

    Args:
        curves: as `glaucoma.evaluate.agreement.curve` gives it, with a column `method`.
        counts: as `glaucoma.evaluate.agreement.by_class` gives it, with a column `method`.
        measures: as `glaucoma.evaluate.agreement.agreement` gives it, with a column `method`.
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    methods = counts["method"].drop_duplicates().tolist()
    figure = new_figure(3.5 * len(methods), 6.2 + 0.19 * (note.count("\n") + 1 if note else 0))
    panels = figure.subplots(2, len(methods), height_ratios=(3, 1.4), sharex=True, sharey="row", squeeze=False)
    for (top, bottom), method in zip(panels.T, methods, strict=True):
        rows, colour = curves[curves["method"] == method], METHOD_COLOURS.get(method, DARK)
        top.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        if len(rows):
            top.fill_between(rows["probability"], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
            top.plot(rows["probability"], rows["abnormal"], color=colour)
        else:
            top.text(0.5, 0.5, "too few images for a curve", ha="center", color=GREY)
        told = measures[measures["method"] == method].set_index("measure")
        names = {"intercept": "intercept", "slope": "slope", "observed_expected": "O:E", "brier_skill": "Brier skill"}
        lines = [f"{name} {_estimate(told.loc[measure])}" for measure, name in names.items()]
        top.text(0.98, 0.02, "\n".join(lines), ha="right", va="bottom", fontsize=7.5, linespacing=1.4)
        top.set(xlim=(0, 1), ylim=(-0.02, 1.02), title="as predicted" if method == "none" else method)
        top.grid(visible=True)
        of, width = counts[counts["method"] == method], 1 / len(counts[counts["method"] == method])
        for name, side in (("abnormal", 1), ("normal", -1)):
            bottom.bar(of["low"] + width / 2, side * of[name], width, color=CONDITION_COLOURS[name], label=name)
        bottom.axhline(0, color=DARK, linewidth=0.8)
        bottom.yaxis.set_major_formatter(FuncFormatter(lambda count, _: f"{abs(count):g}"))
        bottom.set_xlabel("Predicted probability of abnormal")
    panels[0, 0].set_ylabel("Share of abnormal images")
    panels[1, 0].set_ylabel("Images")
    panels[1, 0].legend(loc="upper center", ncols=2)
    heading(figure, title, note)
    save(figure, path)


@styled()
def predictive_figure(table: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw PPV and NPV by prevalence, a line with its intervals per threshold.

    Args:
        table: as `glaucoma.evaluate.usefulness.predictive_values` gives it.
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    figure = new_figure(10.5, 5.2 + 0.19 * (note.count("\n") + 1 if note else 0))
    panels = figure.subplots(1, 2)
    rules = table["rule"].drop_duplicates().tolist()
    for axes, (name, what) in zip(panels, (("ppv", "abnormal"), ("npv", "normal")), strict=True):
        for place, rule in enumerate(rules):
            rows, colour = table[table["rule"] == rule], RULE_COLOURS[place % len(RULE_COLOURS)]
            x = rows["prevalence"] * 1.03 ** (place - len(rules) / 2)  # side by side
            axes.plot(x, rows[name], linestyle=RULE_LINES[place % len(RULE_LINES)], color=colour, label=rule)
            axes.vlines(x, rows[f"{name}_low"], rows[f"{name}_high"], color=colour, linewidth=1)
        axes.set_xscale("log")
        axes.set_xticks(table["prevalence"].unique())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda share, _: f"{100 * share:g} %"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel("Share of abnormal photographs where the model is used")
        axes.set_ylabel(f"{name.upper()}: share of those called {what} that are")
        axes.grid(visible=True)
        low = np.nanmin([1.0, *table[f"{name}_low"]])
        axes.set_ylim(max(0.0, np.floor(low * 10) / 10), 1.005)
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
    heading(figure, title, note)
    save(figure, path)


@styled()
def labels_sheet(
    issues: pd.DataFrame, pixels: np.ndarray, rows: Mapping[str, int], files: Mapping[str, str], path: Path | str
) -> None:
    """Draw the images whose label is least believed, each beside its nearest neighbours in feature space.

    Args:
        issues: as `glaucoma.evaluate.label_errors.label_issues` gives it; one row at least has a suggestion.
        pixels: uint8 (images, size, views · size, 3).
        rows: the row of each content id among the pixels.
        files: a path of each content id.
        path: PNG to write.
    """
    chosen = issues[issues["suggested"] != ""]
    shown = chosen.head(MOST_LABELS).to_dict("records")
    labels, across = dict(zip(issues["image"], issues["label"], strict=True)), 1 + BESIDE
    height = math.ceil(len(shown) / 2)
    figure = new_figure(9.6, 2.0 * height + 0.8)
    panels = figure.subplots(height, 2 * across, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for block, row in zip(panels.reshape(-1, across), shown, strict=False):
        beside = str(row.get("nearest", "")).split()[:BESIDE]
        for axes, image in zip(block, [row["image"], *beside], strict=False):
            _framed(axes, pixels[rows[image]], CONDITION_COLOURS[labels[image]])
            axes.set_xlabel(f"label: {labels[image]}", fontsize=8, labelpad=3)
        block[0].set_title(f"{row['rank']}: {row['probability']:.1%} {row['label']}", fontsize=9, pad=4)
        if beside:
            block[1].set_title("nearest", fontsize=8.5, fontweight="normal", pad=4)
        name = plain_name(PurePosixPath(files.get(row["image"], row["image"])).name)
        block[0].set_xlabel(f"label: {row['label']}\n{name}", fontsize=8, labelpad=3)
    counted = f"{many(len(chosen), 'label')} of {len(issues)} that out-of-fold predictions contradict"
    less = f", the first {len(shown)} shown" if len(shown) < len(chosen) else ""
    note = f"{counted}{less}; a hard photograph is contradicted, too, so look before you change a label"
    heading(figure, "Labels to look at again", note)
    save(figure, path)


def _framed(axes: Axes, pixels: np.ndarray, colour: str) -> None:
    axes.imshow(pixels)
    axes.set_axis_on()
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set(visible=True, color=colour, linewidth=2.2)


def _estimate(row: pd.Series) -> str:
    if row["value"] != row["value"]:
        return "not defined"
    around = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] == row["low"] else ""
    return f"{row['value']:.2f}{around}"


@styled()
def drift_figure(table: pd.DataFrame, path: Path | str, title: str) -> None:
    """Draw how far each trait's mean lies from the training images', with its interval.

    Args:
        table: as `glaucoma.model.likeness.drift` gives it, with rows.
        path: PNG to write.
        title: stands above.
    """
    rows, unlike = table[table["trait"] != "unlike"], table[table["trait"] == "unlike"].iloc[0]
    figure = new_figure(7.6, 5.4)
    axes, y = figure.subplots(), np.arange(len(rows))
    axes.axvspan(-NOTABLE, NOTABLE, color=PALE, zorder=0)
    axes.axvline(0, color=GREY, linewidth=1)
    for drifted, colour, marker in ((False, DARK, "o"), (True, CONDITION_COLOURS["abnormal"], "D")):
        of = (rows["drifted"].astype(bool) == drifted).to_numpy()
        axes.hlines(y[of], rows["low"][of], rows["high"][of], color=colour, linewidth=1.8)
        axes.plot(rows["shift"][of], y[of], marker, color=colour, label="drifted" if drifted else "not shown to drift")
    axes.set_yticks(y, rows["trait"].str.replace("_", " "))
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("Difference of means, in standard deviations of the training images")
    axes.grid(axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    note = f"Out of distribution: {unlike['here']:.1%} of the photographs, of the training images at most 1 %"
    heading(figure, title, f"{note}. Grey: too little to matter; the intervals hold together at 95 %")
    save(figure, path)
