"""The figure of cost and quality: what each model costs to train and to run, and its AUROC."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from glaucoma.data.names import many
from glaucoma.evaluate.ladder import MARGIN, RUNGS, cheapest
from glaucoma.report.style import DARK, GREEN, GREY, PALE, heading, new_figure, save, styled

__all__ = ["ladder_figure"]

PANELS = {
    "seconds": "Training of a fold, seconds",
    "images_per_second": "Prediction, images per second",
}
MARKERS = dict(zip(RUNGS, "svo^DPX", strict=True))  # distinct without colour


@styled()
def ladder_figure(table: pd.DataFrame, path: Path | str) -> None:
    """Draw AUROC with its interval by what training costs, and by how fast a rung predicts; both costs on a log scale.

    Args:
        table: as `glaucoma.evaluate.ladder.cost_quality` gives it.
        path: PNG to write.
    """
    figure = new_figure(10.5, 5.0)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    shown = table[table["auroc"].notna()]
    best = shown.loc[shown["verdict"] == "best", "auroc"]
    chosen = cheapest(table) if len(table) else None
    for axes, (cost, name) in zip(panels, PANELS.items(), strict=True):
        axes.set_xlabel(name)
        axes.grid(visible=True)
        if len(best):
            axes.axhspan(best.iloc[0] - MARGIN, best.iloc[0], color=PALE, zorder=0)
        drawn = [_rung(axes, row, cost, chosen is not None and row["rung"] == chosen["rung"]) for row in _rows(shown)]
        if any(drawn):
            axes.set_xscale("log")
            axes.margins(x=0.12)
            axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 3.0), numticks=8))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.xaxis.set_minor_formatter(NullFormatter())
        else:
            axes.text(0.5, 0.5, "not measured", ha="center", color=GREY, transform=axes.transAxes)
            axes.set_xticks([])
    panels[0].set_ylabel("AUROC on valid, mean over folds")
    handles = [
        axes.plot([], [], MARKERS[row["rung"]], color=DARK, label=f"{row['rung']}: {RUNGS[row['rung']]}")[0]
        for row in _rows(shown)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2)
    what = many(int(table["folds"].max()), "fold") if len(table) else "no fold"
    note = f"Bars: 95 % intervals, over {what} or those that a model has. Grey band: at most {MARGIN} below the best"
    if chosen is not None:
        note += f"\nGreen: the cheapest model that is shown not to be worse than that: {chosen['rung']}"
    heading(figure, "Cost and quality", note)
    save(figure, path)


def _rung(axes: Axes, row: dict, cost: str, chosen: bool) -> bool:
    """Draw a rung, if its cost is known."""
    if not row[cost] > 0:
        return False
    colour = GREEN if chosen else DARK
    if row["low"] == row["low"]:
        axes.vlines(row[cost], row["low"], row["high"], color=colour, linewidth=1.6)
    axes.plot(row[cost], row["auroc"], MARKERS[row["rung"]], color=colour, markersize=8, clip_on=False, zorder=3)
    return True


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")
