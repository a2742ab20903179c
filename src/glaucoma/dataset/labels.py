"""Read label tables of any name: the class of each image and, if known, its patient, eye and source.

labels.csv in the folder is always used; other tables are used if they name images and classes.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, listed, many, shown
from glaucoma.base.index import ABNORMAL, CONDITIONS, KNOWN
from glaucoma.dataset.beside import VARIANTS, is_mask_folder, is_mask_name
from glaucoma.dataset.spelling import ANSWERS, COLUMNS, IGNORE, LETTERS, condition_of, eye_of, plain
from glaucoma.dataset.tables import read_cells
from glaucoma.dataset.walk import is_image
from glaucoma.photos.images import DICOM, SUFFIXES

__all__ = ["UNUSED", "Labels", "Table", "find_labels", "find_tables", "read_labels", "read_people", "understand"]

TITLE = 10  # rows searched for the header
UNUSED = "columns that are not used"
STRAY = re.compile("[\udc80-\udcff]")  # bytes of another encoding, as `read_cells` lets them through
NOT_AN_IMAGE = f"another suffix than {' '.join(sorted(SUFFIXES | DICOM))}"


def find_labels(root: Path) -> Path | None:
    """The file labels.csv (any case) in a folder, or None."""
    return next((path for path in sorted(root.iterdir()) if path.name.lower() == "labels.csv"), None)


@dataclass
class Table:
    """A table with its recognised columns, or the reason why it is not a label table.

    Attributes:
        path: the file.
        places: column of `image`, `label` or `yes` (0/1 for glaucoma), and of the optional fields.
        hot: column → class, for one-hot labels.
        rows: line number and cells, below the header.
        header: the column names as written.
        lacks: why it is not a label table, or "".
    """

    path: Path
    places: dict[str, int] = field(default_factory=dict)
    hot: dict[int, str] = field(default_factory=dict)
    rows: list[tuple[int, list[str]]] = field(default_factory=list)
    header: list[str] = field(default_factory=list)
    lacks: str = ""

    def name_of(self, name: str) -> str:
        """The name, as written, of the column that is one of ours."""
        return self.header[self.places[name]]

    def cell(self, row: list[str], name: str) -> str:
        """A row's cell for one of our columns; "" if there is none."""
        at = self.places.get(name, len(row))
        return row[at] if at < len(row) else ""


@dataclass
class Labels:
    """The content of label tables.

    Attributes:
        table: one row per image: `path` (below the root), `condition` and, if the columns exist, those of
            `glaucoma.base.index.KNOWN`.
        left_out: images of neither class, with the reason.
        unused: a sentence for each table with unused columns.
    """

    table: pd.DataFrame
    left_out: list[tuple[Path, str]]
    unused: list[str]


class Finder:
    """Finds the image named by a cell: relative to the root, absolute, without folder or suffix, in any case."""

    def __init__(self, root: Path, images: Sequence[Path]):
        self.root = root
        # Not resolve(): links may lead out of the root, names may not
        self.starts = (os.path.abspath(root), os.path.realpath(root))  # noqa: PTH100
        self.images = frozenset(images)
        self.by_name: dict[str, list[Path]] = defaultdict(list)
        for path in images:
            for key in {_key(path.name), _key(path.stem)}:
                self.by_name[key].append(path)

    def find(self, cell: str) -> tuple[Path | None, str]:
        """The file, or None and the reason; a returned file may still be missing or have a name of no image."""
        if "\0" in cell:
            return None, "is not on disk"  # invalid in every file system
        below = None
        for spelling in (cell, cell.strip(), cell.strip().replace("\\", "/")):  # as written; padded; from Windows
            for start in self.starts:
                inside = Path(os.path.relpath(os.path.join(start, spelling), start))  # noqa: PTH118
                if os.pardir not in inside.parts:
                    below = below or self.root / inside
                    if (self.root / inside).is_file():
                        return self.root / inside, ""
        fitting = self._fitting(cell.strip().replace("\\", "/"))
        if len(fitting) == 1:
            return fitting[0], ""
        if fitting:
            return None, "has a name that several files have; give its folder"
        return None, "is not on disk" if below else "lies outside data.root"

    def near(self, cell: str) -> str:
        """What to say of files that have a cell's name but for the suffix; "" where there are none."""
        name = cell.strip().strip("'\"").replace("\\", "/").rpartition("/")[2]
        alike = self.by_name.get(_key(os.path.splitext(name)[0]), []) or self.by_name.get(_key(name), [])  # noqa: PTH122
        told = [shown(path.relative_to(self.root)) for path in alike[:3]]
        return f" (there is {' and '.join(told)})" if told else ""

    def _fitting(self, cell: str) -> list[Path]:
        """Files with the name, narrowed by matching folders; masks and variants only if there are no others."""
        for spelling in (cell, _readable(cell), cell.removesuffix(".0")):
            parts = [_key(part) for part in spelling.split("/") if part]
            fitting = self.by_name.get(parts[-1], []) if parts else []
            fitting = [path for path in fitting if not self._beside(path)] or fitting
            for part_count in range(2, len(parts) + 1):
                deeper = [p for p in fitting if [_key(x) for x in p.parts[-part_count:-1]] == parts[-part_count:-1]]
                fitting = deeper or fitting
            if fitting:
                return fitting
        return []

    def _beside(self, path: Path) -> bool:
        inner = path.relative_to(self.root).parts[:-1]
        return is_mask_name(path) or any(is_mask_folder(name) or VARIANTS.search(name) for name in inner)


