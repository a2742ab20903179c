"""The report's count tables: how many files there are by fold, split and condition, and how many images those are."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glaucoma.base.names import many

__all__ = ["base_table", "by_fold", "by_split", "conditions", "copies_note"]

CONDITIONS = ("abnormal", "normal")  # as the report orders them
SPLITS = ("test", "train", "valid")


def by_split(index: pd.DataFrame) -> pd.DataFrame:
    """Files by split and condition: rows test, train, valid, total; columns split, abnormal, normal, total."""
    counts = pd.crosstab(index["split"], index["condition"]).reindex(index=SPLITS, columns=CONDITIONS, fill_value=0)
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
        [sorted(index["fold"].unique()), SPLITS, CONDITIONS], names=["fold", "split", "condition"]
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


def copies_note(index: pd.DataFrame) -> str:
    """How many images the listed files are; the report took copies of an image for samples."""
    files, images = index["path"].nunique(), index["image"].nunique()
    folds = index["fold"].nunique()
    text = f"{many(files, 'file')} = {many(images, 'distinct image')} in {many(folds, 'fold')}"
    if len(index) > files:
        text += f", each file listed {len(index) / files:.3g} times"
    unreadable = index.loc[index["width"].isna(), "image"].nunique()
    return text + (f"; {many(unreadable, 'image')} unreadable" if unreadable else "")
