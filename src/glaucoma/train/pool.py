"""Run a function on many tasks in parallel: in joblib processes on this machine, or on a Ray cluster.

Results are the same on both, so the environment chooses:

GLAUCOMA_JOBS            parallel tasks; -1 for one per core
RAY_ADDRESS              host:port of a Ray cluster's head: tasks run there
GLAUCOMA_GPUS_PER_TRIAL  on a cluster; 0.5 lets two trials share a GPU. Local processes split the visible GPUs
GLAUCOMA_THREADS         threads per task, all cores by default; affects the last bits of a result

This module does not import Keras: a worker sets its environment first.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import current_process
from pathlib import Path
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from joblib.externals.loky import get_reusable_executor, process_executor

import glaucoma
from glaucoma.base import interrupts, progress
from glaucoma.base.environment import number, threads
from glaucoma.base.errors import ParamsError, TrainingError, many, one_line

__all__ = ["FLAGS", "Cluster", "Processes", "choose", "share"]

Task = TypeVar("Task")
Result = TypeVar("Result")
Thing = TypeVar("Thing")
FLAGS = {"jobs": {"type": int, "metavar": "N", "help": "runs at a time, -1: one a core (default: GLAUCOMA_JOBS, or 1)"}}
RETRIES = 2  # how often the tasks of dead workers are started again
FEWER = "run it again with fewer jobs: what was finished is kept"


def choose(jobs: int | None = None) -> Processes | Cluster:
    """The pool configured by the environment; `jobs` replaces GLAUCOMA_JOBS.

    Raises:
        ParamsError: an invalid value, or no cluster.
    """
    jobs = number("GLAUCOMA_JOBS", int, -1, None) if jobs is None else jobs
    address = os.environ.get("RAY_ADDRESS")
    return Cluster(address, jobs) if address else Processes(1 if jobs is None else jobs)


class Processes:
    """A pool of joblib processes (loky), each on its share of this machine's cores and GPUs.

    Args:
        jobs: parallel tasks; 1 runs in this process, -1 is one per core.
        environment: variables to set in the processes.

    Raises:
        ParamsError: `jobs` is 0 or less than -1.
    """

    shares_files = True  # whether workers see this process's files

    def __init__(self, jobs: int, environment: Mapping[str, str] | None = None):
        self.workers = _count(jobs) or cpu_count()
        self.environment = {"GLAUCOMA_THREADS": str(threads()), **(environment or {})}

    def stays_here(self, tasks: int) -> bool:
        """Whether this many tasks run one after the other in this process."""
        return min(self.workers, tasks) < 2

    def run(
        self, function: Callable[..., Result], common: Sequence, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Result]]:
        """Yield each task with `function(*common, task)` as it finishes; arrays are memory-mapped, not copied.

        If a worker dies, all workers are restarted for the remaining tasks.

        Raises:
            TrainingError: workers died repeatedly.
        """
        if self.stays_here(len(tasks)):
            yield from ((task, function(*common, task)) for task in tasks)
            return
        left = dict(enumerate(tasks))
        for retries in range(RETRIES, -1, -1):
            try:
                for place, result in self._once(function, common, left):
                    yield left.pop(place), result
                return
            except BrokenProcessPool as death:
                how = str(death).strip().splitlines()[-1]
                if not retries:
                    raise TrainingError(f"workers died {RETRIES + 1} times, at last: {how}", FEWER) from None
                progress.say(f"a worker died, perhaps because memory ran out ({how}); starting new ones")

    def _once(self, function: Callable, common: Sequence, left: dict[int, Task]) -> Iterator[tuple[int, Any]]:
        workers = max(2, min(self.workers, len(left)))  # joblib would run one worker in this process
        begin = {"initializer": _begin, "initargs": (workers, os.getpid(), self.environment)}
        with parallel_config("loky", n_jobs=workers, inner_max_num_threads=threads(), **begin):
            results = Parallel(return_as="generator_unordered", pre_dispatch="n_jobs", batch_size=1)(
                delayed(_placed)(place, function, *common, task) for place, task in list(left.items())
            )
        try:
            while True:
                with interrupts.released():
                    done = next(results, None)
                if done is None:
                    return
                yield done
        finally:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # joblib warns about unfinished tasks
                results.close()
            get_reusable_executor(kill_workers=True).shutdown(kill_workers=True)


class Cluster:
    """A pool on a Ray cluster; every node must have the same version of this project installed.

    It uses Ray tasks. Ray's joblib backend returns no result until all are done, queues tasks at busy workers while
    others idle, and runs a single task on this machine.

    Args:
        address: host:port of the cluster's head, `ray://host:port`, or `local` for a cluster of this machine alone.
        jobs: maximum of parallel tasks; None and -1 for as many as fit on the cluster.

    Raises:
        ParamsError: Ray is not installed, no cluster answers, or no node has room for a task.
    """

    shares_files = False

    def __init__(self, address: str, jobs: int | None):
        gpus = number("GLAUCOMA_GPUS_PER_TRIAL", float, 0, 0.0)
        self.ray = _connected(address)
        nodes = [node["Resources"] for node in self.ray.nodes() if node["Alive"]]
        # The number of threads affects results, so it is fixed; on a node with fewer CPUs, they take turns
        cpus = min(threads(), max(int(node.get("CPU", 0)) for node in nodes))
        room = sum(min(node.get("CPU", 0) // cpus, node.get("GPU", 0) // gpus if gpus else cpus) for node in nodes)
        if not room:
            found = f"no node of the Ray cluster ({many(len(nodes), 'node')}) has {cpus} CPUs and {gpus:g} GPUs"
            raise ParamsError(found, "start one that has (`ray start`), or change GLAUCOMA_GPUS_PER_TRIAL")
        self.workers = min(int(room), _count(jobs or -1) or int(room))
        self.needs = {"num_cpus": cpus, "num_gpus": gpus}
        progress.say(f"Ray: {many(len(nodes), 'node')}, {many(self.workers, 'trial')} at a time")

    def stays_here(self, tasks: int) -> bool:
        """Whether this many tasks run in this process: never."""
        return False

    def run(
        self, function: Callable[..., Result], common: Sequence, tasks: Sequence[Task]
    ) -> Iterator[tuple[Task, Result]]:
        """Yield each task with `function(*common, task)` as it finishes; `common` is sent to each node once.

        If a worker or a node dies, Ray runs its task elsewhere.

        Raises:
            TrainingError: workers died repeatedly.
        """
        remote = self.ray.remote(**self.needs, max_retries=RETRIES, max_calls=0)(function)
        common = [self.ray.put(one) for one in common]
        waiting = list(reversed(tasks))
        running: dict[Any, Task] = {}
        try:
            while waiting or running:
                while waiting and len(running) < self.workers:
                    task = waiting.pop()
                    running[remote.remote(*common, task)] = task
                for done in self.ray.wait(list(running), timeout=1)[0]:
                    yield running.pop(done), self.ray.get(done)
                interrupts.check()
        except self.ray.exceptions.RayTaskError as error:
            raise (error.cause if isinstance(error.cause, Exception) else error) from None
        except self.ray.exceptions.RayError as error:
            raise TrainingError(f"the Ray cluster lost a task: {' '.join(str(error).split())[:200]}", FEWER) from error
        finally:
            for one in running:
                self.ray.cancel(one, force=True)


def share(worker: int, workers: int, things: Sequence[Thing]) -> list[Thing]:
    """The share of worker number `worker` (from 0): equal disjoint parts if there are enough things, else one each."""
    if workers >= len(things):
        return [things[worker % len(things)]] if things else []
    return list(things[worker * len(things) // workers : (worker + 1) * len(things) // workers])


def _count(jobs: int) -> int:
    """The number of parallel tasks; 0 for as many as fit."""
    if jobs == 0 or jobs < -1:
        raise ParamsError(f"{jobs} jobs at a time", "set GLAUCOMA_JOBS or --jobs to 1 or more, or to -1 for one a core")
    return max(jobs, 0)


def _placed(place: int, function: Callable[..., Result], *given: Any) -> tuple[int, Result]:
    return place, function(*given)


def _begin(workers: int, parent: int, environment: Mapping[str, str]) -> None:
    """Set up a worker: its share of cores and GPUs, Ctrl-C left to the parent, exit when the parent dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.update(environment)
    process_executor._MAX_MEMORY_LEAK_SIZE = float("inf")  # else workers end after growing 300 MB
    progress.plain()
    worker = int(current_process().name.rpartition("-")[2]) % workers  # loky numbers them
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share(worker, workers, sorted(os.sched_getaffinity(0))))
    seen = ",".join(str(i) for i, _ in enumerate(Path("/dev").glob("nvidia[0-9]*")))
    if gpus := os.environ.get("CUDA_VISIBLE_DEVICES", seen):
        os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(share(worker, workers, gpus.split(",")))

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _connected(address: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError:
        raise ParamsError("Ray is not installed", "install it: pip install -e '.[ray]'; or unset RAY_ADDRESS") from None
    if not ray.is_initialized():
        host, separator, port = address.rpartition("://")[2].rpartition(":")
        given = {"GLAUCOMA_THREADS": str(threads()), "KERAS_BACKEND": os.environ.get("KERAS_BACKEND", "tensorflow")}
        # So that workers on this machine import this checkout, whichever version is installed
        path = [str(Path(glaucoma.__file__).parents[1])]
        config = ray.job_config.JobConfig(runtime_env={"env_vars": given}, _py_driver_sys_path=path)
        try:
            if separator:  # Ray itself would retry for minutes
                socket.create_connection((host, int(port)), timeout=10).close()
            ray.init(address=address, job_config=config, log_to_driver=False, logging_level="ERROR")
        except (OSError, ValueError, RuntimeError) as error:
            remedy = "start one with `ray start --head`, or unset RAY_ADDRESS"
            raise ParamsError(f"no Ray cluster answers at {address}: {one_line(error)}", remedy) from None
    return ray
