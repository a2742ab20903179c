"""The command `glaucoma audit DIR`: the whole audit of a folder, without the pipeline."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from glaucoma.base import paths
from glaucoma.base.errors import AuditError, many, shown
from glaucoma.base.files import check_place
from glaucoma.base.params import load_params
from glaucoma.base.profiles import shipped_params

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Register `audit`."""
    about = "audit a folder of labelled photographs for leaks, copies and shortcuts; nothing is trained"
    parser = commands.add_parser("audit", help=about, description=f"{about}. Exit code 4: it found errors.")
    parser.add_argument("folder", metavar="DIR", type=Path, help="labelled photographs, in any layout of data.layout")
    parser.add_argument(
        "--output", metavar="FOLDER", type=Path, default=Path("audit"), help="folder to write to (default: %(default)s)"
    )
    parser.add_argument("--params", metavar="FILE", help=f"parameters (default: {paths.PARAMS}, else the shipped ones)")
    parser.add_argument("--json", action="store_true", help="print the findings as JSON: all of them, and counts")
    parser.set_defaults(work=lambda given: _audit(given.folder, given.output, given.params, as_json=given.json))


def _audit(folder: Path, output: Path, params_file: str | None, *, as_json: bool) -> int:
    """Write left_out.csv, findings.csv, duplicates.csv, probes.csv, their pictures and audit.json; print the findings.

    Returns:
        Exit code: that of AuditError if there are errors, which are printed with the rest, once.

    Raises:
        DataError, ParamsError: the folder or params.yaml cannot be used.
    """
    from glaucoma.audit.exhibits import write_found
    from glaucoma.audit.gate import audit, remedy, told, write
    from glaucoma.dataset.intake import build_index
    from glaucoma.report.figures import draw_found

    check_place(output, "--output", folder=True)
    if params_file is None and not paths.PARAMS.is_file():
        params = shipped_params()
    else:
        params = load_params(params_file or paths.PARAMS)
    classes = params.data.classes
    index, _ = build_index(
        folder,
        layout="auto",
        classes=classes,
        n_folds=None,
        held_out=0,
        seed=params.seed,
        patients=params.data.patients,
        left_out=output / "left_out.csv",
    )
    findings = audit(index, folder, params)
    table_file = write(findings, output, output / "audit.json")
    sheets = output / "sheets"
    write_found(findings.table(), findings.duplicates, index, folder, sheets, params.data.max_megapixels)
    draw_found(output, sheets, output)
    metrics = findings.metrics()
    if as_json:
        print(json.dumps({**metrics, "findings": findings.table().to_dict("records")}, indent=2))
    else:
        counts = f"{many(metrics['errors'], 'error')}, {many(metrics['warnings'], 'warning')}"
        print(f"audit of {shown(folder)}: {counts}{told(findings, table_file)}")
        print(f"tables and pictures: {shown(output)}")
        if findings.errors:
            print(f"what to do: {remedy(findings)}")
    return AuditError.exit_code if findings.errors else 0
