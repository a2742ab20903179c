"""The stage `explain`: Grad-CAM of the worst errors and of examples; how much heat lies on the disc, where known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from PIL import Image

from glaucoma.base import paths
from glaucoma.base.files import atomic_path, read_csv, write_csv, write_json
from glaucoma.base.index import distinct, read_index
from glaucoma.base.params import Params
from glaucoma.base.progress import track
from glaucoma.model.gradcam import gradcam
from glaucoma.model.runtime import fresh
from glaucoma.predict.heat import COLOURS, OPAQUE, relative
from glaucoma.predict.inference import load_classifier

__all__ = ["disc_mask", "heat_overlay", "heat_share", "run_explain"]

JUDGED = ("test", "valid")  # splits of the first fold whose heat is measured: its network was trained on neither
HEAT_SHOWN = 3  # of the worst errors of each kind: each may need another fold's network
DECIMALS = 6
TRUTH = paths.TRUTH


def run_explain(params: Params) -> dict[str, Any]:
    """Write reports/explain/ (overlays of the photographs that the page explains, heat.csv) and metrics/explain.json.

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
    asked = [worst, read_csv(paths.SUMMARY / "examples.csv", dtype={"image": str})]
    asked = pd.concat([one[["fold", "image"]] for one in asked]).drop_duplicates().sort_values(["fold", "image"])
    asked = asked[asked["image"].isin(seen.rows.index)]
    wanted = {int(fold): set(rows["image"]) for fold, rows in asked.groupby("fold")}
    if isinstance(judged, pd.DataFrame):
        wanted.setdefault(min(params.crossval.folds), set()).update(judged["image"])
    heat: dict[tuple[int, str], np.ndarray] = {}
    one = None  # a fold's images at once: what takes time is to load its network and to make it ready
    for fold in track(sorted(wanted), "explain", len(wanted), "fold"):
        images, before = sorted(wanted[fold]), one
        one = load_classifier(paths.fold_files(fold)["model"], before)
        if before is None or one.network is not before.network:
            explain = gradcam(one.network, one.classes)
        heat |= {(fold, image): own for image, own in zip(images, explain(seen.pixels(images))[1], strict=True)}

    rows = []
    for row in asked.itertuples():
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
        return f"no {TRUTH} beside the photographs: where their discs lie is unknown"
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


def _boxes(rows: pd.DataFrame, params: Params) -> dict[str, list[tuple[float, float, float, float]]]:
    """The parts of each photograph that the network sees, left to right: left, top, width, height in its pixels."""
    if params.data.crop == "none":
        return {row.image: [(0.0, 0.0, float(row.width), float(row.height))] for row in rows.itertuples()}
    boxes: dict[str, list[tuple[float, float, float, float]]] = {}
    for row in read_csv(paths.CROPS).itertuples():
        boxes.setdefault(row.image, []).append((row.left, row.top, row.width, row.height))
    return boxes


def heat_overlay(photograph: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Lay heat over a photograph in grey.

    Args:
        photograph: uint8 (height, width, 3), RGB.
        heat: float (h, w), ≥ 0, on a coarser grid; drawn as shares of its highest value.

    Returns:
        uint8 (height, width, 3).
    """
    coarse = Image.fromarray(relative(heat).astype("float32"))
    share = np.asarray(coarse.resize(photograph.shape[1::-1], Image.Resampling.BILINEAR))
    grey = photograph.mean(axis=2, keepdims=True)
    return (OPAQUE * 255 * colormaps[COLOURS](share)[..., :3] + (1 - OPAQUE) * grey).round().astype(np.uint8)


def disc_mask(disc: Mapping[str, float], box: tuple[float, float, float, float], size: int) -> np.ndarray:
    """Which pixels of what the network sees belong to the disc.

    Args:
        disc: the sample's truth: `disc_x`, `disc_y` (centre), `disc_radius_x`, `disc_radius_y` (half axes along its own
            axes), all in pixels of the photograph, x to the right, y down; `disc_tilt` (degrees, clockwise).
        box: left, top, width, height of the part that the network sees, in the same pixels.
        size: pixels a side that this part is squashed to.

    Returns:
        bool (size, size).
    """
    left, top, width, height = box
    middle = (np.arange(size) + 0.5) / size
    x = (left + middle * width)[None, :] - disc["disc_x"]
    y = (top + middle * height)[:, None] - disc["disc_y"]
    tilt = np.radians(disc["disc_tilt"])
    along, across = x * np.cos(tilt) + y * np.sin(tilt), y * np.cos(tilt) - x * np.sin(tilt)
    return (along / disc["disc_radius_x"]) ** 2 + (across / disc["disc_radius_y"]) ** 2 <= 1


def heat_share(heat: np.ndarray, mask: np.ndarray) -> float:
    """Share (0–1) of a heat map, float (h, w) ≥ 0, that lies within a mask, bool (size, size); NaN without heat.

    The map is enlarged to the mask's size as overlays show it, between the centres of its places.
    """
    fine = np.asarray(Image.fromarray(heat.astype("float32")).resize(mask.shape[::-1], Image.Resampling.BILINEAR))
    total = float(fine.sum(dtype="float64"))
    return float(fine[mask].sum(dtype="float64")) / total if total > 0 else float("nan")
