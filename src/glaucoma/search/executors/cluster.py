"""Train on a Ray cluster: one actor per trial at a time, arrays in the object store, once per node.

Every node needs this project installed, in the same version. Nothing here imports Keras: an actor sets its environment
first.
"""

from __future__ import annotations

import os
import queue
import socket
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import glaucoma
from glaucoma.base.errors import ParamsError, TrainingError
from glaucoma.base.names import many
from glaucoma.base.progress import say
from glaucoma.train.grid import Run

if TYPE_CHECKING:
    from glaucoma.search.executors.work import Event, Work
    from glaucoma.train.trainer import Follower

__all__ = ["Cluster"]


class Cluster:
    """An executor over a Ray cluster; it connects at once.

    Args:
        address: host:port of the cluster's head, `ray://host:port`, or None for a cluster of this machine alone.
        jobs: how many trials at most are trained at a time; None for as many as the cluster has room for.
        gpus: GPUs per trial; a fraction lets trials share one.

    Raises:
        ParamsError: Ray is not installed, no cluster answers, or no node of it has that many GPUs.
    """

    def __init__(self, address: str | None, jobs: int | None, gpus: float):
        from glaucoma.model.runtime import threads

        self.ray = _connected(address)
        self.jobs, self.gpus = jobs, gpus
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        # What a trial computes with is given by its threads; nodes that are smaller than that let them take turns
        self.cpus = min(threads(), max(int(node.get("CPU", 0)) for node in nodes))
        places = [_places(node, self.cpus, gpus) for node in nodes]
        if not sum(places):
            most = {kind: max(node.get(kind, 0) for node in nodes) for kind in ("CPU", "GPU")}
            raise ParamsError(
                f"no node of the Ray cluster has room for a trial of {gpus:g} GPUs and a CPU; the largest of its"
                f" {many(len(nodes), 'node')} have {most['CPU']:g} CPUs, {most['GPU']:g} GPUs",
                "start nodes that have them (`ray start`), or change GLAUCOMA_GPUS_PER_TRIAL",
            )
        self.places = sum(places)
        what = f"{many(self.cpus, 'CPU')}" + (f" and {gpus:g} GPUs" if gpus else "")
        say(f"Ray: {many(len(nodes), 'node')} with room for {many(self.places, 'trial')} of {what} at a time")

    def workers(self) -> int:
        """How many units are trained at a time."""
        return min(self.places, self.jobs or self.places)

    def run(self, work: Work, arrays: Sequence[np.ndarray], units: Sequence[Sequence[Run]], follower: Follower) -> None:
        """Train all units, telling `follower`.

        Raises:
            TrainingError: the actors can't be started.
        """
        from glaucoma.model.runtime import keras, threads
        from glaucoma.search.executors.dispatch import dispatch
        from glaucoma.search.executors.work import pack
        from glaucoma.train.identity import code_version

        environment = {"GLAUCOMA_THREADS": str(threads()), "KERAS_BACKEND": keras.backend.backend()}
        # A memory map would be pickled as a copy; the array it is a view of goes to the store without one
        shared = [code_version(), self.ray.put(pack(work)), *(self.ray.put(np.asarray(array)) for array in arrays)]
        actor = self.ray.remote(num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0)(Actor)
        workers = min(self.workers(), len(units))
        dispatch(units, lambda slot: _Remote(self.ray, actor.remote(environment, *shared)), workers, follower)


class Actor:
    """A worker, where it runs.

    Keras keeps some of its state per thread, so that one thread does all; the actor's own passes on what it tells.
    """

    def __init__(self, environment: dict[str, str], code: str, packed: bytes, *arrays: np.ndarray):
        os.environ.update(environment)
        from glaucoma.search.executors.work import unpack
        from glaucoma.train.identity import code_version

        if code != code_version():
            raise RuntimeError("this project, Keras or its backend is there in another version than here")
        self.thread = ThreadPoolExecutor(1)
        self.work = self.thread.submit(unpack, packed).result()
        self.trainer = self.thread.submit(self.work.trainer, list(arrays)).result()

    def ready(self) -> None:
        """Return, once all is there."""

    def train(self, runs: list[Run]) -> Iterator[Event]:
        """Train runs and yield what happens."""
        from glaucoma.search.executors.work import teller

        events: queue.SimpleQueue = queue.SimpleQueue()
        training = self.thread.submit(self.trainer.train, runs, self.work.splits, teller(events.put))
        training.add_done_callback(lambda _: events.put(None))
        while (event := events.get()) is not None:
            yield event
        training.result()


class _Remote:
    """The driver's end of an actor."""

    def __init__(self, ray: Any, actor: Any):
        self.ray, self.actor = ray, actor

    def ready(self) -> None:
        """Wait until the cluster has room for it, the backend is loaded and the model built."""
        try:
            self.ray.get(self.actor.ready.remote())
        except self.ray.exceptions.RayError as error:
            raise self._meant(error) from None

    def train(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Train runs there."""
        try:
            for told in self.actor.train.options(num_returns="streaming").remote(list(runs)):
                yield self.ray.get(told)
        except self.ray.exceptions.RayError as error:
            raise self._meant(error) from error

    def stop(self) -> None:
        """Kill the actor; it holds nothing that could be half written."""
        self.ray.kill(self.actor)

    def _meant(self, error: Exception) -> Exception:
        """A death of the actor or of its node, or else the error that was raised there."""
        from glaucoma.search.executors.dispatch import WorkerDiedError

        if isinstance(error, self.ray.exceptions.RayTaskError):
            return error.cause if isinstance(error.cause, Exception) else error
        told = " ".join(line.strip() for line in str(error).splitlines() if line.strip())
        if "creation task" in told:
            last = [line for line in str(error).splitlines() if line.strip()][-1].strip()
            return TrainingError(
                f"no worker can start on the cluster: {last}", "install this project on every node, and the same lock"
            )
        return WorkerDiedError(f"{type(error).__name__}: {told[:200]}")


def _places(node: dict[str, float], cpus: int, gpus: float) -> int:
    """How many trials a node has room for."""
    room = [int(node.get("CPU", 0) // cpus)] if cpus else []
    return min([*room, int(node.get("GPU", 0) // gpus)] if gpus else room, default=0)


def _connected(address: str | None) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ParamsError("Ray is not installed", "install it: pip install -e '.[ray]'; or unset RAY_ADDRESS") from None
    if not ray.is_initialized():
        remedy = "start one with `ray start --head`, or unset RAY_ADDRESS"
        host, separator, port = (address or "").rpartition("://")[2].rpartition(":")
        try:
            if separator:  # Ray itself would try for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            # So that actors on this machine use this checkout, whichever is installed
            config = ray.job_config.JobConfig(_py_driver_sys_path=[str(Path(glaucoma.__file__).parents[1])])
            ray.init(address=address or "local", job_config=config, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            what = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise ParamsError(f"no Ray cluster answers at {address}: {what}", remedy) from None
    return ray
