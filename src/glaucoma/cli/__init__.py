"""The command `glaucoma`: one module per group of subcommands, each with `add(commands)` that registers them."""

from __future__ import annotations

import argparse
import sys

from glaucoma import __version__
from glaucoma.cli import audit, compare, evaluate, export, predict, profile, project
from glaucoma.stage import guarded

__all__ = ["main"]

MODULES = (project, profile, audit, compare, evaluate, predict, export)  # in the order of `glaucoma --help`


def main(argv: list[str] | None = None) -> None:
    """Run a subcommand and exit with its code: 0, that of the error, or what the command says of its own."""
    parser = argparse.ArgumentParser(
        prog="glaucoma", description="Train and judge glaucoma classifiers; see README.md."
    )
    parser.add_argument("--version", action="version", version=f"glaucoma {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for module in MODULES:
        module.add(commands)
    given = parser.parse_args(argv)
    sys.exit(guarded(lambda: given.work(given)))