def _readable(cell: str) -> str:
    """A cell's text where the table is in Windows' code page, as Excel saves CSV, and so no valid UTF-8."""
    if not any("\udc80" <= c <= "\udcff" for c in cell):  # no bytes that are no UTF-8
        return cell
    try:
        return cell.encode("utf-8", "surrogateescape").decode("cp1252")
    except UnicodeDecodeError:
        return cell


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def find_tables(root: Path, tables: Sequence[Path], images: Sequence[Path], patients: str) -> list[Table]:
    """The tables below a folder: those that label the most images first, incomplete ones last."""
    finder = Finder(root, images)
    told = [(understand(path, patients, finder), path) for path in tables if path.name.lower() != "folds.csv"]
    counts = {}
    for table, path in told:
        if not table.lacks:
            found = [finder.find(table.cell(row, "image")) for _, row in table.rows]
            counts[path] = sum(image is not None for image, _ in found)
            if not counts[path]:
                name, column = (shown(one) for one in (table.cell(table.rows[0][1], "image"), table.name_of("image")))
                table.lacks = f"its column {column} names no image here: {name!r} {found[0][1] or 'is empty'}"
    return [table for table, path in sorted(told, key=lambda one: (bool(one[0].lacks), -counts.get(one[1], 0)))]


def understand(path: Path, patients: str = "auto", finder: Finder | None = None) -> Table:
    """Read a table and recognise its columns; `lacks` says what is missing.

    Args:
        path: the file.
        patients: data.patients: auto, none, or the column.
        finder: recognises the column of images by its cells, whatever its name.
    """
    table = Table(path)
    try:
        cells = read_cells(path)
    except DataError as error:
        table.lacks = error.found
        return table
    for at, (_, row) in enumerate(cells[:TITLE]):
        one = Table(path, header=[_readable(cell).strip() for cell in row], rows=cells[at + 1 :])
        _columns(one, patients, finder)
        if not one.lacks:
            return one
        table = table if table.lacks else one  # report what the first row lacks
    table.lacks = table.lacks or "is empty, so it has no column image and label"
    return table


def _columns(table: Table, patients: str, finder: Finder | None) -> None:
    """Recognise a table's columns."""
    names = [plain(cell) for cell in table.header]
    for ours, theirs in COLUMNS.items():
        exact = [at for at, cell in enumerate(table.header) if cell.lower() == ours]
        if len(exact) > 1:
            table.lacks = f"has two columns {ours}"
            return
        known = [names.index(name) for name in theirs.split() if name in names]
        if exact or known:
            table.places[ours] = (exact or known)[0]
    if patients != "auto":
        table.places.pop("patient", None)
        if patients != "none" and plain(patients) in names:
            table.places["patient"] = names.index(plain(patients))
    if {"label", "yes"} <= table.places.keys() and table.header[table.places["label"]].lower() != "label":
        del table.places["yes" if _says_classes(table) else "label"]
    each = {at: LETTERS.get(names[at]) or condition_of(cell, {}) for at, cell in enumerate(table.header)}
    hot = {at: condition for at, condition in each.items() if condition}
    if set(hot.values()) == set(CONDITIONS) and not _says_classes(table):
        table.hot = hot
        for ours in [ours for ours, at in table.places.items() if at in hot or ours in ("label", "yes")]:
            del table.places[ours]
    if finder and (several := _choose_image(table, finder)):
        columns = " and ".join(shown(table.header[at]) for at in several)
        table.lacks = f"names images in the columns {columns}: give each image a row, with the label of that eye"
        return
    missing = [] if "image" in table.places else ["image"]
    missing += [] if table.hot or {"label", "yes"} & table.places.keys() else ["label"]
    if missing:
        there = ", ".join(map(shown, table.header)) or "none"
        table.lacks = f"has no column {' and '.join(missing)} (columns: {there})"
    elif not table.rows:
        table.lacks = "lists no images"


