"""`glaucoma evaluate`: score a model on another collection; `glaucoma controls`: compare it with baselines."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError, TrainingError, listed, many
from glaucoma.base.files import check_place, read_csv, read_json
from glaucoma.base.params import load_params
from glaucoma.cli.predict import add_flips
from glaucoma.evaluate.controls import check_lines, control_lines
from glaucoma.model.likeness import drift_line

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Register `evaluate` and `controls`."""
    about = "score a trained model on another labelled collection; images of this project are left out"
    parser = commands.add_parser("evaluate", help=about, description=about)
    parser.add_argument(
        "model", help="a .keras file, a name in models/ (stage3, crossval/fold0), or crossval (the mean of all folds)"
    )
    parser.add_argument(
        "collection", type=Path, metavar="DIR", help="labelled photographs, in any layout of data.layout"
    )
    parser.add_argument(
        "--output", type=Path, metavar="DIR", help="folder to write to (default: reports/external/NAME)"
    )
    add_flips(parser)
    parser.set_defaults(work=lambda given: _evaluate(given.model, given.collection, given.output, given.flips))
    about = "compare the folds with a regression on the frozen backbone; fail if shuffled labels score above chance"
    controls = commands.add_parser("controls", help=about, description=about)
    controls.set_defaults(work=lambda given: _controls())


def _evaluate(model: str, collection: Path, output: Path | None, flips: str | None) -> None:
    """Score a model; write and print the results.

    Raises:
        ParamsError, WeightsError, DataError: an argument cannot be used.
    """
    params = load_params(paths.PARAMS)
    from glaucoma.predict.external import evaluate_external  # Keras takes seconds

    root = collection.expanduser()
    output = output or paths.REPORTS / "external" / root.absolute().name
    check_place(output, "--output", folder=True)
    found = evaluate_external(model, root, params, output, flips)
    if found.warned:
        print(f"WARNING: {found.warned}")
    counts = found.counts
    print(f"{model} ({many(counts['models'], 'network')}) on {many(found.scores['n'], 'image')} of {collection}")
    known = "not checked (no index)" if counts["known"] is None else counts["known"]
    copies = counts["copies"]
    near = "not checked (this project's photographs are not here)" if copies is None else copies
    print(f"  left out: identical to an image of this project: {known}; copies of one: {near}")
    print(f"  left out: under both labels: {counts['conflicting']}")
    if found.faults:
        print(f"  {many(len(found.faults), 'file')} cannot be read:{listed(found.faults)}")
    print(f"  {'':<30}score  95 % interval")
    for row in found.intervals.itertuples():
        of = "not defined" if pd.isna(row.value) else f"{row.value:.3f}"
        of += "" if pd.isna(row.low) else f"  {row.low:.3f} to {row.high:.3f}"
        print(f"  {row.score:<30}{of}")
    print("  counts at 0.5: " + ", ".join(f"{name} {found.scores[name]}" for name in ("tp", "fn", "tn", "fp")))
    if len(found.drift):
        from glaucoma.report.review_figures import drift_figure

        print(f"  {drift_line(found.drift)}: see drift.csv and drift.png")
        drift_figure(found.drift, output / "drift.png", f"Photographs of {root.absolute().name}")
    print(f"written: {output}/scores.json, intervals.csv, agreement.csv, predictions.csv")


def _controls() -> None:
    """Print the results of stage `controls`, and the difference of the folds' networks to them.

    Raises:
        DataError: the project has no results to compare with.
        TrainingError: shuffled labels score above chance.
    """
    try:
        found = read_json(paths.CONTROLS_METRICS)
        lines = check_lines(found)
        table = read_csv(paths.SUMMARY / "controls.csv")
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} does not exist", "run `dvc repro summary`") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"the controls cannot be read: {error}", "make them again: `dvc repro -f controls`") from None
    print("means over the folds on valid; difference: networks minus baseline, with its 95 % interval")
    print(control_lines(table))
    print("\n".join(lines))
    if not found["permuted_average"]["at_chance"]:
        remedy = "look for the leak in reports/audit/findings.csv before you trust any score"
        raise TrainingError("shuffled labels score above chance: test contains images of train", remedy)
