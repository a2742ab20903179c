"""The tables of reports/explore/: counts, brightness and colour, and what folds share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.photos.looks import Look, look_at

__all__ = ["appearance", "base_table", "by_fold", "by_split", "conditions", "overlap"]

CONDITIONS = ("abnormal", "normal")  # as the report orders them
ROWS = ("test", "train", "valid")


def by_split(index: pd.DataFrame) -> pd.DataFrame:
    """Files by split and condition: rows test, train, valid, total; columns split, abnormal, normal, total."""
    counts = pd.crosstab(index["split"], index["condition"]).reindex(index=ROWS, columns=CONDITIONS, fill_value=0)
    counts.loc["total"] = counts.sum()
    counts["total"] = counts.sum(axis=1)
    return counts.rename_axis(index="split", columns=None).reset_index()


def conditions(index: pd.DataFrame) -> pd.DataFrame:
    """Files and distinct images by condition.

    Returns:
        Rows abnormal, normal, total; columns condition, count (files as listed), percent, images (distinct), and
        image_percent. An image that is listed under both conditions counts in both.
    """
    grouped = index.groupby("condition")["image"]
    table = pd.DataFrame({"count": grouped.size(), "images": grouped.nunique()})
    table = table.reindex(CONDITIONS, fill_value=0)
    table.loc["total"] = [len(index), index["image"].nunique()]
    table["percent"] = 100 * table["count"] / len(index)
    table["image_percent"] = 100 * table["images"] / max(1, index["image"].nunique())
    columns = ["condition", "count", "percent", "images", "image_percent"]
    return table.rename_axis("condition").reset_index()[columns]


def by_fold(index: pd.DataFrame) -> pd.DataFrame:
    """Files by fold, split and condition: columns fold, split, condition, count; a row for each, also where it is 0."""
    every = pd.MultiIndex.from_product(
        [sorted(index["fold"].unique()), ROWS, CONDITIONS], names=["fold", "split", "condition"]
    )
    counts = index.groupby(["fold", "split", "condition"]).size().reindex(every, fill_value=0)
    return counts.rename("count").reset_index()


def base_table(index: pd.DataFrame, root: Path | str, rows: int = 5) -> pd.DataFrame:
    """The first rows of the report's base table: columns ImgsPaths, Folder, Train_Test_Valid, Condition."""
    first = index.head(rows)
    return pd.DataFrame(
        {
            "ImgsPaths": [(Path(root) / path).as_posix() for path in first["path"]],
            "Folder": [f"Fold{fold}" for fold in first["fold"]],
            "Train_Test_Valid": first["split"],
            "Condition": first["condition"],
        }
    )


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


def appearance(index: pd.DataFrame, root: Path | str, max_megapixels: float, kept: Path | None = None) -> pd.DataFrame:
    """Mean brightness (0–255) and the colours' shares of it (0–1) of each distinct readable image.

    Args:
        index: as `read_index` returns it.
        root: folder that the index' paths start from.
        max_megapixels: larger images count as unreadable.
        kept: cache file of `look_at`.

    Returns:
        Columns image, condition, source ("" where unknown), brightness, red, green, blue; sorted by image, condition.
    """
    looks = look_at(index, Path(root), "colours", max_megapixels=max_megapixels, kept=kept)
    means = {image: one.thumbnail.mean(axis=(0, 1)) for image, one in looks.items() if isinstance(one, Look)}
    rows = index.sort_values(["image", "condition", "path"]).drop_duplicates(["image", "condition"])
    rows = rows[rows["image"].isin(means)]
    table = rows[["image", "condition"]].assign(source=rows["source"].fillna("") if "source" in rows else "")
    colours = np.array([means[image] for image in rows["image"]]).reshape(-1, 3)
    table["brightness"] = colours.mean(axis=1)
    for name, share in zip(("red", "green", "blue"), colours.T, strict=True):
        table[name] = share / np.maximum(colours.sum(axis=1), 1e-9)
    return table.round(6).reset_index(drop=True)