def _says_classes(table: Table) -> bool:
    """Whether the label column contains class names."""
    labels = {_clean(table.cell(row, "label")) for _, row in table.rows}
    return any(condition_of(label, {}) or label.lower() in LETTERS for label in labels)


def _choose_image(table: Table, finder: Finder) -> list[int]:
    """Choose the column whose cells name images: of the likely names, else the only one.

    Returns:
        The columns, if several name images and none has a likely name.
    """
    names = [plain(cell) for cell in table.header]

    def tells(at: int, numbers: bool = True) -> bool:
        cells = [row[at].strip() for _, row in table.rows[:50] if at < len(row)]
        return any(cell and (numbers or not _clean(cell).isdecimal()) and finder.find(cell)[0] for cell in cells)

    likely = [names.index(name) for name in COLUMNS["image"].split() if name in names]
    chosen = next(filter(tells, likely), None)
    if chosen is None:
        others = [at for at in range(len(names)) if tells(at, numbers=False)]  # numbers may count people, or rows
        if len(others) > 1:
            return others
        chosen = others[0] if others else None
    if chosen is not None:
        rest = {ours: at for ours, at in table.places.items() if ours != "image" and at != chosen}
        table.places = {"image": chosen, **rest}
        table.hot.pop(chosen, None)
    return []


def _clean(label: str) -> str:
    """A label without the decoration of spreadsheets and lists: `1.0` → 1, `['G']` → G."""
    return re.sub(r"^(-?\d+)\.0+$", r"\1", _readable(label).strip().strip("[]'\" "))


def read_labels(tables: Sequence[Table], root: Path, images: Sequence[Path], classes: Mapping[str, str]) -> Labels:
    """Read and check label tables.

    Columns are found by name, in any order; comma, semicolon and tab are separators. Images are named relative to
    `root`, by an absolute path within it, or by a unique file name.

    Args:
        tables: from `understand` or `find_tables`, the most complete first; later ones only add new images.
        root: the folder of images.
        images: all of them, for names without folder or suffix.
        classes: class of each label.

    Raises:
        DataError: rows cannot be used (all are listed, by kind), or a table lacks columns.
    """
    finder = Finder(root, images)
    problems: dict[str, list[str]] = {}
    first: dict[Path, tuple[Table, int]] = {}
    kept, left_out, unused = [], [], []
    for table in tables:
        if table.lacks:
            remedy = "its first line must be image,label[,patient,eye,source,age,sex,camera]"
            raise DataError(f"{shown(table.path)} {table.lacks}", remedy)
        for line, row in table.rows:
            where = f"line {line}" if len(tables) == 1 else f"{shown(table.path.name)}, line {line}"

            def problem(kind: str, what: str = "", where: str = where) -> None:
                problems.setdefault(kind, []).append(where + (f": {what}" if what else ""))

            name = table.cell(row, "image")
            image, fault = finder.find(name) if name.strip() else (None, "")
            label, condition = _condition(table, row, classes)
            if any(cell.strip() for cell in row[len(table.header) :]):
                problem("with more cells than the header; quote names that hold the separator", shown(name))
            elif not name.strip():
                problem("without an image")
            elif image is None:
                problem(f"whose image {fault}", f"{shown(name)}{finder.near(name)}")
            elif not is_image(image):
                problem(f"whose image has {NOT_AN_IMAGE}", shown(name))
            elif first.setdefault(image, (table, line)) != (table, line):
                if first[image][0] is table:
                    problem("whose image is listed before", f"{shown(name)} (line {first[image][1]})")
            elif condition == IGNORE:
                left_out.append((image, f"label {shown(label)}, which data.classes leaves out"))
            elif table.hot and not label:
                left_out.append((image, "of neither class"))
            elif not label:
                problem("without a label", shown(name))
            elif condition is None:
                names = ", ".join(map(shown, sorted(classes)))
                problem(f"with an unknown label (known: {names})", f"{shown(name)} is {shown(label)!r}")
            else:
                more = _more(table, row)
                kept.append({"path": image, "condition": condition, **more})
        used = {*table.places.values(), *table.hot}
        if rest := [shown(cell) for at, cell in enumerate(table.header) if cell and at not in used]:
            unused.append(f"{shown(table.path.name)}: {UNUSED}: {', '.join(rest)}")
    if problems:
        kinds = [f"\n  {many(len(lines), 'row')} {kind}:{listed(lines)}" for kind, lines in problems.items()]
        names = " and ".join(shown(table.path.name) for table in tables)
        remedy = f"fix {names}"
        if any("unknown label" in kind for kind in problems):
            remedy += "; further label names go under data.classes in params.yaml, as normal, abnormal or ignore"
        if any(STRAY.search("".join(row)) for table in tables for _, row in table.rows):
            remedy += '; it holds bytes that are no UTF-8: save it as "CSV UTF-8"'
        whose = " and ".join(shown(table.path) for table in tables)
        raise DataError(f"{whose} cannot be used:" + "".join(kinds), remedy)
    return Labels(pd.DataFrame(kept, columns=_names(kept)), left_out, unused)


