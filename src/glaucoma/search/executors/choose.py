"""Where trials are trained: in this process, in several, or on a cluster. It changes no result, so it is no parameter.

GLAUCOMA_JOBS            how many trials at a time; more than 1 starts that many processes
GLAUCOMA_EXECUTOR        local, processes or ray; decided by the other variables where it is not set
GLAUCOMA_THREADS         threads that each trial computes with, all cores by default; part of what decides a result
RAY_ADDRESS              the cluster's head: trains there
GLAUCOMA_GPUS_PER_TRIAL  on the cluster; 0.5 lets two trials share a GPU
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from glaucoma.base.environment import number
from glaucoma.base.errors import ParamsError
from glaucoma.search.executors.cluster import Cluster
from glaucoma.search.executors.local import InProcess
from glaucoma.search.executors.processes import Processes
from glaucoma.search.executors.work import Work
from glaucoma.train.grid import Run
from glaucoma.train.trainer import Follower

__all__ = ["EXECUTORS", "FLAGS", "Executor", "choose"]

EXECUTORS = ("local", "processes", "ray")
FLAGS: dict[str, dict[str, Any]] = {
    "jobs": {"type": int, "metavar": "N", "help": "trials to train at a time (default: GLAUCOMA_JOBS, or 1)"},
    "executor": {"choices": EXECUTORS, "help": "where to train them (default: GLAUCOMA_EXECUTOR, or by the jobs)"},
}


class Executor(Protocol):
    """Something that trains units of runs."""

    def workers(self) -> int:
        """How many units are trained at a time."""

    def run(self, work: Work, arrays: Sequence[np.ndarray], units: Sequence[Sequence[Run]], follower: Follower) -> None:
        """Train all units, telling `follower`; the network is left with the values it had."""


def choose(jobs: int | None = None, executor: str | None = None) -> Executor:
    """The executor that flags ask for, or else the environment.

    Raises:
        ParamsError: a value that can't be used, or no cluster.
    """
    jobs = number("GLAUCOMA_JOBS", int, 1, None) if jobs is None else jobs
    address = os.environ.get("RAY_ADDRESS")
    name = executor or os.environ.get("GLAUCOMA_EXECUTOR") or _usual(jobs, address)
    if name not in EXECUTORS:
        raise ParamsError(f"GLAUCOMA_EXECUTOR is {name}", f"choose one of: {', '.join(EXECUTORS)}")
    if jobs is not None and jobs < 1:
        raise ParamsError(f"{jobs} trials at a time", "set GLAUCOMA_JOBS or --jobs to 1 or more")
    if name == "ray":
        return Cluster(address, jobs, number("GLAUCOMA_GPUS_PER_TRIAL", float, 0, 0.0))
    return Processes(jobs or 1) if name == "processes" else InProcess()


def _usual(jobs: int | None, address: str | None) -> str:
    if address:
        return "ray"
    return "processes" if jobs is not None and jobs > 1 else "local"
