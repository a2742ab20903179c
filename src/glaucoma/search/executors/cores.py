"""Which cores a worker runs on, so that n workers on n cores do not fight.

How many threads a step computes with decides its sums, and so its result; it is the same for every worker
(`glaucoma.model.runtime.threads`). What a worker gets less of is cores: its threads take turns on its share.
"""

from __future__ import annotations

import os

__all__ = ["pin", "share"]


def share(worker: int, workers: int, cores: list[int]) -> set[int]:
    """The cores of one of several workers, numbered from 0: disjoint and of equal size where there are enough.

    Raises:
        ValueError: there is no core.
    """
    if not cores:
        raise ValueError("a worker needs at least one core")
    if workers >= len(cores):
        return {cores[worker % len(cores)]}
    return set(cores[worker * len(cores) // workers : (worker + 1) * len(cores) // workers])


def pin(worker: int, workers: int) -> None:
    """Keep the calling thread, and every process that it starts from now on, on its share of this process's cores.

    Does nothing where the system does not offer it (macOS).
    """
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, share(worker, workers, sorted(os.sched_getaffinity(os.getpid()))))
