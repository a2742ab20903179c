"""The ways a folder of labelled photographs can be laid out, read into one listing.

Layout `folds` is FoldK/{train,test,valid}/CLASS/**; it brings its folds. `labels` is labels.csv beside images, and
`classes` is CLASS/**, `collection` is a published one (glaucoma.dataset.collections), `sources` is a folder per source,
each in any of these three; folds are drawn for all four (glaucoma.dataset.folds).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, shown
from glaucoma.base.index import CONDITIONS, SPLITS
from glaucoma.base.progress import say
from glaucoma.dataset.collections import COLLECTIONS, read_collection, recognise
from glaucoma.dataset.labels import find_labels, read_labels
from glaucoma.dataset.listing import FOLD, Listing, class_folders, complain, condition_of
from glaucoma.dataset.walk import Found, entries, folders, walk

__all__ = ["Listing", "condition_of", "scan"]

PARTS = frozenset({"train", "training", "test", "testing", "valid", "validation", "val", "dev"})


def scan(root: Path, layout: str, classes: Mapping[str, str]) -> Listing:
    """List the labelled images of a folder.

    Args:
        root: the folder (data.root).
        layout: auto, folds, labels, classes, collection or sources (data.layout).
        classes: class of each folder or label name (data.classes).

    Raises:
        DataError: the folder is missing, empty or no folder, or does not fit its layout: all that is wrong at once.
    """
    try:
        if not root.exists():
            here = "" if root.is_absolute() else f" (looked for from {shown(Path.cwd())})"
            raise DataError(f"data.root, {shown(root)}, does not exist{here}", "set data.root to your folder of images")
        if not root.is_dir():
            raise DataError(f"data.root, {shown(root)}, is a file", "set data.root to the folder that holds the images")
    except OSError as error:  # a link to itself, a name that is too long
        raise DataError(f"data.root, {shown(root)}, cannot be opened: {error.strerror}", "set another") from error
    if not entries(root):
        raise DataError(f"data.root, {shown(root)}, is empty", "put the images there, or set data.root to their folder")
    listing = READERS[_detect(root, classes) if layout == "auto" else layout](root, classes)
    listing.table["path"] = [path.relative_to(root).as_posix() for path in listing.table["path"]]
    return listing


def _detect(root: Path, classes: Mapping[str, str]) -> str:
    if any(FOLD.fullmatch(name) for name in folders(root)):
        return "folds"
    if find_labels(root):
        return "labels"
    names = folders(root)
    if {condition_of(name, classes) for name in names} >= set(CONDITIONS):
        return "classes"
    one = recognise(root, walk(root))
    if len(names) > 1 and all(_holds_a_source(root / name, classes) for name in names):
        # A collection may be unpacked in parts; among other sources it must not swallow them, even where it is most
        parts = one and all(recognise(root / name, walk(root / name)) is one for name in names)
        return "collection" if parts else "sources"
    if one:
        return "collection"
    if names:
        return "classes"
    found = walk(root, below=False)
    raise DataError(
        f"data.root, {shown(root)}, has neither FoldK folders nor labels.csv nor class folders "
        f"({len(found.images)} images, {found.others} other files)",
        "sort the images into a folder per class, or add a labels.csv with the columns image,label",
    )


def _read_folds(root: Path, classes: Mapping[str, str]) -> Listing:
    ignored, numbered = Found(), defaultdict(list)
    ignored.ignore(walk(root, below=False))
    for name in folders(root):
        match = FOLD.fullmatch(name)
        if match:
            numbered[int(match[1])].append(name)
        else:
            ignored.ignore(walk(root / name))
    if not numbered:
        raise DataError(f"data.root, {shown(root)}, holds no folder named Fold0, Fold1 …", "set data.layout to auto")
    twice = [" and ".join(map(shown, names)) for names in numbered.values() if len(names) > 1]
    if twice:
        raise DataError(f"folds that are there twice in {shown(root)}: {', '.join(twice)}", "rename or remove one each")

    rows, missing, unknown, empty = [], [], [], []
    for fold, (name,) in sorted(numbered.items()):
        inside = folders(root / name)
        ignored.ignore(walk(root / name, below=False))
        for other in inside:
            if other.lower() not in SPLITS:
                ignored.ignore(walk(root / name / other))
        for split in SPLITS:
            matches = [root / name / found for found in inside if found.lower() == split]
            if len(matches) != 1:
                there = ", ".join(map(shown, inside)) or "no folder"
                missing.append(
                    f"{shown(name)} has {'two folders' if matches else 'no folder'} {split} (there: {there})"
                )
                continue
            members, strange = class_folders(matches[0], classes, ignored)
            unknown += strange
            rows += [(path, condition, fold, split) for path, condition in members]
            without = set(CONDITIONS) - {condition for _, condition in members}
            empty += [f"{shown(matches[0].relative_to(root))}: {condition}" for condition in sorted(without)]
    if missing or unknown or empty:
        complain(root, classes, missing, unknown, empty)
    table = pd.DataFrame(rows, columns=["path", "condition", "fold", "split"])
    return Listing("folds", table, ignored_files=ignored.others)


def _read_classes(root: Path, classes: Mapping[str, str]) -> Listing:
    ignored = Found()
    members, unknown = class_folders(root, classes, ignored)
    without = set(CONDITIONS) - {condition for _, condition in members}
    if unknown or without:
        complain(root, classes, [], unknown, [f"{shown(root)}: {condition}" for condition in sorted(without)])
    return Listing("classes", pd.DataFrame(members, columns=["path", "condition"]), ignored_files=ignored.others)


def _read_labels(root: Path, classes: Mapping[str, str]) -> Listing:
    path = find_labels(root)
    if path is None:
        raise DataError(f"data.root, {shown(root)}, holds no labels.csv", "add it, or set data.layout to auto")
    found = walk(root)
    table = read_labels(path, root, lambda label: condition_of(label, classes), sorted(classes))
    without = set(CONDITIONS) - set(table["condition"])
    if without:
        complain(root, classes, [], [], [f"{shown(path)}: {condition}" for condition in sorted(without)])
    unlabelled = len(set(found.images) - set(table["path"]))
    return Listing("labels", table, ignored_files=found.others - 1, unlabelled_images=unlabelled)  # - 1: labels.csv


def _read_collection(root: Path, classes: Mapping[str, str]) -> Listing:
    found = walk(root)
    one = recognise(root, found)
    if one is None:
        known = ", ".join(one.name for one in COLLECTIONS)
        problem = f"data.root, {shown(root)}, is none of the collections known ({known})"
        raise DataError(problem, "set data.layout to auto")
    table, unlabelled = read_collection(one, root, found)
    without = set(CONDITIONS) - set(table["condition"])
    if without:
        complain(root, classes, [], [], [f"{shown(root)} ({one.name}): {name}" for name in sorted(without)])
    return Listing("collection", table, ignored_files=found.others, unlabelled_images=unlabelled)


def _read_sources(root: Path, classes: Mapping[str, str]) -> Listing:
    """A folder per source, each laid out in a way that brings no folds; `source` is the folder's name where none is."""
    whole = Listing("sources", pd.DataFrame())
    whole.ignored_files = walk(root, below=False).others + len(walk(root, below=False).images)
    tables, parts = [], []
    for name in folders(root):
        layout = _detect(root / name, classes)
        if layout in ("folds", "sources"):
            remedy = "take it out, or lay it out as class folders: folds are drawn over all sources together"
            raise DataError(f"{shown(root / name)} has {layout} of its own, which cannot be merged", remedy)
        part = READERS[layout](root / name, classes)
        if "source" not in part.table:
            part.table["source"] = ""
        if name.lower() in PARTS:  # somebody's split of one source: it is none of its own, and patients may be in two
            parts.append(name)
        else:
            part.table["source"] = part.table["source"].where(part.table["source"] != "", name)
            if "patient" in part.table:  # two sources may both have a patient 1
                known = part.table["patient"] != ""
                part.table["patient"] = (name + "/" + part.table["patient"]).where(known, "")
        tables.append(part.table)
        whole.ignored_files += part.ignored_files
        whole.unlabelled_images += part.unlabelled_images
    if not tables:
        raise DataError(f"data.root, {shown(root)}, holds no folder", "give it a folder per source")
    if parts:
        say(f"index: {' and '.join(parts)} are read as parts of one source; folds are drawn over all of their images")
    whole.table = pd.concat(tables, ignore_index=True)
    if not (whole.table["source"] != "").any():
        whole.table = whole.table.drop(columns="source")
    extra = [name for name in ("patient", "eye") if name in whole.table]
    whole.table[extra] = whole.table[extra].fillna("")
    return whole


def _holds_a_source(folder: Path, classes: Mapping[str, str]) -> bool:
    """Whether a folder is laid out in one of the ways that `sources` merges."""
    known = {condition_of(name, classes) for name in folders(folder)} >= set(CONDITIONS)
    return bool(known or find_labels(folder) or recognise(folder, walk(folder)))


READERS = {
    "folds": _read_folds,
    "labels": _read_labels,
    "classes": _read_classes,
    "collection": _read_collection,
    "sources": _read_sources,
}
