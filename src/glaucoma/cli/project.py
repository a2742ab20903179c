"""Commands about the project: check params.yaml, take a profile into use, show the results, folds side by side."""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

from ruamel.yaml import YAML

from glaucoma import paths
from glaucoma.data.names import many
from glaucoma.errors import DataError, ParamsError
from glaucoma.evaluate.summary import read_folds, readable
from glaucoma.files import atomic_path, read_json
from glaucoma.params import load_params
from glaucoma.pipeline.crossval import crossval
from glaucoma.search.grid import Trial, expand, fit_of, group

__all__ = ["add"]

PROFILES = Path("profiles")
PREVIOUS = PROFILES / "previous.yaml"
STAGES = ("stage1", "stage2", "stage3")
SHOWN = ("sensitivity", "specificity", "auroc", "f1_macro")
LOOK_NEXT = """Look next at
  reports/index.html  everything on one page, in a browser; MODEL_CARD.md and CHECKLIST.md beside it
  reports/summary/    all folds: scores, ROC, confusion matrices, comparison with the published figures
  reports/stage1/ …   each search: its best five trials, curves, confusion matrix; all trials are in metrics/search/
  reports/explore/    the photographs, counted and shown; reports/audit/findings.csv says what is wrong with them
  models/             the trained networks, each a .keras file with its description beside it
Compare with the last commit: dvc metrics diff. Try something: dvc exp run -S lr=0.001. See all: dvc exp show."""


def add(commands: argparse._SubParsersAction) -> None:
    """Register `check`, `profile`, `results` and `crossval`."""
    about = "check params.yaml and the data folder, and say what `dvc repro` would train"
    check = commands.add_parser("check", help=about, description=about)
    check.set_defaults(work=lambda given: _check())
    about = "put a profile's parameters into params.yaml; the ones before are kept as profile `previous`"
    profile = commands.add_parser("profile", help=about, description=about)
    profile.add_argument(
        "name", nargs="?", help="a file in profiles/, e.g. published; none keeps the present parameters"
    )
    profile.add_argument(
        "--data", metavar="DIR", help="folder of photographs to use instead of the profile's data.root"
    )
    profile.set_defaults(work=lambda given: _use_profile(given.name, given.data))
    about = "print the scores of the last `dvc repro`, and where its results lie"
    results = commands.add_parser("results", help=about, description=about)
    results.set_defaults(work=lambda given: _results())
    about = "run the folds of the cross-validation side by side, then what of `dvc repro` is left"
    folds = commands.add_parser("crossval", help=about, description=about)
    folds.add_argument(
        "--jobs", type=int, default=2, metavar="N", help="folds at a time, -1: one a core (default: %(default)s)"
    )
    folds.set_defaults(work=lambda given: crossval(load_params(paths.PARAMS).crossval.folds, given.jobs))


def _check() -> None:
    """Say what will be trained.

    Raises:
        ParamsError, DataError: params.yaml or data.root cannot be used.
    """
    params = load_params(paths.PARAMS)
    root = Path(params.data.root).expanduser()
    if root != paths.SAMPLE and not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        remedy = f"set data.root in {paths.PARAMS} to your folder, or to {paths.SAMPLE} for synthetic photographs"
        raise DataError(f"data.root is {params.data.root}, which {what} (looked at {root.absolute()})", remedy)
    print(f"{paths.PARAMS} is sound; photographs: {params.data.root}, {params.data.image_size} px")
    for name in STAGES:
        trials = expand(getattr(params, name).grid, fit_of(params))
        runs = group(trials)
        epochs = sum(run.epochs[-1] for run in runs)
        plan = f"{many(len(trials), 'trial')} in {many(len(runs), 'run')}, {many(epochs, 'epoch')}"
        print(f"{name}: {plan} on fold {params.search.fold}")
    for name in paths.FREE:
        section = getattr(params, name)
        what = f"{many(len(expand(section.grid)), 'trial')} of {section.backbone.name}"
        print(f"{name}: {what}, only by `dvc exp run -S 'free_models=[{name}]' extra/dvc.yaml`")
    final = f"{params.optimizer}, lr {params.lr:g}, batch {params.batch_size}, {params.epochs} epochs"
    folds = many(len(params.crossval.folds), "fold")
    model = "" if params.crossval.model == "final" else f" of {params.crossval.model}"
    print(f"cross-validation: {folds}{model} ({final}), warm start: {params.crossval.warm_start}")


def _results() -> None:
    """Print the scores of the searches' winners and of all folds.

    Raises:
        DataError: a result is not there.
    """
    for name in (*STAGES, *paths.FREE):
        path = paths.search_files(name)["metrics"]
        if path.is_file():
            found = read_json(path)
            best, test = found["best"], found["test"]
            what = Trial.of(best)
            print(f"{name}: best of {many(found['trials'], 'trial')} is {what}, macro F1 {test['f1_macro']:.3f}")
    folds = read_folds(load_params(paths.PARAMS).crossval.folds)
    columns = [f"{split}_{score}" for split in ("test", "valid") for score in SHOWN]
    print(folds.folds.set_index("fold")[columns].round(3).to_string())
    print(readable(folds))
    print(LOOK_NEXT)


def _use_profile(name: str | None, data: str | None) -> None:
    """Replace params.yaml by a profile, or only its data.root, keeping what it was.

    Raises:
        ParamsError: no such profile, or one that does not fit the schema.
    """
    if not name and data is None:
        raise ParamsError("neither a profile nor --data is given", "see `glaucoma profile --help`")
    source = PROFILES / f"{name}.yaml" if name else paths.PARAMS
    if not source.is_file():
        known = ", ".join(sorted(path.stem for path in PROFILES.glob("*.yaml")))
        raise ParamsError(f"there is no profile {name}", f"choose one of: {known}")
    load_params(source)
    yaml = YAML()
    yaml.width = 1000
    yaml.preserve_quotes = True
    yaml.indent(mapping=2, sequence=4, offset=2)  # as the files are written, so that a diff shows what changed
    content = yaml.load(source)
    if data is not None:
        content["data"]["root"] = data
    with atomic_path(paths.PARAMS) as temporary:
        yaml.dump(content, temporary)
        if paths.PARAMS.is_file():
            shutil.copyfile(paths.PARAMS, PREVIOUS)
    what = f"{paths.PARAMS} now holds {source}" if name else f"data.root in {paths.PARAMS} is {data}"
    print(f"{what}; the parameters before are in {PREVIOUS} (`glaucoma profile previous`)")
