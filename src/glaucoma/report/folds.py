"""Figures of the cross-validation: scores by fold, and pooled out-of-fold ROC."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MultipleLocator
from sklearn.metrics import roc_auc_score, roc_curve

from glaucoma.data.names import many
from glaucoma.evaluate.scores import ABNORMAL
from glaucoma.report.style import (
    CONDITION_COLOURS,
    GREY,
    SPLIT_COLOURS,
    heading,
    horizontal_lines,
    new_figure,
    save,
    styled,
)

__all__ = ["folds_figure", "pooled_note", "roc_figure", "seen_note"]

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

    Pooling compares probabilities across the folds' models, so where they are calibrated differently the pooled curve
    lies below the folds' own; both AUROCs are given.

    Args:
        predictions: columns fold, label, probability (of abnormal).
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
        axes.plot([], [], color=CONDITION_COLOURS[ABNORMAL], linewidth=2.4, label=f"pooled: AUROC {pooled:.3f}")
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
    probability = predictions["probability"].to_numpy()
    axes.plot(*roc_curve(abnormal, probability)[:2], clip_on=False, **line)
    return float(roc_auc_score(abnormal, probability))


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
