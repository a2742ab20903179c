"""Figures that reviewers ask for: calibration as a curve, predictive values by prevalence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.ticker import FuncFormatter, NullFormatter

from glaucoma.report.score_figures import METHOD_COLOURS
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREEN,
    GREY,
    ORANGE,
    PURPLE,
    heading,
    new_figure,
    save,
    styled,
)

__all__ = ["calibration_figure", "predictive_figure"]

RULE_COLOURS = (DARK, CONDITION_COLOURS["normal"], CONDITION_COLOURS["abnormal"], GREEN, ORANGE, PURPLE)
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


def _estimate(row: pd.Series) -> str:
    if row["value"] != row["value"]:
        return "not defined"
    around = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] == row["low"] else ""
    return f"{row['value']:.2f}{around}"
