"""The shortcut probes as a chart: how well label and source are predicted without looking at the eye."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import pandas as pd
from matplotlib.figure import Figure

from glaucoma.base import paths
from glaucoma.report.page_parts import Picture, drawn
from glaucoma.report.style import (
    DARK,
    GREEN,
    GREY,
    ORANGE,
    heading,
    new_figure,
    plain_name,
    save,
    styled,
)

__all__ = ["Scored", "probes_chart", "probes_picture"]

NAME = 30  # characters of a probe's name
TITLE = "Shortcuts: predictions without looking at the eye"


class Scored(NamedTuple):
    """An AUROC with its 95 % interval, 0–1."""

    auroc: float
    low: float
    high: float


@styled()
def probes_chart(table: pd.DataFrame, path: Path | str) -> None:
    """Draw the probes' AUROCs with their intervals, a panel per target, beside the line of chance.

    Args:
        table: a row per probe; columns target, probe, auroc, low, high (0–1, NaN where skipped) and skipped (why).
        path: PNG to write.
    """
    save(_figure(table, None), path)


@styled()
def probes_picture(table: pd.DataFrame, model: Scored | None) -> Picture:
    """The same for the page, with the model's AUROC if it is known."""
    shown = table.dropna(subset=["auroc"]).sort_values("auroc", ascending=False, kind="stable")
    told = ", ".join(f"{row.target} from {row.probe} {row.auroc:.2f}" for row in shown.head(3).itertuples())
    alt = "AUROC of each shortcut probe with its 95 % interval" + (f"; highest: {told}" if told else "")
    return drawn(_figure(table, model), alt, paths.PROBES)


def _figure(table: pd.DataFrame, model: Scored | None) -> Figure:
    groups = [(target, rows) for target, rows in table.groupby("target", sort=True)]
    counts = [len(rows) + (model is not None and i == 0) for i, (_, rows) in enumerate(groups)]
    figure = new_figure(8.4, 1.35 + sum(0.3 * count + 0.45 for count in counts))
    panels = figure.subplots(len(groups), 1, squeeze=False, sharex=True, height_ratios=counts)[:, 0]
    for axes, (target, rows) in zip(panels, groups, strict=True):
        rows = rows.sort_values(["auroc", "probe"], ascending=[False, True], kind="stable")
        named = [(plain_name(str(row.probe).replace("_", " "), NAME), row, ORANGE, "o") for row in rows.itertuples()]
        if model is not None and axes is panels[0]:
            named.insert(0, ("the model, on valid", model, GREEN, "D"))
        for place, (_, row, colour, marker) in enumerate(named):
            if row.auroc != row.auroc:
                axes.text(
                    0.02, place, f"skipped: {plain_name(str(row.skipped), 72)}", color=GREY, fontsize=8, va="center"
                )
                continue
            axes.barh(place, row.auroc, 0.62, color=colour, alpha=0.3)
            axes.hlines(place, row.low, row.high, color=colour, linewidth=2.2)
            axes.plot(row.auroc, place, marker, color=colour, markersize=6, mec=DARK, mew=0.6)
            text = f"{row.auroc:.2f} [{row.low:.2f}, {row.high:.2f}]"
            axes.text(1.02, place, text, fontsize=8.5, va="center")
        axes.axvline(0.5, color=DARK, linestyle="--", linewidth=1)
        axes.set_yticks(range(len(named)), [name for name, *_ in named])
        axes.set(xlim=(0, 1), ylim=(len(named) - 0.4, -0.6))
        axes.set_title(f"The {plain_name(str(target))}, predicted from")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="x")
    panels[-1].set_xlabel("AUROC, cross-validated, with its 95 % interval (dashed: chance)")
    heading(figure, TITLE, "A model that does not beat these may have learnt them instead of the disease")
    return figure
