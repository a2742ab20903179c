"""Read folders of labelled photographs in any supported layout into one listing.

Layout `folds` is FoldK/{train,test,valid}/CLASS/**, with its own folds. `labels` is labels.csv or another table of
images and classes, `classes` is CLASS/**, `collection` is a published one (glaucoma.dataset.collections), `sources` is
a folder per source, each in any of these three; folds are drawn for all four (glaucoma.dataset.folds). Any of them may
be nested deeper, as in unpacked archives: archive/Dataset/….
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, many, shown
from glaucoma.base.files import near
from glaucoma.base.index import CONDITIONS, KNOWN, SPLITS
from glaucoma.base.progress import say
from glaucoma.dataset.beside import is_mask_folder, is_mask_name, mask_looks
from glaucoma.dataset.collections import COLLECTIONS, read_collection, recognise
from glaucoma.dataset.headers import read_headers
from glaucoma.dataset.labels import UNUSED, Table, find_labels, find_tables, read_labels, read_people, understand
from glaucoma.dataset.listing import FOLD, Listing, class_folders, complain, looks_laid_out, set_masks_aside
from glaucoma.dataset.people import with_people
from glaucoma.dataset.spelling import IGNORE, PART, condition_of
from glaucoma.dataset.walk import READ, TABLES, by_suffix, entries, folders, is_image_name, pictures, walk

__all__ = ["Listing", "brought_folds", "scan"]


def scan(root: Path, layout: str, classes: Mapping[str, str], patients: str = "auto") -> Listing:
    """List the labelled images of a folder.

    Args:
        root: the folder (data.root).
        layout: auto, folds, labels, classes, collection or sources (data.layout).
        classes: class of each folder or label name, or `ignore` (data.classes).
        patients: auto, none, or the patient column of label tables (data.patients).

    Raises:
        DataError: the folder is missing, empty or not a folder, or does not match its layout; all problems are listed.
    """
    try:
        if not root.exists():
            here = "" if root.is_absolute() else f" (looked for from {shown(Path.cwd())})"
            raise DataError(
                f"data.root, {shown(root)}, does not exist{here}{near(root)}", "set data.root to your folder of images"
            )
        if not root.is_dir():
            raise DataError(f"data.root, {shown(root)}, is a file", "set data.root to the folder that holds the images")
    except OSError as error:  # a circular link, a name that is too long
        raise DataError(f"data.root, {shown(root)}, cannot be opened: {error.strerror}", "set another") from error
    if not entries(root):
        raise DataError(f"data.root, {shown(root)}, is empty", "put the images there, or set data.root to their folder")
    found = _detect(root, classes, patients)
    if layout == "auto":
        layout, at = found or ("classes", _complain_early(root))
    else:
        at = found[1] if found and found[0] == layout else root
    listing = READERS[layout](at, classes, patients)
    if layout != "labels":  # images listed in a table are not filtered
        set_masks_aside(listing, filter(is_mask_name, listing.table["path"]), "mask or drawing, by its name")
        set_masks_aside(listing, mask_looks(list(listing.table["path"])), "mask, by its look")
    if at != root:
        listing.notes.append(f"the photographs are in {shown(at.relative_to(root))}")
        inside = walk(at)
        apart = {*inside.images, *inside.others}
        whole = walk(root)
        listing.leave_out([path for path in whole.images if path not in apart], "file", "outside the layout")
        listing.leave_out([path for path in whole.others if path not in apart], "file", "no image")
    listing.table["path"] = [path.relative_to(root).as_posix() for path in listing.table["path"]]
    read_headers(listing, root, people=patients == "auto")
    _tell_people(listing, patients, root)
    listing.notes += _lost(listing, root, classes)
    for note in listing.notes:
        say(f"index: {note}")
    return listing


def brought_folds(root: Path, layout: str, classes: Mapping[str, str], patients: str = "auto") -> list[int]:
    """The fold numbers that FoldK folders bring, ascending; none where folds are to be drawn. Arguments as of `scan`.

    Raises:
        DataError: a folder cannot be listed.
    """
    found = _detect(root, classes, patients) if layout in ("auto", "folds") else None
    if not found or found[0] != "folds":
        return []
    return sorted({int(match[1]) for name in folders(found[1]) if (match := FOLD.fullmatch(name))})


def _lost(listing: Listing, root: Path, classes: Mapping[str, str]) -> list[str]:
    """A sentence on pictures that are left out for their suffix, by class as far as folders tell; none without them."""
    of_class = defaultdict(list)
    files = {path for path, kind, _ in listing.left_out if kind == "file" and not is_image_name(path.name)}
    for path in pictures(sorted(files)):
        named = [condition_of(part, classes) for part in path.relative_to(root).parts[:-1]]
        of_class[next((name for name in named if name in CONDITIONS), "")].append(path)
    told = [by_suffix(paths) + (f" of {name}" if name else "") for name, paths in sorted(of_class.items())]
    return [f"pictures are left out for their suffix: {'; '.join(told)} ({READ})"] if told else []


def _tell_people(listing: Listing, patients: str, root: Path) -> None:
    """Add people recognised from file names, if `data.patients` allows it."""
    if patients == "none":
        listing.table = listing.table.drop(columns="patient", errors="ignore")
    elif patients == "auto":
        listing.table, people, both = with_people(listing.table)
        if people:
            how = (
                "folds keep each together" if "fold" not in listing.table else "the audit looks for each in two splits"
            )
            listing.notes.append(
                f"file names tell {many(people, 'person', 'people')}, {both} with both eyes; {how} "
                "(data.patients: none, if they are no people)"
            )
    elif "patient" not in listing.table:
        columns = "".join(f"; {note}" for note in listing.notes if UNUSED in note)
        problem = f"no label table of {shown(root)} has data.patients' column, {shown(patients)}{columns}"
        raise DataError(problem, "set data.patients to auto, none, or a column of a label table")


def _detect(root: Path, classes: Mapping[str, str], patients: str) -> tuple[str, Path] | None:
    """The layout of a folder, and the folder at or below it that has the layout; None if no layout fits."""
    names = folders(root)
    if any(FOLD.fullmatch(name) for name in names):
        return "folds", root
    if find_labels(root):
        return "labels", root
    known = [name for name in names if condition_of(name, classes)]
    two = {condition_of(name, classes) for name in known} >= set(CONDITIONS)
    if two and not all(name.isdigit() for name in known):
        return "classes", root
    found = walk(root)
    one = recognise(root, found)
    inner = _inner(root, classes)

    def labelled() -> bool:
        return any(not table.lacks for table in find_tables(root, found.tables, found.images, patients))

    if two:  # folders 0 and 1 may be classes, or parts of an archive whose table has the labels
        return "labels" if labelled() else "classes", root
    if len(inner) > 1 and all(
        _detect(root / name, classes, patients) or looks_laid_out(root / name, classes) for name in inner
    ):
        # A collection may be unpacked in parts, but must not absorb other sources, even if it is the largest
        parts = one and all(PART.fullmatch(name) or recognise(root / name, walk(root / name)) is one for name in inner)
        return ("collection" if parts else "sources"), root
    if one:
        return "collection", root
    if labelled():
        return "labels", root
    if len(inner) == 1 and not walk(root, below=False).images:
        return _detect(root / inner[0], classes, patients)
    return None


def _inner(root: Path, classes: Mapping[str, str]) -> list[str]:
    """The folders in a folder that may contain photographs, judged by name."""
    names = [name for name in folders(root) if not is_mask_folder(name) and condition_of(name, classes) != IGNORE]
    return [name for name in names if walk(root / name).images]


def _complain_early(root: Path) -> Path:
    """The folder to name in an error about class folders: the innermost one, if archives are nested.

    Raises:
        DataError: there are no folders.
    """
    while len(folders(root)) == 1 and not walk(root, below=False).images and folders(root / folders(root)[0]):
        root = root / folders(root)[0]
    if folders(root):
        return root
    found = walk(root, below=False)
    lacking = [f"; {table.path.name} {table.lacks}" for table in find_tables(root, found.tables, found.images, "auto")]
    raise DataError(
        f"data.root, {shown(root)}, has neither FoldK folders nor labels.csv nor class folders "
        f"({many(len(found.images), 'image')}, {many(len(found.others), 'other file')}"
        f"{': ' if found.others else ''}{by_suffix(found.others)}){''.join(map(shown, lacking))}",
        "sort the images into a folder per class, or add a labels.csv with the columns image,label",
    )


def _read_folds(root: Path, classes: Mapping[str, str], patients: str) -> Listing:
    listing, numbered = Listing("folds", pd.DataFrame()), defaultdict(list)
    listing.leave_out_all(walk(root, below=False))
    for name in folders(root):
        match = FOLD.fullmatch(name)
        if match:
            numbered[int(match[1])].append(name)
        else:
            listing.leave_out_all(walk(root / name))
    if not numbered:
        raise DataError(f"data.root, {shown(root)}, holds no folder named Fold0, Fold1 …", "set data.layout to auto")
    twice = [" and ".join(map(shown, names)) for names in numbered.values() if len(names) > 1]
    if twice:
        raise DataError(f"folds that are there twice in {shown(root)}: {', '.join(twice)}", "rename or remove one each")

    rows, missing, unknown, empty = [], [], [], []
    for fold, (name,) in sorted(numbered.items()):
        inside = folders(root / name)
        listing.leave_out_all(walk(root / name, below=False))
        for other in inside:
            if other.lower() not in SPLITS:
                listing.leave_out_all(walk(root / name / other))
        for split in SPLITS:
            matches = [root / name / found for found in inside if found.lower() == split]
            if len(matches) != 1:
                there = ", ".join(map(shown, inside)) or "no folder"
                missing.append(
                    f"{shown(name)} has {'two folders' if matches else 'no folder'} {split} (there: {there})"
                )
                continue
            members, strange = class_folders(matches[0], classes, listing)
            unknown += strange
            rows += [(path, condition, fold, split) for path, condition in members]
            without = set(CONDITIONS) - {condition for _, condition in members}
            empty += [f"{shown(matches[0].relative_to(root))}: {condition}" for condition in sorted(without)]
    if missing or unknown or empty:
        complain(root, classes, missing, unknown, empty)
    listing.table = pd.DataFrame(rows, columns=["path", "condition", "fold", "split"])
    return listing


def _read_classes(root: Path, classes: Mapping[str, str], patients: str) -> Listing:
    listing = Listing("classes", pd.DataFrame())
    members, unknown = class_folders(root, classes, listing)
    without = set(CONDITIONS) - {condition for _, condition in members}
    if unknown or without:
        found = walk(root)
        tables = find_tables(root, found.tables, found.images, patients)
        lacking = [f"{shown(table.path)}: {table.lacks}" for table in tables if table.lacks]
        complain(root, classes, [], unknown, [f"{shown(root)}: {condition}" for condition in sorted(without)], lacking)
    listing.table = pd.DataFrame(members, columns=["path", "condition"])
    beside = [path for path, _, _ in listing.left_out if path.name.lower().endswith(TABLES)]
    told, used, notes = read_people(beside, root, listing.table["path"].tolist(), patients)
    for name in ("patient", "eye") if told else ():
        cells = [told.get(path, {}).get(name, "") for path in listing.table["path"]]
        listing.table = listing.table.assign(**{name: cells}) if any(cells) else listing.table
    listing.notes += notes
    listing.left_out = [one for one in listing.left_out if one[0] not in used]
    return listing


def _read_labels(root: Path, classes: Mapping[str, str], patients: str) -> Listing:
    found, path = walk(root), find_labels(root)
    tables = [understand(path, patients)] if path else find_tables(root, found.tables, found.images, patients)
    if not path:
        tables = [table for table in tables if not table.lacks] or tables[:1]
    if not tables:
        raise DataError(f"data.root, {shown(root)}, holds no labels.csv", "add it, or set data.layout to auto")
    told = read_labels(tables, root, found.images, classes)
    without = set(CONDITIONS) - set(told.table["condition"])
    if without:
        whose = " and ".join(shown(table.path) for table in tables)
        complain(root, classes, [], [], [f"{whose}: {condition}" for condition in sorted(without)])
    listing = Listing("labels", told.table, notes=told.unused)
    _note_tables(listing, tables, path)
    for image, reason in told.left_out:
        listing.leave_out([image], "ignored", reason)
    known = {*told.table["path"], *(image for image, _ in told.left_out)}
    rest = [image for image in found.images if image not in known]
    masks = {p for p in rest if is_mask_name(p) or any(map(is_mask_folder, p.relative_to(root).parts[:-1]))}
    listing.leave_out(sorted(masks), "mask", "mask or drawing, by its name")
    listing.leave_out([image for image in rest if image not in masks], "unlabelled", "in no label table")
    listing.leave_out([p for p in found.others if p not in {table.path for table in tables}], "file", "no image")
    return listing


def _note_tables(listing: Listing, tables: list[Table], path: Path | None) -> None:
    """Note which tables were used, if there is no labels.csv."""
    if path is None:
        names = " and ".join(shown(table.path.name) for table in tables)
        first = tables[0]
        columns = {"label" if name == "yes" else name: first.header[at] for name, at in first.places.items()}
        said = [f"{name} from {shown(column)}" for name, column in columns.items()]
        said += [f"label from {', '.join(shown(first.header[at]) for at in first.hot)}"] if first.hot else []
        listing.notes.insert(0, f"labels are those of {names} ({', '.join(said)})")


def _read_collection(root: Path, classes: Mapping[str, str], patients: str) -> Listing:
    found = walk(root)
    one = recognise(root, found)
    if one is None:
        known = ", ".join(one.name for one in COLLECTIONS)
        problem = f"data.root, {shown(root)}, is none of the collections known ({known})"
        raise DataError(problem, "set data.layout to auto")
    table, left_out = read_collection(one, root, found, classes, patients)
    without = set(CONDITIONS) - set(table["condition"])
    if without:
        complain(root, classes, [], [], [f"{shown(root)} ({one.name}): {name}" for name in sorted(without)])
    listing = Listing("collection", table, left_out)
    listing.leave_out(found.others, "file", "no image")
    return listing


def _read_sources(root: Path, classes: Mapping[str, str], patients: str) -> Listing:
    """Read a folder per source, each in a layout without folds; `source` defaults to the folder's name."""
    whole = Listing("sources", pd.DataFrame())
    whole.leave_out_all(walk(root, below=False))
    tables, parts = [], []
    inner = _inner(root, classes)
    for name in folders(root):
        if name not in inner:
            found = walk(root / name)
            kind = "ignored" if condition_of(name, classes) == IGNORE else "mask"
            whole.leave_out(found.images, kind, f"by the name of folder {shown(name)}")
            whole.leave_out(found.others, "file", "no image")
            continue
        layout, at = _detect(root / name, classes, patients) or ("classes", root / name)
        if layout == "folds":
            remedy = "take it out, or lay it out as class folders: folds are drawn over all sources together"
            raise DataError(f"{shown(root / name)} has {layout} of its own, which cannot be merged", remedy)
        part = READERS[layout](at, classes, patients)
        if "source" not in part.table:
            part.table["source"] = ""
        if PART.fullmatch(name):  # a predefined split is not a source of its own, and patients may be in two splits
            parts.append(name)
        else:
            part.table["source"] = part.table["source"].where(part.table["source"] != "", name)
            if "patient" in part.table:  # two sources may each have a patient 1
                known = part.table["patient"] != ""
                part.table["patient"] = (name + "/" + part.table["patient"]).where(known, "")
        tables.append(part.table)
        whole.left_out += part.left_out
        whole.notes += part.notes
    if not tables:
        raise DataError(f"data.root, {shown(root)}, holds no folder", "give it a folder per source")
    if parts:
        names = " and ".join(parts)
        whole.notes.append(f"{names} are read as parts of one source; folds are drawn over all of their images")
    whole.table = pd.concat(tables, ignore_index=True)
    if not (whole.table["source"] != "").any():
        whole.table = whole.table.drop(columns="source")
    extra = [name for name in KNOWN if name in whole.table]
    whole.table[extra] = whole.table[extra].fillna("")
    return whole


READERS = {
    "folds": _read_folds,
    "labels": _read_labels,
    "classes": _read_classes,
    "collection": _read_collection,
    "sources": _read_sources,
}
