"""The command `glaucoma`: one module per group of subcommands, each with `add(commands)` that registers them."""

from __future__ import annotations

import argparse
import sys

from glaucoma import __version__
from glaucoma.base.stage import guarded
from glaucoma.cli import audit, check, compare, evaluate, export, predict, profile, project, serve

__all__ = ["main", "parser"]

# In the order of `glaucoma --help`
MODULES = (check, project, profile, audit, compare, evaluate, predict, export, serve)


def parser() -> argparse.ArgumentParser:
    """All subcommands with their options."""
    parser = argparse.ArgumentParser(
        prog="glaucoma", description="Train and evaluate glaucoma classifiers; see README.md."
    )
    parser.add_argument("--version", action="version", version=f"glaucoma {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in MODULES:
        module.add(commands)
    return parser


def main(argv: list[str] | None = None) -> None:
    """Run a subcommand and exit with 0, the code of the error, or the code that the command returns."""
    sys.exit(guarded(lambda: _run(argv)))


def _run(argv: list[str] | None) -> object:
    given = parser().parse_args(argv)
    return given.work(given)
