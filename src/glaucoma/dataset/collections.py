"""The published collections of fundus photographs: their file names and label tables.

Labels come from file names (ACRIMA, the training part of REFUGE), folder names (RIM-ONE DL, EyePACS-AIROGS-light) or a
table (REFUGE, Drishti-GS, ORIGA, PAPILA, SMDG-19). Names and columns are those of the archives distributed by the
authors, or by Kaggle for ORIGA and SMDG-19.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, listed, shown
from glaucoma.base.index import KNOWN
from glaucoma.dataset.beside import VARIANTS, is_mask_folder
from glaucoma.dataset.spelling import IGNORE, condition_of, eye_of
from glaucoma.dataset.tables import read_rows
from glaucoma.dataset.walk import Found

__all__ = ["COLLECTIONS", "Collection", "read_collection", "recognise"]

PERSON = {"age": "age", "sex": "sex|gender"}
UNSURE = {"2", "-1", "suspect"}  # suspected glaucoma (PAPILA, SMDG-19): neither class, left out and counted


@dataclass(frozen=True)
class Collection:
    """A published collection.

    Attributes:
        name: its name in the column `source`.
        image: matches the end of an image's path below the root; the groups `label`, `patient`, `eye`, `part` (of the
            source) and `key` (the image's name in tables; else its stem) give the parts of the name.
        labels: class of each label, in lower case.
        table: matches the name of the label table, or None.
        columns: the table's columns for the image, the label and optionally `patient`, `eye`, `age` and `sex`; in lower
            case, several spellings separated by `|`.
        key: from a table's cell and the table's name to the image's key.
        source: from an image's key to its source, if the collection is itself a compilation.
        instead: of two folders with the same images, the one to leave out.
    """

    name: str
    image: re.Pattern[str]
    labels: Mapping[str, str]
    table: re.Pattern[str] | None = None
    columns: Mapping[str, str] | None = None
    key: Callable[[str, str], str] = lambda cell, table: Path(cell.replace("\\", "/")).stem
    source: Callable[[str], str] | None = None
    instead: str = ""


def _pattern(text: str) -> re.Pattern[str]:
    return re.compile(rf"(?:^|/){text}\.[a-z]+$", re.I)


def _papila(cell: str, table: str) -> str:
    """`#002` in patient_data_od.xlsx is RET002OD."""
    digits = re.fullmatch(r"#?(\d+)(?:\.0)?", cell)
    return f"RET{int(digits[1]):03}{Path(table).stem[-2:].upper()}" if digits else ""


COLLECTIONS = (
    Collection("ACRIMA", _pattern(r"im\d+(?P<label>_g)?_acrima"), {"_g": "abnormal", "": "normal"}),
    Collection(
        "RIM-ONE DL",
        # r1_Im001, r2_Im001; r3_N-1-L_left_half names person and eye
        _pattern(r"(?P<label>normal|glaucoma)/(?P<part>r[123])_(?:(?P<patient>[a-z]-\d+)-(?P<eye>[lr])(?=[_.]))?[^/]*"),
        {"normal": "normal", "glaucoma": "abnormal"},
        instead="partitioned_randomly",  # partitioned_by_hospital has the same 485 images
    ),
    Collection(
        "PAPILA",
        _pattern(r"(?P<patient>ret\d+)(?P<eye>od|os)"),
        {"0": "normal", "1": "abnormal"},
        table=re.compile(r"patient_data_o[ds]\.(xlsx|csv)", re.I),
        columns={"image": "id|", "label": "diagnosis", **PERSON},
        key=_papila,
    ),
    Collection(
        "REFUGE",
        # g0001 and n0001 of the training part name their class; V0001, T0001 and 0001 are labelled in tables
        _pattern(r"(?P<label>[gn])?(?:[vt])?\d{4}"),
        {"g": "abnormal", "n": "normal", "1": "abnormal", "0": "normal"},
        table=re.compile(r"(glaucoma_label_and_)?fovea_locations?\.(xlsx|csv)|index\.json", re.I),
        columns={"image": "imgname", "label": "label(glaucoma=1)|glaucoma label|label"},
    ),
    Collection(
        "Drishti-GS",
        _pattern(r"drishtigs_\d+"),
        {"normal": "normal", "glaucomatous": "abnormal"},
        table=re.compile(r"drishti-gs1_diagnosis\.(xlsx|csv)", re.I),
        columns={"image": "drishti-gs file", "label": "total", "patient": "patient id"},
        key=lambda cell, table: cell.strip("' "),
    ),
    Collection(
        "ORIGA",
        _pattern(r"\d{3}"),
        {"0": "normal", "1": "abnormal"},
        table=re.compile(r"origalist\.(csv|xlsx)", re.I),
        columns={"image": "filename", "label": "glaucoma", "eye": "eye"},
    ),
    Collection("EyePACS-AIROGS-light", _pattern(r"(?P<label>n?rg)/eyepacs-[^/]*"), {"rg": "abnormal", "nrg": "normal"}),
    Collection(
        "SMDG-19",
        _pattern(r"full-fundus/[^/]+"),
        {"0": "normal", "1": "abnormal"},
        table=re.compile(r"metadata.*\.csv", re.I),
        columns={"image": "names", "label": "types", "patient": "patient_id", "eye": "eye|laterality", **PERSON},
        key=lambda cell, table: cell,
        source=lambda key: key.rpartition("-")[0] or key,  # PAPILA-12 is from PAPILA
    ),
)


def recognise(root: Path, found: Found) -> Collection | None:
    """The collection in a folder, or None: recognised by its label table or the names of most images."""
    images = [path.relative_to(root).as_posix() for path in found.images if not _beside(path, root)]
    for one in COLLECTIONS:
        matches = [match for name in images if (match := one.image.search(name))]
        tables = one.table and any(one.table.fullmatch(path.name) for path in found.tables)
        told = one.table is None or (one.name == "REFUGE" and any(match["label"] for match in matches))
        if matches and (tables or told) and 2 * len(matches) > len(images):
            return one
    return None


def read_collection(
    one: Collection, root: Path, found: Found, classes: Mapping[str, str], patients: str = "auto"
) -> tuple[pd.DataFrame, list[tuple[Path, str, str]]]:
    """Label the images of a collection.

    Args:
        one: the collection.
        root: its folder.
        found: the files in it.
        classes: class of each folder (data.classes), if neither name nor table has the label: REFUGE's validation
            images in class folders.
        patients: data.patients; a column of this name replaces the collection's own.

    Returns:
        `path`, `condition`, `source` and, if known, the rest of `KNOWN`, one row per labelled image; and the images
        left out, as in `Listing.left_out`.

    Raises:
        DataError: a table cannot be read, or labels are unknown.
    """
    known = _known(one, root, found, patients)
    rows, strange = [], []
    left_out = [(path, "mask", "beside the photographs, by its folder") for path in found.images if _beside(path, root)]
    inside = [path for path in found.images if not _beside(path, root)]
    if one.instead and any(one.instead not in path.parts for path in inside):
        left_out += [(path, "file", f"again in {one.instead}") for path in inside if one.instead in path.parts]
        inside = [path for path in inside if one.instead not in path.parts]
    for path in inside:
        name = path.relative_to(root)
        match = one.image.search(name.as_posix())
        groups = match.groupdict() if match else {}
        told = {**groups, **known.get(path.stem.lower(), {})}
        label = (told.get("label") or "").lower().removesuffix(".0")  # spreadsheets may write 1 as 1.0
        folder = next(filter(None, (condition_of(part, classes) for part in reversed(name.parts[:-1]))), None)
        if folder == IGNORE:
            left_out.append((path, "ignored", "in a folder that data.classes leaves out"))
        elif label in UNSURE:
            left_out.append((path, "unlabelled", f"only suspected ({label})"))
        elif not match or (one.table and not label and folder is None):
            left_out.append((path, "unlabelled", f"no label in {one.name}'s names and tables"))
        elif label not in one.labels and not (one.table and not label):
            strange.append(f"{shown(name)} is {shown(label)!r}")
        else:
            source = one.source(path.stem) if one.source else f"{one.name} {told.get('part') or ''}".strip()
            row = {"path": path, "condition": one.labels.get(label, folder), "source": source}
            if eye := told.get("eye"):
                row["eye"] = eye_of(eye) or eye.upper()
            row |= {name: told[name].removesuffix(".0") for name in ("age", "sex") if told.get(name)}
            rows.append({**row, **({"patient": told["patient"].upper()} if told.get("patient") else {})})
    if strange:
        labels = ", ".join(one.labels)
        remedy = "fix the table, or list the images in a labels.csv"
        raise DataError(f"{one.name} has labels other than {labels}:{listed(strange)}", remedy)
    table = pd.DataFrame(rows, columns=["path", "condition", *KNOWN]).fillna("")
    unknown = [name for name in KNOWN if name != "source" and not (table[name] != "").any()]
    return table.drop(columns=unknown), left_out


def _known(one: Collection, root: Path, found: Found, patients: str) -> dict[str, dict[str, str]]:
    """The entries of each image in the collection's tables, by the image's key in lower case."""
    known: dict[str, dict[str, str]] = {}
    columns = dict(one.columns or {})
    if patients not in ("auto", "none"):
        columns["patient"] = patients.lower()
    for path in found.tables:
        if one.table and one.table.fullmatch(path.name):
            for row in read_rows(path, columns):
                key = one.key(row.pop("image"), path.name).lower()
                if key:
                    known.setdefault(key, {}).update({name: cell for name, cell in row.items() if cell})
    return known


def _beside(path: Path, root: Path) -> bool:
    return any(is_mask_folder(part) or VARIANTS.search(part) for part in path.relative_to(root).parts[:-1])
