"""A figure of the page alone: each search by its parameters."""

from __future__ import annotations

import pandas as pd

from glaucoma.data.names import many
from glaucoma.evaluate.scores import ABNORMAL
from glaucoma.report.page_parts import Missing, Picture, drawn
from glaucoma.report.style import CONDITION_COLOURS, GREY, heading, horizontal_lines, new_figure, styled

__all__ = ["slices"]

WINNER = CONDITION_COLOURS[ABNORMAL]


@styled()
def slices(trials: pd.DataFrame, metric: str, title: str) -> Picture | Missing:
    """Each trial's score against each parameter that the search varied; a panel per parameter."""
    score = f"mean_test_{metric}"
    if score not in trials:
        return Missing(f"The search's table has no column {score}.")
    names = [c for c in trials if c.startswith("param_") and trials[c].nunique() > 1]
    if not names:
        return Missing("The search varied no parameter.")
    figure = new_figure(max(4.8, 2.9 * len(names)), 3.6)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for axes, name in zip(panels, names, strict=True):
        values = sorted(trials[name].dropna().unique())
        place = trials[name].map({value: i for i, value in enumerate(values)})
        axes.plot(place, trials[score], "o", color=GREY, markersize=5, alpha=0.6, clip_on=False)
        best = trials.iloc[0]
        axes.plot(values.index(best[name]), best[score], "D", color=WINNER, markersize=7, clip_on=False, zorder=3)
        axes.set_xticks(range(len(values)), [f"{v:g}" if isinstance(v, (int, float)) else str(v) for v in values])
        axes.set_xlim(-0.5, len(values) - 0.5)
        axes.set_xlabel(name.removeprefix("param_").replace("_", " "))
        horizontal_lines(axes)
    panels[0].set_ylabel(metric.replace("_", " "))
    heading(figure, title, f"One dot per trial ({len(trials)}); diamond: the winner")
    return drawn(figure, f"{title}: {metric} of each of {many(len(trials), 'trial')} against each parameter")
