"""Figures of the cross-validation: scores by fold, and pooled out-of-fold ROC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, MultipleLocator, NullFormatter
from sklearn.metrics import average_precision_score, precision_recall_curve, roc_auc_score, roc_curve

from glaucoma.base.errors import many
from glaucoma.evaluate.intervals import arrays
from glaucoma.evaluate.ladder import MARGIN, RUNGS, cheapest
from glaucoma.evaluate.scores import ABNORMAL
from glaucoma.report.style import (
    CONDITION_COLOURS,
    DARK,
    GREEN,
    GREY,
    PALE,
    SPLIT_COLOURS,
    heading,
    horizontal_lines,
    new_figure,
    save,
    styled,
)

__all__ = [
    "decision_figure",
    "folds_figure",
    "intervals_figure",
    "ladder_figure",
    "pooled_note",
    "precision_recall_figure",
    "reliability_figure",
    "roc_figure",
    "seen_note",
]

PANELS = {"f1_macro": "Macro F1", "auroc": "AUROC", "sensitivity": "Sensitivity (share of abnormal found)"}
MARKERS = {"test": "o", "valid": "D"}  # distinct without colour, too
MANY_FOLDS = 20  # beyond, folds are not named one by one in a legend or axis


@styled()
def folds_figure(folds: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw macro F1, AUROC and sensitivity of each fold, test and valid, with their means.

    Args:
        folds: a row per fold; columns fold, and `test_` and `valid_` before each score (0 to 1, NaN: not defined).
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    figure = new_figure(12.0, 4.5)
    panels = figure.subplots(1, len(PANELS), sharey=True)
    for axes, (score, name) in zip(panels, PANELS.items(), strict=True):
        axes.set_title(name)
        if len(folds) <= MANY_FOLDS:
            axes.set_xticks(range(len(folds)), [str(fold) for fold in folds["fold"]])
        axes.set_xlabel("Fold" if len(folds) <= MANY_FOLDS else f"{len(folds)} folds, in ascending order")
        axes.set_xlim(-0.7, len(folds) - 0.3)
        horizontal_lines(axes)
        _panel(axes, folds, score)
    lowest = folds[[f"{split}_{score}" for split in MARKERS for score in PANELS]].min().min()
    bottom = 0.0 if np.isnan(lowest) else max(0.0, np.floor(lowest * 20 - 0.2) / 20)
    panels[0].set_ylim(bottom, 1.0 + (1 - bottom) * 0.02)
    panels[0].set_ylabel("Score")
    heading(figure, title, note)
    save(figure, path)


def _panel(axes: Axes, folds: pd.DataFrame, score: str) -> None:
    x = np.arange(len(folds))
    described = []
    for split, marker in MARKERS.items():
        values = folds[f"{split}_{score}"].astype(float)
        colour = SPLIT_COLOURS[split]
        shift = -0.13 if split == "test" else 0.13
        axes.plot(x + shift, values, marker, color=colour, markersize=6, clip_on=False, zorder=3)
        if values.notna().any():
            axes.axhline(values.mean(), color=colour, linewidth=1.3, linestyle="-" if split == "test" else "--")
        spread = f" ± {values.std():.3f}" if values.count() > 1 else ""
        text = f"{values.mean():.3f}{spread}" if values.notna().any() else "not defined"
        described.append((f"{split}  {text}", colour, marker, "-" if split == "test" else "--"))
    handles = [
        axes.plot([], [], marker=marker, linestyle=line, color=colour, linewidth=1.3, markersize=6)[0]
        for _, colour, marker, line in described
    ]
    names = [text for text, *_ in described]
    axes.legend(handles, names, loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2, handlelength=2.2)


@styled()
def roc_figure(predictions: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw the ROC curve of all folds' predictions pooled, and each fold's as a thin line.

    Pooling compares log-odds across the folds' models, so where their scales differ the pooled curve can lie below or
    above the folds' own; both AUROCs are given.

    Args:
        predictions: columns fold, label, log_odds (of abnormal).
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    figure = new_figure(5.8, 5.9 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=1, linestyle=":")
    axes.text(0.74, 0.7, "chance", color=GREY, rotation=45, fontsize=9, ha="center", va="center")
    aurocs = []
    for _, fold in predictions.groupby("fold", sort=True):
        auroc = _curve(axes, fold, color=GREY, linewidth=0.8, alpha=0.7)
        aurocs += [auroc] if auroc is not None else []
    pooled = _curve(axes, predictions, color=CONDITION_COLOURS[ABNORMAL], linewidth=2.4)
    if pooled is None:
        axes.text(0.5, 0.4, "not defined: images of one class only", ha="center", color=GREY)
    else:
        spread = f" ± {np.std(aurocs, ddof=1):.3f}" if len(aurocs) > 1 else ""
        called = f"{many(len(aurocs), 'fold')}: AUROC {np.mean(aurocs):.3f}{spread}" if aurocs else "no single fold"
        axes.plot(
            [], [], color=CONDITION_COLOURS[ABNORMAL], linewidth=2.4, label=f"pooled over folds: AUROC {pooled:.3f}"
        )
        axes.plot([], [], color=GREY, linewidth=0.8, label=called)
        axes.legend(loc="lower right")
    axes.set(xlim=(-0.01, 1.0), ylim=(0.0, 1.01), aspect="equal")
    axes.set_xlabel("1 − specificity (normal images called abnormal)")
    axes.set_ylabel("Sensitivity (abnormal images found)")
    axes.xaxis.set_major_locator(MultipleLocator(0.2))
    axes.yaxis.set_major_locator(MultipleLocator(0.2))
    axes.grid(visible=True)
    heading(figure, title, note)
    save(figure, path)


def _curve(axes: Axes, predictions: pd.DataFrame, **line: object) -> float | None:
    """Draw a ROC curve and return its AUROC; nothing where only one class occurs."""
    abnormal = (predictions["label"] == ABNORMAL).to_numpy()
    if abnormal.all() or not abnormal.any():
        return None
    log_odds = predictions["log_odds"].to_numpy()
    axes.plot(*roc_curve(abnormal, log_odds)[:2], clip_on=False, **line)
    return float(roc_auc_score(abnormal, log_odds))


def pooled_note(predictions: pd.DataFrame, contamination: float) -> str:
    """A note on pooled predictions: the number of images, and of images seen by the starting weights."""
    images = predictions["image"].nunique()
    folds = predictions["fold"].nunique()
    of = f"{many(len(predictions), 'prediction')} of {many(images, 'image')}, from {many(folds, 'fold')}"
    return of + seen_note(contamination)


def seen_note(contamination: float) -> str:
    """A warning if the starting weights had seen images on which the model is scored."""
    if not contamination > 0:
        return ""
    share = "1%" if contamination < 0.01 else f"{contamination:.0%}"
    return f"\nOptimistic: starting weights had seen up to {share} of a fold's images"


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
METHOD_COLOURS = {"none": CONDITION_COLOURS[ABNORMAL], "temperature": "#009E73", "platt": "#0072B2"}
METHOD_NAMES = {"none": "as predicted", "temperature": "temperature", "platt": "slope and intercept (Platt)"}
METHOD_MARKERS = {"none": "o", "temperature": "s", "platt": "^"}


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
    """Draw the precision–recall curve of columns label and log_odds, beside the share of abnormal images."""
    figure = new_figure(5.8, 5.7 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    abnormal, log_odds = arrays(predictions)
    if abnormal.all() or not abnormal.any():
        axes.text(0.5, 0.5, "not defined: images of one class only", ha="center", color=GREY)
    else:
        precision, recall, _ = precision_recall_curve(abnormal, log_odds)
        found = average_precision_score(abnormal, log_odds)
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
def reliability_figure(table: pd.DataFrame, path: Path | str, title: str, note: str = "") -> None:
    """Draw the share of abnormal images by predicted probability, before and after calibration, with counts.

    Args:
        table: as `glaucoma.evaluate.calibration.reliability` gives it, for each `method`: none, temperature, platt.
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
    """
    figure = new_figure(10.5, 5.4 + 0.19 * (note.count("\n") + 1 if note else 0))
    panels = figure.subplots(2, 3, height_ratios=(3, 1), sharex=True, sharey="row")
    for (top, bottom), method in zip(panels.T, METHOD_COLOURS, strict=True):
        rows = table[table["method"] == method]
        filled = rows[rows["n"] > 0]
        colour = METHOD_COLOURS[method]
        top.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
        top.plot(filled["probability"], filled["abnormal"], METHOD_MARKERS[method], linestyle="-", color=colour)
        top.set(xlim=(0, 1), ylim=(-0.02, 1.02), title=METHOD_NAMES[method])
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
def decision_figure(
    table: pd.DataFrame, path: Path | str, title: str, note: str = "", ours: tuple[float, float, float] | None = None
) -> None:
    """Draw net benefit by threshold probability.

    Args:
        table: as `glaucoma.evaluate.decisions.decision_curve` gives it, for each `method`: none, temperature, platt.
        path: PNG to write.
        title: stands above.
        note: what else is to be known, below the title.
        ours: as `glaucoma.evaluate.usefulness.miss_range` gives it, to be marked.
    """
    figure = new_figure(7.6, 5.6 + 0.19 * (note.count("\n") + 1 if note else 0))
    axes = figure.subplots()
    styles = {"none": "-", "temperature": "--", "platt": "-."}
    for method, line in styles.items():
        curve = table[table["method"] == method]
        name = f"model, {METHOD_NAMES[method]}"
        axes.plot(curve["threshold"], curve["model"], line, color=METHOD_COLOURS[method], label=name)
    axes.plot(curve["threshold"], curve["all"], color=GREY, label="refer everyone")
    axes.axhline(0, color=DARK, linewidth=1, label="refer no one")
    if ours:
        axes.axvspan(ours[0], ours[2], color=PALE, zorder=0, label="search.miss_cost, doubled to halved")
        axes.axvline(ours[1], color=GREY, linestyle=":", linewidth=1.2, label="search.miss_cost")
    top = max(0.05, float(curve["all"].max()) * 1.15)  # nearly the share of abnormal images
    axes.set(xlim=(0, 1), ylim=(-top / 3, top))
    axes.set_xlabel("Threshold probability for referral")
    axes.set_ylabel("Net benefit (true positives per image)")
    axes.grid(visible=True)
    figure.legend(loc="outside lower center", ncols=2)  # the curves leave no corner free
    heading(figure, title, note)
    save(figure, path)


COSTS = {
    "seconds": "Training of a fold, seconds",
    "images_per_second": "Prediction, images per second",
}
RUNG_MARKERS = dict(zip(RUNGS, "svho^DPX", strict=True))  # distinct without colour


@styled()
def ladder_figure(table: pd.DataFrame, path: Path | str) -> None:
    """Draw AUROC with its interval by what training costs, and by how fast a rung predicts; both costs on a log scale.

    Args:
        table: as `glaucoma.evaluate.ladder.cost_quality` gives it.
        path: PNG to write.
    """
    figure = new_figure(10.5, 5.0)
    panels = figure.subplots(1, len(COSTS), sharey=True)
    shown = table[table["auroc"].notna()]
    best = shown.loc[shown["verdict"] == "best", "auroc"]
    chosen = cheapest(table) if len(table) else None
    for axes, (cost, name) in zip(panels, COSTS.items(), strict=True):
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
        axes.plot([], [], RUNG_MARKERS[row["rung"]], color=DARK, label=f"{row['rung']}: {RUNGS[row['rung']]}")[0]
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
    axes.plot(row[cost], row["auroc"], RUNG_MARKERS[row["rung"]], color=colour, markersize=8, clip_on=False, zorder=3)
    return True


def _rows(table: pd.DataFrame) -> list[dict]:
    return table.to_dict("records")
