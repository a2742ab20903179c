"""`glaucoma check`: whether `dvc repro` can use params.yaml and the photographs, before anything is trained."""

from __future__ import annotations

import argparse
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from glaucoma.base import paths
from glaucoma.base.errors import DataError, GlaucomaError, ParamsError, WeightsError, listed, many, one_line, shown
from glaucoma.base.files import near
from glaucoma.base.params import WEIGHTS, Params, group, load_params
from glaucoma.dataset.folds import find_frozen, frozen_folds, require_folds
from glaucoma.dataset.layouts import brought_folds

if TYPE_CHECKING:
    from dvc.repo import Repo

__all__ = ["add"]

STAGES = ("stage1", "stage2", "stage3")
SAMPLE_FOLDS = range(10)


def add(commands: argparse._SubParsersAction) -> None:
    """Register `check`."""
    about = "check params.yaml and the data folder, and list what `dvc repro` would train"
    check = commands.add_parser("check", help=about, description=about)
    check.set_defaults(work=lambda given: _check())


def _check() -> None:
    """Print what will be trained.

    Raises:
        GlaucomaError, ParamsError, DataError, WeightsError: what `dvc repro` would refuse, later and perhaps in its own
            words.
    """
    params = load_params(paths.PARAMS)
    root = Path(params.data.root)
    if params.data.root.startswith("~"):
        what = f"data.root is {shown(root)}, and DVC does not expand ~"
        raise ParamsError(what, f"write {shown(root.expanduser())}")
    there, why = list(SAMPLE_FOLDS), f"of the sample in {paths.SAMPLE}"
    if root != paths.SAMPLE:
        _check_there(root)
    if Path(".dvc").is_dir():
        _check_python()
        _ask_dvc(root)
    if root != paths.SAMPLE:
        _check_files(root)
        there, why = _folds(root, params)
    require_folds(params, there, why)
    _check_weights(params)
    _print_plan(params)


def _check_python() -> None:
    """Refuse to have stages run by another Python than this one: DVC takes the `python` that is first on the PATH.

    Raises:
        GlaucomaError: there is none, or one of another environment.
    """
    own, found = Path(sys.executable), shutil.which("python")
    if found and Path(found).parent == own.parent:
        return
    what = "is not on the PATH"
    if found:
        asked = [found, "-c", "import sys; print(sys.prefix)"]
        if subprocess.run(asked, capture_output=True, text=True).stdout.strip() == sys.prefix:  # noqa: S603
            return
        what = f"is {shown(found)}, not of the environment of this command"
    remedy = f"activate the environment, or put {shown(own.parent)} first on the PATH"
    raise GlaucomaError(f"DVC runs stages by `python`, which {what}", remedy)


def _check_there(root: Path) -> None:
    """Refuse a folder that is none.

    Raises:
        DataError: with one that has nearly its name.
    """
    if not root.is_dir():
        what = "is a file" if root.exists() else f"does not exist ({shown(root.absolute())}){near(root)}"
        remedy = f"set data.root in {paths.PARAMS} to your folder, or to {paths.SAMPLE} for synthetic photographs"
        raise DataError(f"data.root is {shown(root)}, which {what}", remedy)


def _check_files(root: Path) -> None:
    """Refuse a folder with files that DVC cannot read: it takes the hash of each.

    Raises:
        DataError: naming them.
    """
    faults = []

    def unlisted(error: OSError) -> None:
        faults.append(f"{shown(error.filename)}: {error.strerror}")

    for folder, folders, files in os.walk(root, onerror=unlisted, followlinks=False):
        for name in files:
            path = Path(folder, name)
            if fault := _fault(path):
                faults.append(f"{shown(path)}: {fault}")
        folders.sort()
    if faults:
        what = f"DVC cannot read all of data.root, {shown(root)}:{listed(faults)}"
        raise DataError(what, "mend or remove these, or set data.root to a folder without them")


def _fault(path: Path) -> str:
    """Why DVC cannot take a file's hash; nothing where it can."""
    if path.name == ".dvcignore":
        return "DVC takes no .dvcignore within data"
    try:
        mode = path.stat().st_mode
    except OSError as error:
        return f"a link that leads nowhere ({error.strerror})" if path.is_symlink() else str(error.strerror)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        return "a pipe, socket or device"
    return "" if os.access(path, os.R_OK) else "not readable for this user"


