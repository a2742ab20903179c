"""Label tables as published collections hand them out: CSV, Excel or JSON, perhaps under a title of several rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError
from glaucoma.base.names import shown

__all__ = ["read_rows"]

TITLE = 10  # rows in which the header is looked for


def read_rows(path: Path, columns: Mapping[str, str]) -> list[dict[str, str]]:
    """The rows of a table whose image and label are filled in.

    Args:
        path: .csv, .xlsx or .json (a mapping of records).
        columns: our name of each column → its names there in lower case, apart by `|` ("" is a nameless first column).
            `image` and `label` have to be there.

    Raises:
        DataError: it cannot be read, or no row of its first ten names the columns.
    """
    try:
        if path.suffix.lower() == ".json":
            frame = pd.DataFrame(json.loads(path.read_bytes()).values()).astype(str)
            cells = [list(frame.columns), *frame.to_numpy().tolist()]
        else:
            options = {"header": None, "dtype": str, "keep_default_na": False}
            excel = path.suffix.lower() == ".xlsx"
            frame = pd.read_excel(path, **options) if excel else pd.read_csv(path, encoding_errors="replace", **options)
            cells = frame.fillna("").astype(str).to_numpy().tolist()
    except Exception as error:  # a damaged archive inside .xlsx can raise nearly anything
        reason = str(error).partition("\n")[0]
        raise DataError(f"{shown(path)} cannot be read as a table: {reason}", "unpack the archive again") from error
    for number, header in enumerate(cells[:TITLE]):
        names = [str(cell).strip().lower() for cell in header]
        places = {ours: _place(names, theirs) for ours, theirs in columns.items()}
        if all(places[name] is not None for name in ("image", "label")):
            there = {ours: at for ours, at in places.items() if at is not None}
            rows = [{ours: str(row[at]).strip() for ours, at in there.items()} for row in cells[number + 1 :]]
            return [row for row in rows if row["image"] and row["label"]]
    wanted = " and ".join(repr(columns[name]) for name in ("image", "label"))
    raise DataError(f"{shown(path)} has no columns {wanted}", "unpack the archive again, or write a labels.csv")


def _place(names: list[str], theirs: str) -> int | None:
    for name in theirs.split("|"):
        if name in names and (name or names[0] == ""):
            return names.index(name)
    return None
