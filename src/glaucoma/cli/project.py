"""Commands of the project: show the results, train folds side by side."""

from __future__ import annotations

import argparse

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError, many
from glaucoma.base.files import read_csv, read_json
from glaucoma.base.params import Trial, load_params
from glaucoma.evaluate.ladder import ladder_lines
from glaucoma.evaluate.summary import SPLITS, read_folds, readable
from glaucoma.model.symptoms import FILE, first_line, read_symptoms
from glaucoma.train.crossval import crossval

__all__ = ["add"]

STAGES = ("stage1", "stage2", "stage3")
SHOWN = ("sensitivity", "specificity", "auroc", "f1_macro")
LOOK_NEXT = """Next, look at
  reports/index.html  everything on one page, in a browser; beside it MODEL_CARD.md and CHECKLIST.md
  reports/summary/    all folds: scores, ROC, confusion matrices, comparison with the published figures
  reports/stage1/ …   each search: its best five trials, curves, confusion matrix; all trials are in metrics/search/
  reports/explore/    the photographs, counted and shown; reports/audit/findings.csv lists their faults
  models/             the trained networks, .keras files, each with its description beside it
Compare with the last commit: dvc metrics diff. Run an experiment: dvc exp run -S lr=0.0001. List them: dvc exp show."""


def add(commands: argparse._SubParsersAction) -> None:
    """Register `results` and `crossval`."""
    about = "print the scores of the last `dvc repro`, and where its results are"
    results = commands.add_parser("results", help=about, description=about)
    results.set_defaults(work=lambda given: _results())
    about = "train the folds of the cross-validation side by side, then run the rest of `dvc repro`"
    folds = commands.add_parser("crossval", help=about, description=about)
    folds.add_argument(
        "--jobs",
        type=int,
        default=2,
        metavar="N",
        help="number of folds at a time; -1: one a core (default: %(default)s)",
    )
    folds.set_defaults(work=lambda given: crossval(load_params(paths.PARAMS).crossval.folds, given.jobs))


def _results() -> None:
    """Print warnings about the networks, then the scores of the searches' winners and of all folds.

    Raises:
        DataError: a result is missing.
    """
    folds = load_params(paths.PARAMS).crossval.folds
    trainings = [paths.search_files(name) for name in (*STAGES, *paths.FREE)] + [paths.fold_files(i) for i in folds]
    if warned := first_line(read_symptoms(files["report"] / FILE for files in trainings), len(folds)):
        print(f"WARNING: {warned}")
    for name in (*STAGES, *paths.FREE):
        path = paths.search_files(name)["metrics"]
        if path.is_file():
            told = read_json(path)
            what, test = Trial(**told["best"]), told["test"]
            ties = f", of {told['tied']} that tie the one of lowest log loss," if told.get("tied", 1) > 1 else ""
            print(f"{name}: best of {many(told['trials'], 'trial')}{ties} is {what}, macro F1 {test['f1_macro']:.3f}")
    found = read_folds(folds)
    columns = [f"{split}_{score}" for split in ("valid", "test") for score in SHOWN]
    print(found.folds.set_index("fold")[columns].round(3).to_string())
    print(readable(_intervals(), found.contamination(*SPLITS)))
    if paths.COST_QUALITY.is_file():
        print(ladder_lines(read_csv(paths.COST_QUALITY))[0])
    print(LOOK_NEXT)


def _intervals() -> pd.DataFrame:
    """reports/summary/intervals.csv; or DataError."""
    file, remedy = paths.SUMMARY / "intervals.csv", "make it again: `dvc repro summary`"
    if not file.is_file():
        raise DataError(f"{file} does not exist", remedy)
    table = read_csv(file)
    if "estimand" not in table:
        raise DataError(f"{file} is of an older release: it has no column estimand", remedy)
    return table