def _folds(root: Path, params: Params) -> tuple[list[int], str]:
    """The folds that the photographs will have, and what decides them."""
    brought = brought_folds(root, params.data.layout, params.data.classes, params.data.patients)
    if brought:
        return brought, f"by the folders of {shown(root)}"
    if frozen := find_frozen(root):
        return frozen_folds(frozen), f"by {shown(frozen)}"
    return list(range(params.crossval.n_folds)), f"crossval.n_folds is {params.crossval.n_folds}"


def _check_weights(params: Params) -> None:
    """Refuse files of weights that are not there.

    Raises:
        WeightsError: with the key.
    """
    keys = {"backbone": params.backbone, **{f"{n}.backbone": getattr(params, n).backbone for n in params.free_models}}
    for key, backbone in keys.items():
        path = backbone.file
        if path and not path.is_file():
            what = "is a folder" if path.is_dir() else f"does not exist{near(path)}"
            raise WeightsError(f"{key}.weights is {shown(path)}, which {what}", f"name a file, or {', '.join(WEIGHTS)}")


def _ask_dvc(root: Path) -> None:
    """Let DVC build its graph of stages with these parameters.

    Raises:
        ParamsError: it cannot.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        repo = Repo()
    except DvcException as error:  # no Git repository around it, or one that Git refuses
        raise ParamsError(f"DVC cannot open this project: {one_line(error)}", "see `git status`") from None
    try:
        with repo:
            _check_place(repo, root)
            repo.index.check_graph()
    except DvcException as error:
        what = f"DVC refuses dvc.yaml with these parameters: {one_line(error)}"
        raise ParamsError(what, f"change {paths.PARAMS}, data.root before all; `dvc status` says more") from None


def _check_place(repo: Repo, root: Path) -> None:
    """Refuse a folder of photographs that stages write into, that lies in what they write, or that DVC ignores.

    Raises:
        ParamsError: naming the output.
    """
    here = os.path.realpath(root)
    remedy = "keep the photographs in a folder of their own, e.g. data/photographs, and set data.root to it"
    for out in repo.index.outs:
        path = os.path.realpath(out.fs_path)
        name = os.path.relpath(path)
        if os.path.commonpath([here, path]) == here and root != paths.SAMPLE:
            raise ParamsError(f"data.root is {shown(root)}, which holds {name}, that a stage writes", remedy)
        if os.path.commonpath([here, path]) == path and Path(name) != paths.SAMPLE:
            raise ParamsError(f"data.root is {shown(root)}, which lies in {name}, that a stage writes", remedy)
    inside = repo.fs.isin(here, repo.root_dir)
    if inside and repo.dvcignore.is_ignored_dir(here):
        raise ParamsError(f"data.root is {shown(root)}, which DVC ignores (.dvcignore)", remedy)


def _print_plan(params: Params) -> None:
    print(f"{paths.PARAMS} is valid; photographs: {params.data.root}, {params.data.image_size} px")
    for name in STAGES:
        trials = params.trials(name)
        runs = group(trials)
        epochs = sum(run[-1].epochs for run in runs)
        plan = f"{many(len(trials), 'trial')} in {many(len(runs), 'run')}, {many(epochs, 'epoch')}"
        print(f"{name}: {plan} on fold {params.search.fold}")
    for name in paths.FREE:
        section = getattr(params, name)
        what = f"{many(len(params.trials(name)), 'trial')} on {section.backbone.name}"
        print(f"{name}: {what}, only by `dvc exp run -S 'free_models=[{name}]' extra/dvc.yaml`")
    final = f"{params.optimizer}, lr {params.lr:g}, batch {params.batch_size}, {many(params.epochs, 'epoch')}"
    folds = many(len(params.crossval.folds), "fold")
    model = "" if params.crossval.model == "final" else f" of {params.crossval.model}"
    print(f"cross-validation: {folds}{model} ({final}), warm start: {params.crossval.warm_start}")
