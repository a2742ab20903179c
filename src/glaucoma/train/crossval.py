"""Train folds in parallel: workers fill the journal, then one `dvc repro` reads every training from it.

Results do not depend on the number of parallel folds: each uses as many threads as it would alone, on fewer cores.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path

from glaucoma.base import interrupts, paths
from glaucoma.base.errors import GlaucomaError, TrainingError, many
from glaucoma.base.params import load_params
from glaucoma.base.progress import Progress, plain, say
from glaucoma.base.stage import refused
from glaucoma.dataset.folds import frozen_folds, require_folds
from glaucoma.train.pool import Processes

__all__ = ["crossval"]

DVC = (sys.executable, "-m", "dvc")


def _environment() -> dict[str, str]:
    """That of this process, with its own Python first on the PATH: stages call `python`, activated or not."""
    own = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{own}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}


def crossval(folds: Sequence[int], jobs: int) -> None:
    """Bring all folds up to date, `jobs` at a time (-1: one per core), then the rest of the DAG.

    A failed fold does not stop the others. With RAY_ADDRESS, the folds' trainings run on that cluster.

    Raises:
        ParamsError: `jobs` is 0 or less than -1, or the photographs have no such folds.
        TrainingError: folds failed (all are named), or a stage before or after them did.
    """
    pool = Processes(jobs, {"GLAUCOMA_JOBS": "1"})  # the folds share the cores already
    os.environ.setdefault("GLAUCOMA_STATE_GB", "inf")  # a fold must not evict another's trainings from the journal
    interrupts.install()
    plain()
    stages = {f"crossval@{fold}": fold for fold in folds}
    if _dvc("repro", *_before(next(iter(stages)))):
        raise TrainingError("a stage before the folds failed", "its error is above")
    require_folds(load_params(paths.PARAMS), frozen_folds(paths.INDEX), f"of {paths.INDEX}")
    changed = json.loads(_told("status", "--json", *stages))
    due = [fold for stage, fold in stages.items() if stage in changed]
    failed = {}
    with Progress("folds", len(due), "fold") as progress:
        for fold, why in pool.run(_train, (), due):
            if why:
                failed[fold] = why
                say(f"fold {fold} failed: {why}")
            progress.step(1)
    if failed:
        trained = [stage for stage, fold in stages.items() if fold in due and fold not in failed]
        if trained:
            _dvc("repro", *trained)
        named = "; ".join(f"fold {fold}: {why}" for fold, why in sorted(failed.items()))
        remedy = "run it again: finished folds are kept"
        raise TrainingError(f"{len(failed)} of {many(len(folds), 'fold')} failed: {named}", remedy)
    if _dvc("repro"):
        raise TrainingError("all folds are done, but a stage after them failed", "its error is above")


def _train(fold: int) -> str:
    """Train a fold in this worker process; return the reason if it fails, else an empty string."""
    from glaucoma.train.fold_stage import fill_journal

    try:
        fill_journal(load_params(paths.PARAMS), fold)
    except GlaucomaError as error:
        return error.found
    except Exception as error:
        if isinstance(error, OSError) and (why := refused(error)):
            return why[0]
        traceback.print_exc()
        return f"{type(error).__name__}: {error}"
    return ""


def _before(stage: str) -> list[str]:
    """DVC's names of all stages that a stage depends on."""
    return sorted(set(re.findall(r'"([^"]+)"', _told("dag", "--dot", stage))) - {stage})


def _told(*arguments: str) -> str:
    """The output of a DVC command."""
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, env=_environment())  # noqa: S603
    if done.returncode:
        raise TrainingError(f"`dvc {' '.join(arguments)}` failed: {done.stderr.strip()}", "look at dvc.yaml")
    return done.stdout


def _dvc(*arguments: str) -> int:
    """Run DVC and return its exit code."""
    process = subprocess.Popen([*DVC, *arguments], env=_environment())  # noqa: S603
    try:
        return process.wait()
    except KeyboardInterrupt:  # DVC got it too, and is waiting for its stage
        process.wait()
        raise
