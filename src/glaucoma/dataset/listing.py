"""What all layouts share: the listing they read a folder into, class folders, and what to say where nothing fits."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, listed, shown
from glaucoma.base.index import CONDITIONS
from glaucoma.dataset.beside import is_mask_folder
from glaucoma.dataset.labels import find_labels
from glaucoma.dataset.spelling import IGNORE, condition_of
from glaucoma.dataset.walk import READ, Found, by_suffix, folders, pictures, walk

__all__ = ["FOLD", "Listing", "class_folders", "complain", "looks_laid_out", "set_masks_aside"]

FOLD = re.compile(r"fold[ _-]?(\d+)", re.IGNORECASE)
ADD_CLASS = "rename it, or say which class it is in params.yaml, under data.classes: normal, abnormal, or ignore"


@dataclass
class Listing:
    """What a layout lists.

    Attributes:
        layout: folds, labels, classes, collection or sources.
        table: `path` (posix, relative to the root), `condition`; with the folds layout `fold` and `split`; with
            the others, where known, `patient`, `eye` and `source` ("" where not).
        left_out: (path, kind, reason) of every file that is not in the table: `file`, no image or outside the layout;
            `unlabelled`; `ignored`, of a class that data.classes leaves out; `mask`.
        notes: sentences for the user: columns that are not used, people that names tell.
    """

    layout: str
    table: pd.DataFrame
    left_out: list[tuple[Path, str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def leave_out(self, paths: Iterable[Path], kind: str, reason: str) -> None:
        """Note files that are left out."""
        self.left_out += [(path, kind, reason) for path in paths]

    def leave_out_all(self, found: Found, reason: str = "outside the layout") -> None:
        """Note all that a walk met."""
        self.leave_out(found.images, "file", reason)
        self.leave_out(found.others, "file", "no image")

    def counts(self) -> Counter[str]:
        """How many files are left out, by kind."""
        return Counter(kind for _, kind, _ in self.left_out)


def class_folders(
    folder: Path, classes: Mapping[str, str], listing: Listing
) -> tuple[list[tuple[Path, str]], list[str]]:
    """The images of each class folder with their class, and the folders of images that name no class."""
    members, unknown = [], []
    listing.leave_out_all(walk(folder, below=False))
    for name in folders(folder):
        found = walk(folder / name)
        condition = condition_of(name, classes)
        if condition == IGNORE:
            listing.leave_out(found.images, "ignored", f"folder {shown(name)}, which data.classes leaves out")
        elif condition is not None:
            members += [(path, condition) for path in found.images]
        elif is_mask_folder(name):
            listing.leave_out(found.images, "mask", f"mask or drawing, by the name of folder {shown(name)}")
        elif found.images:
            unknown.append(f"{shown(folder / name)} ({len(found.images)} images)")
        listing.leave_out(found.others, "file", "no image")
    return _within(members, folder, classes, listing), unknown


def _within(
    members: Sequence[tuple[Path, str]], folder: Path, classes: Mapping[str, str], listing: Listing
) -> list[tuple[Path, str]]:
    """Leave out what folders inside a class folder name as masks, or as a class that is to be left out."""
    kept = []
    for path, condition in members:
        inner = path.relative_to(folder).parts[1:-1]
        if any(condition_of(name, classes) == IGNORE for name in inner):
            listing.leave_out([path], "ignored", "in a folder that data.classes leaves out")
        elif any(map(is_mask_folder, inner)):
            listing.leave_out([path], "mask", "mask or drawing, by the name of its folder")
        else:
            kept.append((path, condition))
    return kept


def set_masks_aside(listing: Listing, masks: Iterable[Path], reason: str) -> None:
    """Move masks from a listing's table to what is left out, unless a class would be without an image."""
    out = listing.table["path"].isin(set(masks))
    if out.any() and set(listing.table["condition"][~out]) == set(CONDITIONS):
        listing.leave_out(listing.table["path"][out], "mask", reason)
        listing.table = listing.table[~out].reset_index(drop=True)


def complain(
    root: Path,
    classes: Mapping[str, str],
    missing: Sequence[str],
    unknown: Sequence[str],
    empty: Sequence[str],
    tables: Sequence[str] = (),
) -> None:
    """Raise one DataError with all that is wrong.

    A class folder of another name leaves its class empty, so empty classes are told where nothing else explains them;
    tables that were found, with what each lacks, are told as well.
    """
    if missing:
        found = f"folds in {shown(root)} are not split as they should be:{listed(missing, most=30)}"
        remedy = "each FoldK needs a train, a test and a valid folder; if they are no folds, set data.layout to classes"
        if unknown:
            found += f"\n  and folders that name no class:{listed(unknown)}"
        raise DataError(found, remedy)
    beside = f"\n  and tables that do not say which image is of which class:{listed(tables, most=3)}" if tables else ""
    if unknown:
        names = ", ".join(shown(name) for name in classes)
        below = next((root / name for name in folders(root) if looks_laid_out(root / name, classes)), None)
        remedy = f"set data.root to {shown(below)}, which has a layout" if below else ADD_CLASS
        if tables and not below:
            remedy += "; or mend the table: a header with image and label, a row per image"
        raise DataError(f"folders that name no class (known: {names}):{listed(unknown)}{beside}", remedy)
    remedy = "add images of that class, or say which folder or label it is under data.classes in params.yaml"
    if lost := pictures(walk(root).others):
        beside += f"\n  and pictures that are not read for their suffix: {by_suffix(lost)} ({READ})"
        remedy = f"save them as PNG or JPEG; or {remedy}"
    raise DataError(f"no images of a class:{listed(empty)}{beside}", remedy)


def looks_laid_out(folder: Path, classes: Mapping[str, str]) -> bool:
    """Whether a folder below data.root, which an archive may have brought, is what data.root should be."""
    names = folders(folder)
    known = {condition_of(name, classes) for name in names} & set(CONDITIONS)
    return find_labels(folder) is not None or bool(known) or any(FOLD.fullmatch(name) for name in names)
