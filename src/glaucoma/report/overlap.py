"""How far folds share images: which of a fold's test images another fold trains on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import colormaps

from glaucoma.report.counts import copies_note
from glaucoma.report.style import heading, ink, new_figure, save, styled

__all__ = ["overlap", "overlap_chart"]

MANY_FOLDS = 15  # beyond, cells are too small for a number each


def overlap(index: pd.DataFrame) -> pd.DataFrame:
    """Share (0–1) of each fold's distinct test images that a fold trains on: columns fold, trained_by, share."""
    folds = sorted(index["fold"].unique())
    images = {part: set(rows["image"]) for part, rows in index.groupby(["fold", "split"])}
    rows = []
    for fold in folds:
        test = images.get((fold, "test"), set())
        for other in folds:
            shared = len(test & images.get((other, "train"), set()))
            rows.append((fold, other, shared / len(test) if test else np.nan))
    return pd.DataFrame(rows, columns=["fold", "trained_by", "share"])


@styled()
def overlap_chart(index: pd.DataFrame, path: Path | str) -> None:
    """Draw `overlap` as a heat map; a fold's own cell is to be 0."""
    shares = overlap(index).pivot(index="fold", columns="trained_by", values="share")
    names = [str(fold) for fold in shares.index]
    figure = new_figure(7.2, 6.6)
    axes = figure.subplots()
    colours = colormaps["Blues"]
    drawn = axes.imshow(shares, cmap=colours, vmin=0, vmax=1)
    if len(names) <= MANY_FOLDS:
        axes.set_xticks(range(len(names)), names)
        axes.set_yticks(range(len(names)), names)
        for (row, column), share in np.ndenumerate(shares.to_numpy()):
            text = "–" if np.isnan(share) else f"{share:.0%}"
            colour = "black" if np.isnan(share) else ink(colours(share)[:3])
            axes.text(column, row, text, ha="center", va="center", fontsize=8.5, color=colour)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.set(xlabel="Fold that trains on them", ylabel="Fold that tests on them")
    figure.colorbar(drawn, ax=axes, shrink=0.8, format=lambda value, _: f"{value:.0%}", label="Share of test images")
    heading(figure, "Test images that other folds train on", f"{copies_note(index)}\nThe diagonal must be 0%")
    save(figure, path)