def _more(table: Table, row: list[str]) -> dict[str, str]:
    """Patient, eye and source of a row, as far as the table has columns for them."""
    more = {key: _readable(table.cell(row, key)).strip() for key in KNOWN if key in table.places}
    if "eye" in more:
        more["eye"] = eye_of(more["eye"]) or more["eye"]
    return more


def read_people(
    paths: Sequence[Path], root: Path, images: Sequence[Path], patients: str
) -> tuple[dict[Path, dict[str, str]], list[Path], list[str]]:
    """What tables beside class folders tell of images whose folder says the class: patient, and eye where known.

    Args:
        paths: tables; those without a column of images and one of patients, or that name no image here, are left alone.
        root: the folder of class folders.
        images: all of them.
        patients: data.patients: auto, none, or the column.

    Returns:
        By image its patient and eye; the tables that were used; a sentence on each.
    """
    told: dict[Path, dict[str, str]] = {}
    used, notes = [], []
    finder = Finder(root, images)
    for path in paths if patients != "none" else ():
        table = understand(path, patients, finder)
        if not {"image", "patient"} <= table.places.keys():
            continue
        found = [(finder.find(table.cell(row, "image"))[0], row) for _, row in table.rows]
        rows = {image: _more(table, row) for image, row in found if image in finder.images}
        if rows:
            told = {**rows, **told}
            used.append(path)
            columns = [shown(table.header[table.places[name]]) for name in ("image", "patient")]
            what = f"patients are those of {shown(path.name)} (image from {columns[0]}, patient from {columns[1]})"
            notes.append(f"{what}, which names {len(rows)} of {many(len(images), 'image')}")
    return told, used, notes


def _names(rows: Sequence[Mapping[str, object]]) -> list[str]:
    return ["path", "condition", *(name for name in KNOWN if any(name in row for row in rows))]


def _condition(table: Table, row: list[str], classes: Mapping[str, str]) -> tuple[str, str | None]:
    """The label of a row as written, and its class."""
    if table.hot:
        on = [at for at in table.hot if at < len(row) and ANSWERS.get(plain(_clean(row[at]))) == ABNORMAL]
        conditions = {table.hot[at] for at in on}
        return " and ".join(table.header[at] for at in on), conditions.pop() if len(conditions) == 1 else None
    label = _clean(table.cell(row, "label") if "label" in table.places else table.cell(row, "yes"))
    condition = condition_of(label, classes) or LETTERS.get(label.lower())
    if condition is None and "label" not in table.places:
        condition = ANSWERS.get(plain(label))
    return label, condition
