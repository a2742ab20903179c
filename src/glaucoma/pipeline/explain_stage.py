"""The stage `explain`: Grad-CAM of the worst errors, and how much of the heat lies on the disc where that is known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from glaucoma import paths
from glaucoma.data.index import distinct, read_index
from glaucoma.data.sample.tree import TRUTH
from glaucoma.evaluate.localisation import disc_mask, heat_share
from glaucoma.evaluate.subgroups import HEAT_SHOWN
from glaucoma.files import atomic_path, read_csv, write_csv, write_json
from glaucoma.model.runtime import fresh
from glaucoma.params import Params
from glaucoma.pipeline.explanations import explainers
from glaucoma.pipeline.inference import load_classifier
from glaucoma.progress import track
from glaucoma.report.heat import heat_overlay

__all__ = ["run_explain"]

JUDGED = ("test", "valid")  # splits of the first fold whose heat is measured: its network has learnt from neither
DECIMALS = 6


def run_explain(params: Params) -> dict[str, Any]:
    """Write reports/explain/ (an overlay of each error that the page shows, and heat.csv) and metrics/explain.json.

    Returns:
        The metrics: `heat_on_disc` and `disc_area` (means over images, shares of 0–1), `fold`, `images`, and
        `without_heat` (images in which nothing speaks for abnormal, left out of the means); or `skipped`, why not.

    Raises:
        WeightsError: a fold's model is missing, damaged, or has a head that Grad-CAM does not take.
    """
    fresh(params.seed)
    seen = _Seen()
    judged = _judged(params, seen)
    worst = read_csv(paths.SUMMARY / "worst.csv", dtype={"image": str})
    worst = worst[(worst["rank"] <= HEAT_SHOWN) & worst["image"].isin(seen.rows.index)]
    wanted = {int(fold): set(rows["image"]) for fold, rows in worst.groupby("fold")}
    if isinstance(judged, pd.DataFrame):
        wanted.setdefault(min(params.crossval.folds), set()).update(judged["image"])
    heat, one = {}, None  # a fold's images at once: what takes time is to load its network and to make it ready
    for fold in track(sorted(wanted), "explain", len(wanted), "fold"):
        images, before = sorted(wanted[fold]), one
        one = load_classifier(paths.fold_files(fold)["model"], before)
        if before is None or one.network is not before.network:
            (explain,) = explainers([one])
        heat |= {(fold, image): own for image, own in zip(images, explain(seen.pixels(images))[1], strict=True)}

    rows = []
    for row in worst.sort_values(["fold", "error", "rank"]).itertuples():
        own, file = heat[row.fold, row.image], f"fold{row.fold}-{row.image[:16]}.png"
        with atomic_path(paths.EXPLAIN / file) as temporary:
            Image.fromarray(heat_overlay(seen.pixels([row.image])[0], own)).save(temporary, "PNG")
        rows.append((row.fold, row.image, file, round(float(own.max()), DECIMALS)))
    write_csv(paths.EXPLAIN / "heat.csv", pd.DataFrame(rows, columns=["fold", "image", "file", "highest"]))
    metrics = {"skipped": judged} if isinstance(judged, str) else _on_disc(params, seen, judged, heat)
    write_json(paths.METRICS / "explain.json", metrics)
    return metrics


class _Seen:
    """The images as the networks see them; `rows`: the row of each in the array, by content id."""

    def __init__(self) -> None:
        images = read_csv(paths.PIXELS_TABLE, usecols=["image"])["image"]
        self.rows = pd.Series(range(len(images)), index=images)
        self.array = np.load(paths.PIXELS, mmap_mode="r", allow_pickle=False)

    def pixels(self, images: list[str]) -> np.ndarray:
        """uint8 (images, size, views · size, 3)."""
        return np.stack([self.array[self.rows[image]] for image in images])


def _judged(params: Params, seen: _Seen) -> pd.DataFrame | str:
    """The images of the first fold whose heat is measured, or why that cannot be done."""
    truth_file, fold = Path(params.data.root).expanduser() / TRUTH, min(params.crossval.folds)
    if not truth_file.is_file():
        return f"no {TRUTH} lies beside the photographs, so that nobody knows where their discs are"
    index = read_index(paths.INDEX)
    index = index[(index["fold"] == fold) & index["split"].isin(JUDGED) & index["image"].isin(seen.rows.index)]
    rows = distinct(index).merge(read_csv(truth_file).drop(columns=["condition", "eye"]), on="image")
    return rows if len(rows) else f"{TRUTH} tells of none of fold {fold}'s {' and '.join(JUDGED)} images"


def _on_disc(params: Params, seen: _Seen, rows: pd.DataFrame, heat: dict[tuple[int, str], np.ndarray]) -> dict:
    fold = min(params.crossval.folds)
    boxes = _boxes(rows, params)
    size = seen.array.shape[1]
    masks = [
        np.concatenate([disc_mask(row, box, size) for box in boxes[row["image"]]], axis=1)
        for row in rows.to_dict("records")
    ]
    shares = np.array([heat_share(heat[fold, image], mask) for image, mask in zip(rows["image"], masks, strict=True)])
    known = ~np.isnan(shares)
    means = {"heat_on_disc": shares[known], "disc_area": np.array([mask.mean() for mask in masks])[known]}
    told = {name: round(float(values.mean()), DECIMALS) for name, values in means.items() if known.any()}
    return {"fold": fold, "images": len(rows), "without_heat": int((~known).sum()), **told}


def _boxes(rows: pd.DataFrame, params: Params) -> dict[str, list[tuple[float, ...]]]:
    """The parts of each photograph that the network sees, left to right: left, top, width, height in its pixels."""
    if params.data.crop == "none":
        return {row.image: [(0.0, 0.0, float(row.width), float(row.height))] for row in rows.itertuples()}
    boxes: dict[str, list[tuple[float, ...]]] = {}
    for row in read_csv(paths.CROPS).itertuples():
        boxes.setdefault(row.image, []).append((row.left, row.top, row.width, row.height))
    return boxes
