"""What all layouts share: the listing they read a folder into, class names, and what to say where nothing fits."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, listed, shown
from glaucoma.dataset.labels import find_labels
from glaucoma.dataset.walk import Found, folders, walk

__all__ = ["FOLD", "Listing", "class_folders", "complain", "condition_of"]

FOLD = re.compile(r"fold[ _-]?(\d+)", re.IGNORECASE)
ADD_CLASS = "rename it, or say which class it is in params.yaml, under data.classes"


@dataclass
class Listing:
    """What a layout lists.

    Attributes:
        layout: folds, labels, classes, collection or sources.
        table: `path` (posix, relative to the root), `condition`; with the folds layout `fold` and `split`; with
            the others, where known, `patient`, `eye` and `source` ("" where not).
        ignored_files: files that are no images, or lie outside the layout.
        unlabelled_images: images that labels.csv or a collection's tables do not list, or only as suspects.
    """

    layout: str
    table: pd.DataFrame
    ignored_files: int = 0
    unlabelled_images: int = 0


def condition_of(name: str, classes: Mapping[str, str]) -> str | None:
    """The class of a folder or label name, matched as it stands or else in any case; None where unknown or unclear."""
    if name in classes:
        return classes[name]
    matches = {condition for known, condition in classes.items() if known.casefold() == name.casefold()}
    return matches.pop() if len(matches) == 1 else None


def class_folders(folder: Path, classes: Mapping[str, str], ignored: Found) -> tuple[list[tuple[Path, str]], list[str]]:
    """The images of each class folder with their class, and the folders of images that name no class."""
    members, unknown = [], []
    ignored.ignore(walk(folder, below=False))
    for name in folders(folder):
        found = walk(folder / name)
        ignored.others += found.others
        condition = condition_of(name, classes)
        if condition is not None:
            members += [(path, condition) for path in found.images]
        elif found.images:
            unknown.append(f"{shown(folder / name)} ({len(found.images)} images)")
    return members, unknown


def complain(root: Path, classes: Mapping[str, str], missing: list[str], unknown: list[str], empty: list[str]) -> None:
    """Raise one DataError with all that is wrong.

    A class folder of another name leaves its class empty, so empty classes are told where nothing else explains them.
    """
    if missing:
        found = f"folds in {shown(root)} are not split as they should be:{listed(missing, most=30)}"
        remedy = "each FoldK needs a train, a test and a valid folder; if they are no folds, set data.layout to classes"
        if unknown:
            found += f"\n  and folders that name no class:{listed(unknown)}"
        raise DataError(found, remedy)
    if unknown:
        names = ", ".join(shown(name) for name in classes)
        below = next((root / name for name in folders(root) if _looks_laid_out(root / name, classes)), None)
        remedy = f"set data.root to {shown(below)}, which has a layout" if below else ADD_CLASS
        raise DataError(f"folders that name no class (known: {names}):{listed(unknown)}", remedy)
    remedy = "add images of that class, or say which folder or label it is under data.classes in params.yaml"
    raise DataError(f"no images of a class:{listed(empty)}", remedy)


def _looks_laid_out(folder: Path, classes: Mapping[str, str]) -> bool:
    """Whether a folder below data.root, which an archive may have brought, is what data.root should be."""
    names = folders(folder)
    return find_labels(folder) is not None or any(FOLD.fullmatch(name) or condition_of(name, classes) for name in names)
