"""labels.csv: which image is of which class, and, where known, of which patient and source."""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, listed, many, shown
from glaucoma.dataset.walk import is_image_name
from glaucoma.photos.images import SUFFIXES

__all__ = ["find_labels", "read_labels", "read_rows"]

REQUIRED, OPTIONAL = ("image", "label"), ("patient", "eye", "source")


def find_labels(root: Path) -> Path | None:
    """The file labels.csv in a folder, in any case, or None."""
    return next((path for path in sorted(root.iterdir()) if path.name.lower() == "labels.csv"), None)


def read_labels(
    path: Path, root: Path, condition_of: Callable[[str], str | None], known: Sequence[str]
) -> pd.DataFrame:
    """Read and check labels.csv.

    Columns are found by name in any order; comma, semicolon and tab separate them; images are named relative to `root`
    or absolutely, and lie within it.

    Args:
        path: the file.
        root: the folder of images.
        condition_of: class of a label, or None.
        known: label names, for messages.

    Returns:
        One row per image: `path` (below `root`), `condition` and, where the columns exist, `patient`, `eye`, `source`.

    Raises:
        DataError: with all rows that cannot be used, by kind.
    """
    rows = _read_rows(path)
    problems: dict[str, list[str]] = {}
    first_line: dict[Path, int] = {}
    kept = []
    for line, row in rows:

        def problem(kind: str, what: str = "", line: int = line) -> None:
            problems.setdefault(kind, []).append(f"line {line}" + (f": {what}" if what else ""))

        name, label = row["image"], row["label"]
        image = _locate(name, root)
        condition = condition_of(label)
        if row["extra"]:
            problem("with more cells than the header; quote names that hold the separator", shown(name))
        elif not name:
            problem("without an image")
        elif image is None:
            problem("whose image lies outside data.root", shown(name))
        elif not image.is_file():
            problem("whose image is not on disk", shown(name))
        elif not is_image_name(image.name):
            problem(f"whose image has another suffix than {' '.join(sorted(SUFFIXES))}", shown(name))
        elif first_line.setdefault(image, line) != line:
            problem("whose image is listed before", f"{shown(name)} (line {first_line[image]})")
        elif not label:
            problem("without a label", shown(name))
        elif condition is None:
            names = ", ".join(map(shown, known))
            problem(f"with an unknown label (known: {names})", f"{shown(name)} is {shown(label)!r}")
        else:
            kept.append({"path": image, "condition": condition, **{key: row[key] for key in OPTIONAL if key in row}})
    if problems:
        kinds = [f"\n  {many(len(lines), 'row')} {kind}:{listed(lines)}" for kind, lines in problems.items()]
        remedy = f"mend {shown(path.name)}; further label names go under data.classes in params.yaml"
        raise DataError(f"{shown(path)} cannot be used:" + "".join(kinds), remedy)
    return pd.DataFrame(kept)


def _read_rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Line number and cells by column name (`extra`: cells beyond the header) of each row that is not blank."""
    content = path.read_bytes()
    utf16 = content.startswith((b"\xff\xfe", b"\xfe\xff"))  # Excel's "Unicode text"
    # Names of files can hold bytes that are no valid text; they pass through to the file system as they are
    text = content.decode("utf-16" if utf16 else "utf-8-sig", "replace" if utf16 else "surrogateescape")
    header = text.partition("\n")[0]
    delimiter = max(",;\t|", key=header.count)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)
    try:
        columns = [cell.strip().lower() for cell in next(reader, [])]
        wanted = (*REQUIRED, *OPTIONAL)
        missing = [name for name in REQUIRED if name not in columns]
        twice = [name for name in wanted if columns.count(name) > 1]
        if missing or twice:
            fault = f"has no column {' and '.join(missing)}" if missing else f"has two columns {twice[0]}"
            there = ", ".join(map(shown, columns)) or "none"
            remedy = "its first line is to be image,label[,patient,eye,source]"
            raise DataError(f"{shown(path)} {fault} (columns: {there})", remedy)
        rows = []
        for cells in reader:
            if any(cell.strip() for cell in cells):
                cells += [""] * (len(columns) - len(cells))
                row = {name: cells[columns.index(name)] for name in wanted if name in columns}
                row = {name: cell if name == "image" else cell.strip() for name, cell in row.items()}
                rows.append((reader.line_num, {**row, "extra": "".join(cells[len(columns) :])}))
    except csv.Error as error:
        raise DataError(f"{shown(path)}, line {reader.line_num}: {error}", "save it as UTF-8 CSV") from error
    if not rows:
        raise DataError(f"{shown(path)} lists no images", "add a line per image: image,label")
    return rows


def _locate(name: str, root: Path) -> Path | None:
    """The file a cell names, as a path below `root`; None where it leaves it."""
    if "\0" in name:
        return root / "\ufffd"  # no file system has such a name: reported as not on disk
    # Not resolve(): a link within the root may lead out of it, a name may not
    starts = (os.path.abspath(root), os.path.realpath(root))  # noqa: PTH100
    below = None
    for spelling in (name, name.strip(), name.strip().replace("\\", "/")):  # as it stands; padded; from Windows
        for start in starts:
            inside = Path(os.path.relpath(os.path.join(start, spelling), start))  # noqa: PTH118
            if os.pardir not in inside.parts:
                below = below or root / inside
                if (root / inside).is_file():
                    return root / inside
    return below


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
