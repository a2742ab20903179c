"""Train in processes of this machine: each on its share of the cores, all on the same memory-mapped arrays.

joblib's own pool (loky) starts the processes. Its queues are not used: they break for all workers when one dies, and
tell nothing before a task is done. Each worker has a pipe instead.
"""

from __future__ import annotations

import mmap
import os
import pickle
import signal
import tempfile
import traceback
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np
from joblib.externals.loky.backend import get_context

from glaucoma.model.runtime import threads
from glaucoma.search.executors.cores import pin
from glaucoma.search.executors.dispatch import WorkerDiedError, dispatch
from glaucoma.search.executors.local import InProcess
from glaucoma.search.executors.work import Event, Work, pack, teller, travelling, unpack
from glaucoma.train.grid import Run
from glaucoma.train.trainer import Follower

__all__ = ["Processes"]

READY, DONE = "ready", None  # what a worker sends beside events and errors


class Processes:
    """An executor over `jobs` processes."""

    def __init__(self, jobs: int):
        self.jobs = jobs

    def workers(self) -> int:
        """How many units are trained at a time."""
        return self.jobs

    def run(self, work: Work, arrays: Sequence[np.ndarray], units: Sequence[Sequence[Run]], follower: Follower) -> None:
        """Train all units, telling `follower`.

        Raises:
            TrainingError: the processes can't be started.
        """
        workers = min(self.jobs, len(units))
        if workers == 1:
            InProcess().run(work, arrays, units, follower)
            return
        with tempfile.TemporaryDirectory(prefix="glaucoma-") as folder:
            mapped = [_map(array, Path(folder) / f"{i}.npy") for i, array in enumerate(arrays)]
            packed = pack(work)
            dispatch(units, lambda slot: _Process(slot, workers, packed, mapped), workers, follower)


@dataclass(frozen=True)
class _Mapped:
    """Where an array lies on the disk."""

    file: str
    dtype: np.dtype
    offset: int
    shape: tuple[int, ...]

    def open(self) -> np.ndarray:
        """The array, read-only."""
        return np.memmap(self.file, self.dtype, "r", self.offset, self.shape)


def _map(array: np.ndarray, file: Path) -> _Mapped:
    """Where `array` lies; one that is in memory only is written to `file` first."""
    whole = isinstance(array, np.memmap) and isinstance(array.base, mmap.mmap) and array.flags.c_contiguous
    if not whole:
        np.save(file, array)
        array = np.load(file, mmap_mode="r")
    return _Mapped(str(array.filename), array.dtype, array.offset, array.shape)


@dataclass(frozen=True)
class _Broken:
    """An error that is no run's own, and its traceback, which would not travel with it."""

    error: Exception
    told: str


class _Process:
    """The driver's end of a worker."""

    def __init__(self, slot: int, slots: int, packed: bytes, mapped: list[_Mapped]):
        pin(slot, slots)  # this thread, which does nothing but wait; the process inherits it
        context = get_context("loky")
        self.connection, theirs = context.Pipe()
        environment = {"GLAUCOMA_THREADS": str(threads())}
        self.process = context.Process(target=_serve, args=(theirs, packed, mapped), daemon=True, env=environment)
        self.process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until the backend is loaded and the model built."""
        assert self._receive() == READY

    def train(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Train runs there."""
        try:
            self.connection.send(list(runs))
        except OSError:
            raise self._death() from None
        while (received := self._receive()) is not DONE:
            yield received

    def stop(self) -> None:
        """Kill the process; it holds nothing that could be half written."""
        if self.process.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.process.pid, signal.SIGKILL)
            self.process.join()

    def _receive(self) -> object:
        try:
            received = self.connection.recv()
        except (EOFError, OSError, pickle.UnpicklingError):  # the last one: killed while it was sending
            raise self._death() from None
        if isinstance(received, _Broken):
            raise received.error from RuntimeError(f"in a worker:\n{received.told}")
        return received

    def _death(self) -> WorkerDiedError:
        self.process.join(5)
        code = self.process.exitcode
        how = "killed, perhaps because memory ran out" if code == -signal.SIGKILL else f"exit code {code}"
        return WorkerDiedError(f"process {self.process.pid}, {how}")


def _serve(connection: Connection, packed: bytes, mapped: list[_Mapped]) -> None:
    """Be a worker until the driver is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle: it stops us
    try:
        work = unpack(packed)
        trainer = work.trainer([array.open() for array in mapped])
        connection.send(READY)
        while True:
            trainer.train(connection.recv(), work.splits, teller(connection.send))
            connection.send(DONE)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        os._exit(0)  # the driver is gone
    except Exception as error:
        connection.send(_Broken(travelling(error), traceback.format_exc()))
