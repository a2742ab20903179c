"""The command `glaucoma audit DIR`: the whole audit of a folder, without the pipeline."""

from __future__ import annotations

import argparse
from pathlib import Path

from glaucoma import paths
from glaucoma.params import load_params

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Register `audit`."""
    about = "look for what would mislead in a folder of labelled photographs, without the pipeline"
    parser = commands.add_parser("audit", help=about, description=f"{about}; exits with 4 where it finds errors")
    parser.add_argument("folder", metavar="DIR", type=Path, help="the photographs, in any layout of data.layout")
    parser.add_argument("--output", metavar="FOLDER", type=Path, default=Path("audit"), help="default: %(default)s")
    about_params = f"default: {paths.PARAMS} here, else the project's as shipped"
    parser.add_argument("--params", metavar="FILE", default=_default(), help=about_params)
    parser.set_defaults(work=lambda given: _audit(given.folder, given.output, given.params))


def _default() -> str:
    """The working folder's `params.yaml`; where there is none, that of the checkout this command comes from."""
    shipped = Path(__file__).resolve().parents[3] / paths.PARAMS
    return str(shipped if shipped.is_file() and not paths.PARAMS.is_file() else paths.PARAMS)


def _audit(folder: Path, output: Path, params_file: str) -> None:
    """Write findings.csv, duplicates.csv, probes.csv, their pictures and audit.json, print what was found.

    Raises:
        DataError, ParamsError: the folder or params.yaml cannot be used.
        AuditError: what would mislead.
    """
    from glaucoma.data.audit import audit, gate, told, write
    from glaucoma.data.intake import build_index
    from glaucoma.report.offenders import write_found

    params = load_params(params_file)
    classes = params.data.classes
    index, _ = build_index(folder, layout="auto", classes=classes, n_folds=None, held_out=0, seed=params.seed)
    findings = audit(index, folder, params)
    table_file = write(findings, output, output / "audit.json")
    write_found(index, folder, output, params.data.max_megapixels)
    print(f"audit of {folder}:{told(findings, table_file)}")
    print(findings.probes.to_string(index=False, na_rep="", float_format="{:.3f}".format))
    gate(findings, table_file)
