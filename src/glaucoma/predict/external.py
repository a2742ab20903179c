"""A model, or an ensemble, judged on another labelled collection: what it was developed with does not count."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError, listed, shown
from glaucoma.base.files import near, sha256_file, write_csv, write_json
from glaucoma.base.index import distinct, read_index
from glaucoma.base.params import Params
from glaucoma.dataset.layouts import scan
from glaucoma.evaluate.agreement import agreement
from glaucoma.evaluate.intervals import independent, intervals
from glaucoma.evaluate.scores import ABNORMAL, THRESHOLD, predictions_table, scores
from glaucoma.model.likeness import drift
from glaucoma.model.log_odds import expit
from glaucoma.photos.content import content_ids
from glaucoma.photos.looks import clusters, look_at
from glaucoma.predict.inference import find_models, load_classifier, predict_files, warned

__all__ = ["External", "evaluate_external"]

OPTIONAL = ("patient", "source")


@dataclass(frozen=True)
class External:
    """What a model is worth elsewhere.

    Attributes:
        scores: as `glaucoma.evaluate.scores.scores` gives them.
        intervals: of each score, as `glaucoma.evaluate.intervals.intervals` gives them.
        counts: listed: distinct images of the collection; known: those left out for being in this project's index
            (None where there is no index to look in); copies: those left out for being resized, recompressed or
            mirrored copies of photographs in it (None where these are not at hand to compare with); conflicting: left
            out for being labelled both ways; unreadable; models: how many predictions are averaged.
        predictions: columns path, image, perhaps patient and source, label, predicted, probability, log_odds.
        faults: why files are unreadable, `path: why`.
        drift: as `glaucoma.model.likeness.drift` gives it; no rows where no card tells what to compare with.
        warned: what speaks against the model, as `glaucoma.predict.inference.warned` says it.
    """

    scores: dict[str, Any]
    intervals: pd.DataFrame
    counts: dict[str, Any]
    predictions: pd.DataFrame
    faults: list[str]
    drift: pd.DataFrame
    warned: str = ""


def evaluate_external(model: str, root: Path, params: Params, output: Path, flips: str | None = None) -> External:
    """Predict every distinct image of a labelled collection, and write scores.json and tables.

    intervals.csv, agreement.csv (calibration, as predicted), predictions.csv and drift.csv are the tables.

    Images that this project's index lists, byte for byte or as a copy of the same photograph, are left out, whatever
    split they are in: they were trained, selected or judged on here. Copies within the collection count as one in the
    intervals.

    Args:
        model: as `find_models` takes it; several are averaged.
        root: the collection, in any layout; its folds, if it brings any, are ignored.
        params: gives the names of classes, the largest image and the seed of the intervals' bootstrap.
        output: folder to write.
        flips: as `predict_files` takes it.

    Raises:
        WeightsError: no such model, or a damaged one.
        DataError: the collection cannot be read, or nothing of it is left to judge on.
    """
    classifiers = [load_classifier(path) for path in find_models(model)]
    table, counts, same = _collection(root, params)
    found = predict_files(
        classifiers, [root / path for path in table["path"]], max_megapixels=params.data.max_megapixels, flips=flips
    )
    faults = [f"{shown(table['path'].iat[i])}: {why}" for i, why in sorted(found.faults.items())]
    readable = [i not in found.faults for i in range(len(table))]
    table, log_odds = table[readable].reset_index(drop=True), found.log_odds[readable]
    if table.empty:
        raise DataError(f"no image of {shown(root)} can be read:{listed(faults)}", "name another collection")
    abnormal = (table["condition"] == ABNORMAL).to_numpy()
    predicted = predictions_table(table["image"].tolist(), abnormal, log_odds=log_odds)
    about = table[["path", *(name for name in OPTIONAL if name in table)]]
    predictions = pd.concat([about, predicted], axis=1)
    counts |= {"unreadable": len(faults), "models": len(classifiers)}
    around = intervals(predictions, seed=params.seed, clusters=same)
    moved = drift(found.likenesses, found.traits) if found.likenesses else pd.DataFrame()
    told = scores(abnormal, log_odds=log_odds)
    result = External(told, around, counts, predictions, faults, moved, warned(classifiers))
    write_csv(output / "predictions.csv", predictions)
    write_csv(output / "intervals.csv", result.intervals)
    write_csv(output / "agreement.csv", agreement(abnormal, expit(log_odds), independent(predictions, same)))
    if len(moved):
        write_csv(output / "drift.csv", moved)
    used: dict[str, Any] = {one.path.as_posix(): sha256_file(one.path) for one in classifiers}
    write_json(
        output / "scores.json", {**result.scores, **counts, "threshold": float(expit(THRESHOLD)), "sha256": used}
    )
    return result


def _collection(root: Path, params: Params) -> tuple[pd.DataFrame, dict[str, int | None], dict[str, str]]:
    """Each distinct image that may be judged on, by path; counts of what was left out; the photograph of each image."""
    if not root.is_dir():
        what = "is a file" if root.exists() else f"does not exist{near(root)}"
        raise DataError(f"the collection {shown(root)} {what}", "name the folder that holds the labelled photographs")
    table = scan(root, "auto", params.data.classes).table.sort_values("path", ignore_index=True)
    table["image"] = content_ids(root, table["path"].tolist())
    torn = table.groupby("image")["condition"].nunique()
    torn = set(torn[torn > 1].index)
    table = table.drop_duplicates("image")
    ours = distinct(read_index(paths.INDEX)) if paths.INDEX.is_file() else None
    of_ours = table["image"].isin(() if ours is None else ours["image"])
    same, seen = _photographs(table, root, ours, params)
    copies = table["image"].map(same).isin(seen or ()) & ~of_ours
    both_ways = table["image"].isin(torn) & ~of_ours & ~copies
    counts = {
        "listed": len(table),
        "known": None if ours is None else int(of_ours.sum()),
        "copies": None if seen is None else int(copies.sum()),
        "conflicting": int(both_ways.sum()),
    }
    left = table[~of_ours & ~copies & ~both_ways].reset_index(drop=True)
    if left.empty:
        what = f"all {len(table)} images of {shown(root)} are in {paths.INDEX}, copies of what is, or labelled twice"
        raise DataError(what, "name a collection that this project was not developed with")
    return left, counts, same


def _photographs(
    table: pd.DataFrame, root: Path, ours: pd.DataFrame | None, params: Params
) -> tuple[dict[str, str], set[str] | None]:
    """The photograph of each image, by content id, and which of them are this project's (None where it has none)."""
    here = Path(params.data.root).expanduser().absolute()
    parts = [(table, root.absolute())]
    if ours is not None and here.is_dir() and all((here / path).is_file() for path in ours["path"]):
        parts.append((ours, here))
    files = [part.assign(path=[str(base / path) for path in part["path"]])[["path", "image"]] for part, base in parts]
    looks = look_at(pd.concat(files), Path("/"), "copies", max_megapixels=params.data.max_megapixels)
    found, _ = clusters(looks)
    same = {image: str(one) for image, one in found.items()}
    return same, {same[image] for image in ours["image"]} if ours is not None and len(parts) > 1 else None
