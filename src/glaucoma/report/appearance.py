"""Brightness and colour of the photographs by condition and source: possible shortcuts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.data.images import Unreadable, decode
from glaucoma.data.names import many
from glaucoma.data.workers import in_threads
from glaucoma.report.style import CONDITION_COLOURS, heading, horizontal_lines, new_figure, plain_name, save, styled

__all__ = ["appearance", "appearance_chart"]

SIDE = 64  # pixels a JPEG is decoded to at least; means need no more
TRAITS = {"brightness": "Brightness", "red": "Red share", "green": "Green share", "blue": "Blue share"}
MOST_SOURCES = 6
BINS = 14


def appearance(index: pd.DataFrame, root: Path | str, max_megapixels: float) -> pd.DataFrame:
    """Mean brightness (0–255) and the colours' shares of it (0–1) of each distinct readable image.

    Returns:
        Columns image, condition, source ("" where unknown), brightness, red, green, blue; sorted by image, condition.
    """
    rows = index.sort_values(["image", "condition", "path"]).drop_duplicates(["image", "condition"])

    def means(path: str) -> np.ndarray | None:
        try:
            pixels = np.asarray(decode(Path(root) / path, max_megapixels=max_megapixels, at_least=SIDE))
        except Unreadable:
            return None
        return pixels.reshape(-1, 3).mean(axis=0)

    found = list(in_threads(means, rows["path"].tolist(), "colours"))
    table = rows[["image", "condition"]].assign(source=rows["source"].fillna("") if "source" in rows else "")
    colours = np.array([np.full(3, np.nan) if mean is None else mean for mean in found]).reshape(-1, 3)
    table["brightness"] = colours.mean(axis=1)
    for name, share in zip(("red", "green", "blue"), colours.T, strict=True):
        table[name] = share / np.maximum(colours.sum(axis=1), 1e-9)
    return table.dropna(subset=["brightness"]).round(6).reset_index(drop=True)


@styled()
def appearance_chart(table: pd.DataFrame, path: Path | str) -> None:
    """Draw each trait's distribution by condition, a row for each of the largest sources and one for all."""
    sources = table["source"].value_counts().sort_index().sort_values(ascending=False, kind="stable")
    shown = sources.index[:MOST_SOURCES].tolist() if len(sources) > 1 else []
    parts = {"All": table} | {plain_name(name or "unknown"): table[table["source"] == name] for name in shown}
    figure = new_figure(12.0, 2.6 * len(parts) + 0.9)
    panels = figure.subplots(len(parts), len(TRAITS), squeeze=False, sharex="col")
    for row, (name, part) in zip(panels, parts.items(), strict=True):
        for axes, (trait, title) in zip(row, TRAITS.items(), strict=True):
            edges = (
                np.linspace(table[trait].min() - 1e-6, table[trait].max() + 1e-6, BINS + 1) if len(table) else [0, 1]
            )
            for condition, colour in CONDITION_COLOURS.items():
                values = part.loc[part["condition"] == condition, trait]
                shares = 100 * np.histogram(values, edges)[0] / max(1, len(values))
                axes.stairs(shares, edges, fill=True, alpha=0.2, color=colour)
                axes.stairs(shares, edges, color=colour, linewidth=1.7, label=f"{condition} ({len(values)})")
            horizontal_lines(axes)
            axes.set_title(f"{name}: {title.lower()}" if shown else title)
        row[0].set_ylabel("Share of images (%)")
        row[0].set_ylim(top=1.45 * row[0].get_ylim()[1])
        row[0].legend(loc="upper left")
    panels[-1][0].set_xlabel("Mean grey level, 0–255")
    for axes in panels[-1][1:]:
        axes.set_xlabel("Share of red + green + blue")
    heading(figure, "Brightness and colour by condition", f"{many(len(table), 'distinct image')}, each once")
    save(figure, path)
