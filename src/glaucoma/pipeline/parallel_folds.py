"""Folds side by side: `dvc repro -s crossval@k` for several k at a time, then one plain `dvc repro` with little to do.

`dvc repro` runs one stage after the other. Several at once, each on one stage, only meet at DVC's lock, which they hold
for moments before and after their stage's command; who finds it held tries again. A fold's results do not depend on
how many run beside it: it computes with as many threads as alone (`glaucoma.model.runtime.threads`), on fewer cores.
"""

from __future__ import annotations

import itertools
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from pathlib import Path

from joblib import cpu_count

from glaucoma.base import paths
from glaucoma.base.errors import ParamsError, TrainingError
from glaucoma.base.names import many
from glaucoma.base.progress import LOG_INTERVAL, say
from glaucoma.search.executors.cores import pin

__all__ = ["crossval"]

STAGE = "crossval"
LOGS = paths.STATE / STAGE
BUSY = re.compile("Unable to acquire lock|is busy, it is being blocked by")
PATIENCE = 900.0  # seconds for which a fold tries to get DVC's lock
GRACE = 30.0  # seconds that a stopped fold gets to end by itself
DVC = (sys.executable, "-m", "dvc")


def crossval(folds: Sequence[int], jobs: int) -> None:
    """Bring all folds up to date, `jobs` at a time, and then all of the DAG.

    What a fold prints goes to `.state/crossval/fold<k>.log`. A fold that fails stops no other.

    Raises:
        ParamsError: `jobs` is less than 1.
        TrainingError: a stage before the folds failed, folds failed (all are named), or a stage after them did.
    """
    if jobs < 1:
        raise ParamsError(f"{jobs} folds at a time", "set JOBS or --jobs to 1 or more")
    before = _before(folds[0])
    if before:
        _repro(*before, failed="a stage before the folds failed")
    failed = _Folds(jobs).run(folds)
    if failed:
        named = "; ".join(f"fold {fold}: {why}" for fold, why in sorted(failed.items()))
        remedy = f"read {LOGS / f'fold{min(failed)}.log'}, then run it again: finished folds are kept"
        raise TrainingError(f"{len(failed)} of {many(len(folds), 'fold')} failed: {named}", remedy)
    _repro(failed="all folds are done, but a stage after them failed")


class _Folds:
    """Folds that run side by side."""

    def __init__(self, jobs: int):
        self.jobs = jobs
        # Counted before this process's threads are pinned. One trial at a time: the folds share the cores already
        self.environment = {"GLAUCOMA_THREADS": str(cpu_count()), **os.environ, "GLAUCOMA_JOBS": "1"}
        self.environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
        self.children: dict[int, subprocess.Popen] = {}  # by fold
        self.starting, self.stopped = threading.Lock(), threading.Event()
        self.telling, self.told = threading.Lock(), set()  # each fold with each line that was shown

    def run(self, folds: Sequence[int]) -> dict[int, str]:
        """Run folds; why some failed, by fold. However it is left, nothing that it started goes on."""
        LOGS.mkdir(parents=True, exist_ok=True)
        slots = itertools.count()
        jobs = min(self.jobs, len(folds))
        say(f"{many(len(folds), 'fold')}, {jobs} at a time; what they print is in {LOGS}/")
        with (
            _signals_as_ctrl_c(),
            ThreadPoolExecutor(jobs, initializer=lambda: pin(next(slots) % jobs, jobs)) as pool,
        ):
            try:
                waiting = {pool.submit(self._fold, fold): fold for fold in folds}
                failed = {}
                while waiting:
                    for future in wait(waiting, LOG_INTERVAL, "FIRST_COMPLETED").done:
                        if why := future.result():
                            failed[waiting[future]] = why
                        del waiting[future]
                    for fold in sorted(self.children):
                        self._tell(fold, _last(fold, f"fold {fold}"))
                return failed
            finally:
                self.stopped.set()
                self._stop()
                pool.shutdown(cancel_futures=True)

    def _fold(self, fold: int) -> str:
        """Bring a fold up to date; why that failed, or nothing."""
        pause, until = 1.0, time.monotonic() + PATIENCE
        while True:
            code = self._attempt(fold)
            if code == 0:
                self._tell(fold, _last(fold, f"WARNING: fold {fold},"))
                self._tell(fold, _last(fold, f"fold {fold}:") or f"fold {fold}: was up to date")
                return ""
            printed = _log(fold).read_text(errors="replace")
            if self.stopped.is_set() or not BUSY.search(printed) or time.monotonic() > until:
                break
            self.stopped.wait(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that two don't meet again
            pause = min(2 * pause, 20.0)
        why = _last(fold, "error: ") or _last(fold, "ERROR: ") or f"exit code {code}"
        why = why.partition(": ")[2] or why
        if not self.stopped.is_set():
            say(f"fold {fold}: failed: {why}")
        return why

    def _tell(self, fold: int, line: str) -> None:
        """Say what a fold printed, once."""
        with self.telling:
            if line and (fold, line) not in self.told:
                self.told.add((fold, line))
                say(line)

    def _attempt(self, fold: int) -> int:
        with _log(fold).open("wb") as log:
            with self.starting:
                if self.stopped.is_set():
                    return 1
                command = [*DVC, "repro", "--single-item", f"{STAGE}@{fold}"]
                # A session of its own, so that Ctrl-C is ours to pass on
                child = subprocess.Popen(  # noqa: S603 - DVC
                    command,
                    stdout=log,
                    stderr=log,
                    stdin=subprocess.DEVNULL,
                    env=self.environment,
                    start_new_session=True,
                )
                self.children[fold] = child
            code = child.wait()
            self.children.pop(fold)
            return code

    def _stop(self) -> None:
        """Ask what still runs to end, as Ctrl-C does; end it after a while."""
        with self.starting:
            children = list(self.children.values())
        for number, seconds in ((signal.SIGINT, GRACE), (signal.SIGKILL, None)):
            for child in children:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, number)
            until = time.monotonic() + (seconds or 0)
            while children and time.monotonic() < until and any(child.poll() is None for child in children):
                time.sleep(0.1)
            children = [child for child in children if child.poll() is None]


@contextmanager
def _signals_as_ctrl_c() -> Iterator[None]:
    """Treat a closed terminal and `kill` as Ctrl-C."""

    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _before(fold: int) -> list[str]:
    """Names of all stages that a fold needs, as DVC knows them."""
    drawn = subprocess.run([*DVC, "dag", "--dot", f"{STAGE}@{fold}"], capture_output=True, text=True)  # noqa: S603
    if drawn.returncode:
        raise TrainingError(f"DVC does not know the stage {STAGE}@{fold}: {drawn.stderr.strip()}", "look at dvc.yaml")
    return sorted({name for name in re.findall(r'"([^"]+)"', drawn.stdout) if not name.startswith(f"{STAGE}@")})


def _repro(*stages: str, failed: str) -> None:
    process = subprocess.Popen([*DVC, "repro", *stages])  # noqa: S603
    try:
        code = process.wait()
    except KeyboardInterrupt:  # DVC got it too, and waits for its stage
        process.wait()
        raise
    if code:
        raise TrainingError(failed, "its error is above")


def _log(fold: int) -> Path:
    return LOGS / f"fold{fold}.log"


def _last(fold: int, start: str) -> str:
    """The last line of a fold's log that starts so, or nothing."""
    lines = _log(fold).read_text(errors="replace").splitlines() if _log(fold).is_file() else []
    return next((line.strip() for line in reversed(lines) if line.startswith(start)), "")
