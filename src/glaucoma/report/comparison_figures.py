"""What `glaucoma compare` says, as a figure: both runs' ROC curves, and the differences of their scores."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from matplotlib.ticker import MultipleLocator

from glaucoma.evaluate.over_folds import mean_roc
from glaucoma.evaluate.scores import LOWER_IS_BETTER
from glaucoma.report.style import (
    CONDITION_COLOURS,
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

__all__ = ["comparison_figure"]

RUNS = ((CONDITION_COLOURS["normal"], "--"), (CONDITION_COLOURS["abnormal"], "-"))  # distinct without colour
NAME = 28  # characters of a run's name


@styled()
def comparison_figure(
    found: pd.DataFrame, runs: tuple[pd.DataFrame, pd.DataFrame], names: tuple[str, str], path: Path | str, note: str
) -> None:
    """Draw the mean ROC curve of each run, and beside it each score's difference with its 95 % interval.

    Args:
        found: columns score, first, second, difference, low, high, as `glaucoma.evaluate.comparison.compare` returns
            them; a row per score to draw.
        runs: the predictions of both: columns fold, label, log_odds.
        names: of the runs.
        path: PNG to write.
        note: what was compared, below the title.
    """
    shown = [plain_name(name, NAME) for name in names]
    figure = new_figure(12.0, 5.6 + 0.19 * (note.count("\n") + 1))
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    left.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    aurocs = found.set_index("score").loc["auroc"]
    for run, name, auroc, (colour, line) in zip(runs, shown, aurocs[["first", "second"]], RUNS, strict=True):
        curve = mean_roc(run)
        label = f"{name}: AUROC {auroc:.3f}" if len(curve) else f"{name}: not defined"
        left.plot(curve["false_alarms"], curve["sensitivity"], line, color=colour, linewidth=2.2, label=label)
    left.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01), aspect="equal", title="ROC, mean over the folds")
    left.set_xlabel("1 − specificity (normal images called abnormal)")
    left.set_ylabel("Sensitivity (abnormal images found)")
    left.xaxis.set_major_locator(MultipleLocator(0.2))
    left.yaxis.set_major_locator(MultipleLocator(0.2))
    left.grid(visible=True)
    left.legend(loc="lower right")

    rows = found.dropna(subset=["difference"]).reset_index(drop=True)
    for place, row in rows.iterrows():
        lower = row["score"] in LOWER_IS_BETTER
        better, worse = (row["high"] < 0, row["low"] > 0) if lower else (row["low"] > 0, row["high"] < 0)
        colour = GREEN if better else ORANGE if worse else DARK
        if row["low"] == row["low"]:
            right.hlines(place, row["low"], row["high"], color=colour, linewidth=2.4)
        right.plot(row["difference"], place, "D" if better or worse else "o", color=colour, markersize=7)
        right.text(1.02, place, f"{row['first']:.3f} → {row['second']:.3f}", transform=right.get_yaxis_transform(),
                   fontsize=9, va="center")  # fmt: skip
    right.axvline(0, color=DARK, linestyle="--", linewidth=1)
    named = [
        name.replace("_", " ") + (" (lower is better)" if name in LOWER_IS_BETTER else "") for name in rows["score"]
    ]
    right.set_yticks(range(len(rows)), named)
    right.set_ylim(len(rows) - 0.4, -0.6)
    right.set_title("Difference, second minus first, with its 95 % interval")
    right.set_xlabel("Diamond: the interval excludes 0; green: the second is better, orange: worse")
    right.tick_params(axis="y", length=0)
    right.grid(axis="x")
    heading(figure, f"{shown[0]} → {shown[1]}", note)
    save(figure, path)
