"""People and eyes from the headers of DICOM files, under made-up names; DICOM files without a photograph."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import pandas as pd

from glaucoma.base.errors import DataError, many, shown
from glaucoma.base.workers import in_threads
from glaucoma.dataset.listing import Listing
from glaucoma.dataset.people import MANY
from glaucoma.dataset.spelling import eye_of
from glaucoma.photos.dicom import INSTALL, Header, NoPhotograph, installed, read_head
from glaucoma.photos.images import SUFFIXES, Unreadable, is_dicom

__all__ = ["read_headers"]


def read_headers(listing: Listing, root: Path, *, people: bool) -> None:
    """Fill in missing `eye` and `patient` values of a listing's DICOM files, and set aside files without a photograph.

    A patient's name is derived from their first path: it is the same in every run and reveals nothing.

    Args:
        listing: paths below `root`; changed in place.
        root: data.root.
        people: whether to read patients.

    Raises:
        DataError: there are DICOM files, and pydicom is not installed.
    """
    table = listing.table
    rows = [row for row, path in table["path"].items() if PurePosixPath(path).suffix.lower() not in SUFFIXES]
    rows = [row for row in rows if is_dicom(root / table["path"][row])]
    if not rows:
        return
    if not installed():
        what = f"{many(len(rows), 'photograph')} in {shown(root)} are DICOM files, which need pydicom"
        raise DataError(what, f"install it: {INSTALL}")

    def head(path: str) -> Header | Unreadable:
        try:
            return read_head(root / path, below=root)
        except Unreadable as fault:  # reported by the audit
            return fault

    paths = table.loc[rows, "path"]
    told = dict(zip(rows, in_threads(head, paths.tolist(), "read DICOM headers", "file"), strict=True))
    for row, fault in told.items():
        if isinstance(fault, NoPhotograph):
            listing.leave_out([root / table["path"][row]], "file", str(fault))
    heads = {row: one for row, one in told.items() if isinstance(one, Header)}
    _fill(listing, "eye", {row: eye_of(one.eye) or "" for row, one in heads.items()})
    if people and not ("patient" in table and (table.loc[rows, "patient"] != "").any()):
        _tell(listing, heads)
    counts = (
        (sum(one.frames > 1 for one in heads.values()), "several frames: the first of each is read"),
        (sum(one.burned for one in heads.values()), "text burned into the picture, which may name the patient"),
        (
            sum(one.named for one in heads.values()),
            "paths that hold the patient's name, number or birth date, and paths are written to tables: rename them",
        ),
    )
    listing.notes += [f"{many(count, 'DICOM file')} with {what}" for count, what in counts if count]
    gone = [row for row, fault in told.items() if isinstance(fault, NoPhotograph)]
    listing.table = listing.table.drop(index=gone).reset_index(drop=True)


def _tell(listing: Listing, heads: dict[int, Header]) -> None:
    """Give each person in the headers a name, unless the headers do not identify people."""
    table, files = listing.table, defaultdict(list)
    sources = table["source"] if "source" in table else pd.Series("", index=table.index)
    for row, one in heads.items():
        if one.person:  # two clinics may each have a patient 1
            files[one.person, sources[row]].append(row)
    folds = table["fold"].nunique() if "fold" in table else 1
    images = sum(map(len, files.values())) / folds
    if not files:
        return
    if images > (MANY if len(files) > 1 else 2) * len(files):
        listing.notes.append(
            f"DICOM headers give {many(len(files), 'patient number')} for {many(round(images), 'image')}: these tell "
            "no people, and are not used"
        )
        return
    names = {row: _name(table.loc[rows, "path"].tolist()) for rows in files.values() for row in rows}
    _fill(listing, "patient", names)
    told = listing.table.get("eye", pd.Series("", index=table.index))
    eyes = [{told[row] for row in rows} & {"OD", "OS"} for rows in files.values()]
    listing.notes.append(
        f"DICOM headers tell {many(len(files), 'person', 'people')}, {sum(len(one) > 1 for one in eyes)} with both "
        "eyes, here under made-up names (data.patients: none, if they are no people)"
    )


def _fill(listing: Listing, column: str, values: dict[int, str]) -> None:
    """Set a column's empty cells, if there are values."""
    if not any(values.values()):
        return
    there = listing.table.get(column, pd.Series("", index=listing.table.index))
    told = pd.Series(values, dtype=object).reindex(listing.table.index).fillna("")
    listing.table = listing.table.assign(**{column: there.where(there != "", told)})


def _name(paths: Sequence[str]) -> str:
    return f"dicom-{hashlib.sha256(min(paths).encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
