"""Figures of pooled predictions: intervals, precision–recall, reliability, decision curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.metrics import average_precision_score, precision_recall_curve

from glaucoma.evaluate.calibration import reliability
from glaucoma.evaluate.decision import decision_curve
from glaucoma.evaluate.scores import ABNORMAL
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREY,
    SPLIT_COLOURS,
    heading,
    new_figure,
    save,
    styled,
)

__all__ = ["decision_figure", "intervals_figure", "precision_recall_figure", "reliability_figure"]

NAMES = {
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "auroc": "AUROC",
    "partial_auroc": "Partial AUROC\n(specificity 0.9–1)",
    "sensitivity_at_95_specificity": "Sensitivity at\n0.95 specificity",
    "average_precision": "Average precision",
    "accuracy": "Accuracy",
    "f1_macro": "Macro F1",
}
METHOD_COLOURS = {"none": CONDITION_COLOURS[ABNORMAL], "temperature": "#009E73", "isotonic": "#0072B2"}
METHOD_MARKERS = {"none": "o", "temperature": "s", "isotonic": "^"}


@styled()
def intervals_figure(table: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw scores with their 95 % intervals.

    Args:
        table: columns split, score, value, low, high.
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    figure = new_figure(7.6, 5.2 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    rows = list(NAMES)
    for shift, (split, marker) in zip((-0.14, 0.14), (("test", "o"), ("valid", "D")), strict=True):
        part = table[table["split"] == split].set_index("score").reindex(rows)
        y = np.arange(len(rows)) + shift
        axes.hlines(y, part["low"], part["high"], color=SPLIT_COLOURS[split], linewidth=2)
        axes.plot(part["value"], y, marker, color=SPLIT_COLOURS[split], markersize=6, label=split, clip_on=False)
        for where, (_, row) in zip(y, part.iterrows(), strict=True):
            text = f"{row['value']:.3f}" if row["value"] == row["value"] else "not defined"
            if row["low"] == row["low"]:
                text += f" [{row['low']:.3f}, {row['high']:.3f}]"
            axes.text(1.03, where, text, fontsize=8, color=SPLIT_COLOURS[split], va="center")
    axes.set_yticks(range(len(rows)), [NAMES[name] for name in rows])
    axes.set(xlim=(0, 1.0), ylim=(len(rows) - 0.5, -0.5))
    axes.set_xlabel("Score, with its 95 % interval")
    axes.grid(axis="x")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2)
    heading(figure, title, note)
    save(figure, path)


@styled()
def precision_recall_figure(predictions: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw the precision–recall curve of columns label and probability, beside the share of abnormal images."""
    figure = new_figure(5.8, 5.7 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    abnormal, probability = _arrays(predictions)
    if abnormal.all() or not abnormal.any():
        axes.text(0.5, 0.5, "not defined: images of one class only", ha="center", color=GREY)
    else:
        precision, recall, _ = precision_recall_curve(abnormal, probability)
        found = average_precision_score(abnormal, probability)
        colour = CONDITION_COLOURS[ABNORMAL]
        axes.step(recall, precision, where="pre", color=colour, label=f"average precision {found:.3f}", clip_on=False)
        axes.axhline(abnormal.mean(), color=GREY, linestyle=":", label=f"chance: {abnormal.mean():.3f} are abnormal")
        axes.legend(loc="lower left")
    axes.set(xlim=(0, 1.01), ylim=(0, 1.02))
    axes.set_xlabel("Sensitivity, recall (abnormal images found)")
    axes.set_ylabel("Precision (abnormal among those called abnormal)")
    axes.grid(visible=True)
    heading(figure, title, note)
    save(figure, path)


@styled()
def reliability_figure(valid: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw the share of abnormal images by predicted probability, before and after calibration, with counts.

    Args:
        valid: columns label, and none, temperature, isotonic: probabilities.
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    figure = new_figure(10.5, 5.4 + 0.19 * (note.count("\n") + 1 if note else 0))
    panels = figure.subplots(2, 3, height_ratios=(3, 1), sharex=True, sharey="row")
    abnormal = (valid["label"] == ABNORMAL).to_numpy()
    for (top, bottom), method in zip(panels.T, METHOD_COLOURS, strict=True):
        rows = reliability(abnormal, valid[method].to_numpy(float))
        filled = rows[rows["n"] > 0]
        colour = METHOD_COLOURS[method]
        top.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        top.plot(filled["probability"], filled["abnormal"], METHOD_MARKERS[method], linestyle="-", color=colour)
        top.set(xlim=(0, 1), ylim=(-0.02, 1.02), title="as predicted" if method == "none" else method)
        top.grid(visible=True)
        bars = bottom.bar(rows["low"] + 0.05, rows["n"], width=0.09, color=colour)
        bottom.bar_label(bars, [str(n) if n else "" for n in rows["n"]], fontsize=8, color=DARK)
        bottom.margins(y=0.25)
        bottom.set_xlabel("Predicted probability of abnormal")
    panels[0, 0].set_ylabel("Share of abnormal images")
    panels[1, 0].set_ylabel("Predictions")
    heading(figure, title, note)
    save(figure, path)


@styled()
def decision_figure(valid: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw net benefit by threshold probability, of columns label and none, temperature, isotonic: probabilities."""
    figure = new_figure(7.6, 5.0 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    abnormal = (valid["label"] == ABNORMAL).to_numpy()
    styles = {"none": "-", "temperature": "--", "isotonic": "-."}
    for method, line in styles.items():
        curve = decision_curve(abnormal, valid[method].to_numpy(float))
        name = "model, as predicted" if method == "none" else f"model, {method}"
        axes.plot(curve["threshold"], curve["model"], line, color=METHOD_COLOURS[method], label=name)
    axes.plot(curve["threshold"], curve["all"], color=GREY, label="refer everyone")
    axes.axhline(0, color=DARK, linewidth=1, label="refer no one")
    top = max(0.05, float(abnormal.mean()) * 1.15)
    axes.set(xlim=(0, 1), ylim=(-top / 3, top))
    axes.set_xlabel("Threshold probability for referral")
    axes.set_ylabel("Net benefit (true positives per image)")
    axes.grid(visible=True)
    axes.legend(loc="upper right")
    heading(figure, title, note)
    save(figure, path)


def _arrays(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return (predictions["label"] == ABNORMAL).to_numpy(), predictions["probability"].to_numpy(float)
