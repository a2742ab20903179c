"""Read tables in common formats (CSV with any separator and encoding, TSV, spreadsheets, JSON) as rows of text."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, shown

__all__ = ["read_cells", "read_rows"]

TITLE = 10  # rows searched for the header
SEPARATOR = re.compile(r"sep=(.)\s*$")  # Excel's first line


def read_cells(path: Path) -> list[tuple[int, list[str]]]:
    """Line number (row, in a spreadsheet) and cells of every row that is not blank.

    Raises:
        DataError: the file cannot be read as a table.
    """
    suffix = path.suffix.lower()
    if suffix not in (".xlsx", ".xls", ".json"):
        return _read_text(path)
    try:
        if suffix == ".json":
            content = json.loads(path.read_bytes())
            frame = pd.DataFrame(list(content.values()) if isinstance(content, dict) else content)
            rows = [list(map(str, frame.columns)), *frame.fillna("").astype(str).to_numpy().tolist()]
        else:
            frame = pd.read_excel(path, header=None, dtype=str, keep_default_na=False)
            rows = frame.fillna("").astype(str).to_numpy().tolist()
    except Exception as error:  # a damaged archive inside .xlsx can raise nearly anything
        reason = str(error).partition("\n")[0]
        remedy = "save it as .xlsx or .csv, or unpack the archive again"
        raise DataError(f"{shown(path)} cannot be read as a table: {reason}", remedy) from error
    return [(line, row) for line, row in enumerate(rows, 1) if any(cell.strip() for cell in row)]


def _read_text(path: Path) -> list[tuple[int, list[str]]]:
    content = path.read_bytes()
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # Excel's "Unicode text"
    # File names can contain bytes that are not valid text; they are passed to the file system unchanged
    text = content.decode("utf-16" if utf16 else "utf-8-sig", "replace" if utf16 else "surrogateescape")
    first, _, rest = text.partition("\n")
    told = SEPARATOR.match(first)
    delimiter = told[1] if told else max(",;\t|", key=first.count)
    text = f"\n{rest}" if told else text  # a blank line, so that lines keep their numbers
    text = re.sub(rf'({re.escape(delimiter)}) +"', r'\1"', text)  # image, "label"
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        return [(reader.line_num, cells) for cells in reader if any(cell.strip() for cell in cells)]
    except csv.Error as error:
        raise DataError(f"{shown(path)}, line {reader.line_num}: {error}", "save it as UTF-8 CSV") from error


def read_rows(path: Path, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of a collection's table whose image and label are filled in.

    Args:
        path: as for `read_cells`.
        columns: our name of each column → its names in the table in lower case, separated by `|` ("" is an unnamed
            first column). `image` and `label` are required.

    Raises:
        DataError: the file cannot be read, or none of its first ten rows names the columns.
    """
    cells = [row for _, row in read_cells(path)]
    for number, header in enumerate(cells[:TITLE]):
        names = [cell.strip().lower() for cell in header]
        places = {ours: _place(names, theirs) for ours, theirs in columns.items()}
        if all(places[name] is not None for name in ("image", "label")):
            there = {ours: at for ours, at in places.items() if at is not None}
            below = [row + [""] * (len(names) - len(row)) for row in cells[number + 1 :]]
            rows = [{ours: row[at].strip() for ours, at in there.items()} for row in below]
            return [row for row in rows if row["image"] and row["label"]]
    wanted = " and ".join(repr(columns[name]) for name in ("image", "label"))
    raise DataError(f"{shown(path)} has no columns {wanted}", "unpack the archive again, or write a labels.csv")


def _place(names: list[str], theirs: str) -> int | None:
    for name in theirs.split("|"):
        if name in names and (name or names[0] == ""):
            return names.index(name)
    return None
