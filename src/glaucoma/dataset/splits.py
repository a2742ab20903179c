"""Join the index with the pixels: rows and labels of each split of a fold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv
from glaucoma.base.index import SPLITS

__all__ = ["COPIES", "SPLITS", "Dataset", "Split", "contamination", "load_dataset", "read_clusters"]

OPTIONAL = ("patient", "source")  # columns that an index has if its layout provides them


@dataclass(frozen=True)
class Split:
    """The distinct images of one split of a fold, sorted by content id.

    Attributes:
        images: content ids (SHA-256, hex), n of them.
        rows: int64 (n,), each image's row in the pixels.
        abnormal: bool (n,).
        patients, sources: n each, "" for an image without one; empty if the index has no such column.
    """

    images: tuple[str, ...]
    rows: np.ndarray
    abnormal: np.ndarray
    patients: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.images)

    def take(self, places: Sequence[int] | np.ndarray) -> Split:
        """The images at these positions, in the given order."""
        kept = [
            tuple(values[i] for i in places) if values else () for values in (self.images, self.patients, self.sources)
        ]
        places = np.asarray(places, dtype=np.int64)
        return Split(kept[0], self.rows[places], self.abnormal[places], *kept[1:])


@dataclass(frozen=True)
class Dataset:
    """All folds of an index, and the pixels they share.

    Attributes:
        pixels: uint8 (images, size, size, 3), memory-mapped, each distinct image once.
        table: one row per fold, split and image: columns fold, split, image, abnormal, row and, if the index has them,
            patient and source ("" if unknown).
    """

    pixels: np.ndarray
    table: pd.DataFrame

    @property
    def folds(self) -> list[int]:
        """Fold numbers of the index, ascending."""
        return sorted(self.table["fold"].unique().tolist())

    def fold(self, number: int) -> dict[str, Split]:
        """The splits `train`, `test` and `valid` of a fold.

        Raises:
            DataError: no such fold, or one of its splits has no usable image or only one class to train on.
        """
        rows = self.table[self.table["fold"] == number]
        if rows.empty:
            known = ", ".join(map(str, self.folds))
            raise DataError(f"there is no fold {number}; the index has {known}", "fix crossval.folds or search.fold")
        splits = {name: _split(rows[rows["split"] == name]) for name in SPLITS}
        for name, split in splits.items():
            if not len(split):
                raise DataError(f"fold {number} has no usable image in {name}", "look at metrics/audit.json")
        if splits["train"].abnormal.all() or not splits["train"].abnormal.any():
            one = "abnormal" if splits["train"].abnormal.all() else "normal"
            raise DataError(f"fold {number} has only {one} images to train on", "give both classes images in train")
        return splits


def load_dataset(index: Path, pixels: Path, pixels_table: Path) -> Dataset:
    """Join the index with the decoded images; undecodable images that were dropped are left out.

    Raises:
        DataError: the files are missing or do not match.
    """
    for path in (index, pixels, pixels_table):
        if not path.is_file():
            raise DataError(f"{path} does not exist", "run `dvc repro`, which makes it")
    columns = ["fold", "split", "condition", "image", *OPTIONAL]
    listed = read_csv(index, usecols=lambda name: name in columns, dtype=dict.fromkeys(OPTIONAL, str))
    listed = listed.fillna(dict.fromkeys(OPTIONAL, ""))
    decoded = read_csv(pixels_table, usecols=["image"])
    array = np.load(pixels, mmap_mode="r")
    if len(decoded) != len(array):
        raise DataError(
            f"{pixels} holds {len(array)} images, {pixels_table} lists {len(decoded)}", "`dvc repro -f pixels`"
        )
    decoded["row"] = np.arange(len(decoded))
    table = listed.drop_duplicates(["fold", "split", "image"]).merge(decoded, on="image", validate="many_to_one")
    table["abnormal"] = table.pop("condition") == "abnormal"
    return Dataset(array, table.sort_values(["fold", "split", "image"], ignore_index=True))


def contamination(
    split: Split, seen: Split | None, clusters: Mapping[str, str] | None = None
) -> dict[str, float | int | None]:
    """How much of a split the initial weights were trained on: the same images, near duplicates, the same patients.

    Args:
        split: the split to be scored.
        seen: the images that the initial weights were trained on; None if they saw no label.
        clusters: near duplicates: each image's cluster, by content id; None if unknown.

    Returns:
        contamination: the share of the split's images that were seen, 0 to 1; contaminated_images: their number;
        contaminated_duplicates: number of other images that are near duplicates of seen ones; contaminated_patients:
        number of remaining images of patients with seen images. None if near duplicates or patients are unknown.
    """
    images = frozenset(seen.images if seen else ())
    patients = frozenset(seen.patients if seen else ()) - {""}
    near = None if clusters is None else {clusters[image] for image in images if image in clusters}
    found = {"images": 0, "duplicates": 0, "patients": 0}
    for i, image in enumerate(split.images):
        if image in images:
            found["images"] += 1
        elif near and clusters and clusters.get(image) in near:
            found["duplicates"] += 1
        elif split.patients and split.patients[i] in patients:
            found["patients"] += 1
    return {
        "contamination": found["images"] / len(split),
        "contaminated_images": found["images"],
        "contaminated_duplicates": None if near is None else found["duplicates"],
        "contaminated_patients": found["patients"] if split.patients else None,
    }


def _split(rows: pd.DataFrame) -> Split:
    known = [tuple(rows[name]) if name in rows else () for name in OPTIONAL]
    return Split(tuple(rows["image"]), rows["row"].to_numpy(np.int64), rows["abnormal"].to_numpy(bool), *known)


COPIES = paths.AUDIT / "duplicates.csv"


def read_clusters(file: Path = COPIES) -> dict[str, str]:
    """The photograph of each image that has copies, by content id; images without copies are not included.

    Raises:
        DataError: the audit's table is missing or damaged.
    """
    try:
        table = read_csv(file, usecols=["first", "second", "cluster"], dtype=str)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", "make it with `dvc repro audit`") from None
    except ValueError as error:
        raise DataError(f"{file} is no table of copies: {error}", "make it again: `dvc repro -f audit`") from error
    ends = np.concatenate([table["first"], table["second"]])
    return dict(zip(ends.tolist(), np.tile(table["cluster"], 2).tolist(), strict=True))
