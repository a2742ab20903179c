"""The worst errors on the page: photographs with their predictions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from glaucoma import paths
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.report.page_parts import Missing, frame, photograph, picture

__all__ = ["overlays", "worst"]

WORST = 6  # of each kind of error


def worst() -> list[dict[str, Any]] | Missing:
    """The most confident wrong predictions, missed glaucoma first, with their photographs as the network sees them."""
    predictions, surest = frame(paths.SUMMARY / "predictions.csv"), frame(paths.SUMMARY / "worst.csv")
    if isinstance(predictions, Missing):
        return predictions
    if isinstance(surest, Missing):
        return surest
    wrong = predictions[predictions["label"] != predictions["predicted"]]
    try:
        pixels = np.load(paths.PIXELS, mmap_mode="r", allow_pickle=False)
        rows = {image: i for i, image in enumerate(frame(paths.PIXELS_TABLE)["image"])}
    except (OSError, ValueError, TypeError, KeyError):
        pixels, rows = None, {}
    heat = overlays()
    files = {} if isinstance(heat, Missing) else {(row.fold, row.image): row.file for row in heat.itertuples()}
    groups = []
    for kind, label, called in (("false negative", ABNORMAL, NORMAL), ("false positive", NORMAL, ABNORMAL)):
        group, total = surest[surest["error"] == kind], int((wrong["label"] == label).sum())
        title = f"{kind.capitalize()}s: {label} eyes called {called}"
        shown = []
        for row in group.head(WORST).itertuples():
            text = f"Fold {row.fold}, probability of abnormal {row.probability:.3f}"
            known = pixels is not None and row.image in rows
            alt = f"Photograph {row.image[:8]}, {row.label}, called {row.predicted}"
            file = files.get((row.fold, row.image))
            over = f"Heat map of photograph {row.image[:8]}: evidence for abnormal"
            shown.append(
                {
                    "photograph": photograph(np.array(pixels[rows[row.image]]), alt)
                    if known
                    else Missing("No decoded image."),
                    "heat": picture(paths.EXPLAIN / file, over) if file else None,
                    "text": text,
                    "id": row.image[:12],
                }
            )
        groups.append({"title": title, "total": total, "shown": shown})
    return groups


def overlays() -> pd.DataFrame | Missing:
    """The table of the heat maps that stage `explain` drew: columns fold, image and file."""
    found = frame(paths.EXPLAIN / "heat.csv")
    return found if isinstance(found, Missing) else found.astype({"image": str})
