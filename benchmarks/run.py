"""Run all benchmarks and write their table: benchmarks/results.json and results.md (about half an hour on 2 cores).

python benchmarks/run.py                     all, into benchmarks/
python benchmarks/run.py --only stage1 fold  some, only printed; --output benchmarks replaces their rows there
python benchmarks/run.py --quick             tiny sizes, only printed; the figures mean nothing
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import asdict, fields
from pathlib import Path

import audit_tree
import decode
import fold
import lite
import starts
import workers
from measuring import Row, arguments, machine, measured, shown, table

import stage1
import stage2
from glaucoma.base.files import atomic_path, read_json, write_json
from glaucoma.base.progress import say

ALL = {
    "stage1": stage1,
    "stage2": stage2,
    "fold": fold,
    "lite": lite,
    "starts": starts,
    "decode": decode,
    "audit_tree": audit_tree,
    "workers": workers,
}
HERE = Path(__file__).resolve().parent


def text(about: dict, rows: list[Row]) -> str:
    """The table, and the machine of the measurement."""
    versions = ", ".join(f"{name} {number}" for name, number in about["versions"].items())
    where = f"{about['processor']}, {about['cores']} cores (load {about['load']} at the start), {versions}"
    later = f" Measured anew since, on the same machine: {', '.join(about['anew'])}." if about.get("anew") else ""
    took = f"All measured in {shown(about['seconds'], 's')}.{later}"
    return f"{table(rows)}\n\n{where}; random weights and textures. {took}"


def merged(file: Path, about: dict, rows: list[Row], names: list[str]) -> tuple[dict, list[Row]]:
    """Replace these rows in a file's; only these rows if it does not exist or is from another machine."""
    if not file.is_file():
        return about, rows
    found = read_json(file)
    if any(found["machine"][key] != about[key] for key in ("processor", "cores", "versions")):
        return about, rows
    new = {(row.what, row.unit): row for row in rows}
    old = [Row(**{field.name: row[field.name] for field in fields(Row)}) for row in found["rows"]]
    kept = [new.pop((row.what, row.unit), row) for row in old]
    anew = sorted({*found["machine"].get("anew", []), *names})
    return found["machine"] | {"anew": anew}, [*kept, *new.values()]


def main() -> None:
    """Run the requested benchmarks, each in its own folder."""
    parser, scale = arguments(__doc__)
    parser.add_argument("--only", nargs="+", choices=ALL, help="these benchmarks")
    parser.add_argument("--output", type=Path, help="folder for results.json and results.md")
    given = parser.parse_args()
    partial = given.only or given.quick
    about, begin, rows = machine(), time.perf_counter(), []
    for name in given.only or ALL:
        say(f"benchmark: {name}")
        with tempfile.TemporaryDirectory() as folder:
            rows += measured(ALL[name].measure, Path(folder), scale(given))
    about["seconds"] = round(time.perf_counter() - begin)
    written = text(about, rows)
    print(written)
    output = given.output or (None if partial else HERE)
    if output is not None:
        if given.only:
            about, rows = merged(output / "results.json", about, rows, given.only)
            written = text(about, rows)
        found = [asdict(row) | {"ratio": row.ratio, "reached": row.reached, "cells": row.cells()} for row in rows]
        write_json(output / "results.json", {"machine": about, "rows": found})
        with atomic_path(output / "results.md") as temporary:
            temporary.write_text(written + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
