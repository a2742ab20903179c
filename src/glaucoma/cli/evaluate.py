"""What a model is worth: `glaucoma evaluate` on another collection, `glaucoma controls` against simple lines."""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from glaucoma import paths
from glaucoma.data.names import listed, many
from glaucoma.errors import DataError, TrainingError
from glaucoma.evaluate.controls import control_lines
from glaucoma.files import read_csv, read_json
from glaucoma.params import load_params

__all__ = ["add"]


def add(commands: argparse._SubParsersAction) -> None:
    """Register `evaluate` and `controls`."""
    about = "score a trained model on another labelled collection, without what this project was developed with"
    parser = commands.add_parser("evaluate", help=about, description=about)
    parser.add_argument(
        "model", help="a .keras file, a name in models/ (stage3, crossval/fold0), or crossval: the mean of all folds"
    )
    parser.add_argument(
        "collection", type=Path, metavar="DIR", help="labelled photographs, in any layout that data.root may have"
    )
    parser.add_argument("--output", type=Path, metavar="DIR", help="where to write (default: reports/external/NAME)")
    parser.set_defaults(work=lambda given: _evaluate(given.model, given.collection, given.output))
    about = "compare the folds with a regression on the frozen backbone; fail where permuted labels teach anything"
    controls = commands.add_parser("controls", help=about, description=about)
    controls.set_defaults(work=lambda given: _controls())


def _evaluate(model: str, collection: Path, output: Path | None) -> None:
    """Judge a model, write what was found, and print it.

    Raises:
        ParamsError, WeightsError, DataError: what is given cannot be used.
    """
    params = load_params(paths.PARAMS)
    from glaucoma.pipeline.external import evaluate_external  # Keras takes seconds

    root = collection.expanduser()
    output = output or paths.REPORTS / "external" / root.absolute().name
    found = evaluate_external(model, root, params, output)
    if found.warned:
        print(f"WARNING: {found.warned}")
    counts = found.counts
    print(f"{model} ({many(counts['models'], 'network')}) on {many(found.scores['n'], 'image')} of {collection}")
    known = "not looked for: there is no index" if counts["known"] is None else counts["known"]
    copies = counts["copies"]
    near = "not looked for: this project's photographs are not there" if copies is None else copies
    print(f"  left out: in this project's index, byte for byte: {known}; copies of photographs in it: {near}")
    print(f"  left out: labelled both ways: {counts['conflicting']}")
    if found.faults:
        print(f"  {many(len(found.faults), 'file')} cannot be read:{listed(found.faults)}")
    print(f"  {'':<30}score  95 % interval")
    for row in found.intervals.itertuples():
        of = "not defined" if pd.isna(row.value) else f"{row.value:.3f}"
        of += "" if pd.isna(row.low) else f"  {row.low:.3f} to {row.high:.3f}"
        print(f"  {row.score:<30}{of}")
    print("  counts at 0.5: " + ", ".join(f"{name} {found.scores[name]}" for name in ("tp", "fn", "tn", "fp")))
    print(f"written: {output}/scores.json, intervals.csv, predictions.csv")


def _controls() -> None:
    """Print what the stage `controls` found, and how far the folds' networks lie from it.

    Raises:
        DataError: the project has no results to set beside.
        TrainingError: permuted labels taught something.
    """
    try:
        found = read_json(paths.CONTROLS_METRICS)["permuted_average"]
        table = read_csv(paths.SUMMARY / "controls.csv")
    except FileNotFoundError as error:
        raise DataError(f"{error.filename} does not exist", "run `dvc repro summary`, which makes it") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"the controls cannot be read: {error}", "make them again: `dvc repro -f controls`") from None
    print("mean over the folds' test splits; difference: the networks less the control, with its 95 % interval")
    print(control_lines(table))
    mean, error = found["test_auroc"], found["standard_error"]
    taught = "not defined" if mean is None else f"AUROC {mean:.3f} ± {error:.3f} (standard error)"
    if not found["at_chance"]:
        what = f"labels without meaning taught {taught}, expected 0.5: test holds what train does"
        raise TrainingError(what, "look at reports/audit/findings.csv for that leak before you trust any score")
    print(f"permuted labels taught nothing, as they should: {taught}")
