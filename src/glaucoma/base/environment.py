"""Numbers that the environment may set: what changes no result, or, as the number of threads, the last bits only."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from typing import TypeVar

from joblib import cpu_count

from glaucoma.base.errors import ParamsError

__all__ = ["number", "threads"]

Number = TypeVar("Number", bound=float)
Default = TypeVar("Default", bound="float | None")


def number(name: str, kind: Callable[[str], Number], least: float, default: Default) -> Number | Default:
    """The environment's `name`, or the default where it is not set.

    Raises:
        ParamsError: it is no number of this kind from `least`.
    """
    given = os.environ.get(name)
    if not given:
        return default
    try:
        found: Number | None = kind(given)
    except ValueError:
        found = None
    if found is None or not found >= least:  # a comparison with nan is false
        raise ParamsError(f"the environment's {name} is {given!r}", f"set it to a number from {least}, or unset it")
    return found


@cache
def threads() -> int:
    """How many threads an operation is split over: all cores, or GLAUCOMA_THREADS.

    It decides the order in which a gradient is summed, and so the last bits of a result. So it is the same in every
    worker, however many share the cores.

    Raises:
        ParamsError: GLAUCOMA_THREADS is no whole number from 1.
    """
    given = os.environ.get("GLAUCOMA_THREADS") or str(cpu_count())
    if not given.isdecimal() or int(given) < 1:
        raise ParamsError(f"the environment's GLAUCOMA_THREADS is {given!r}", "set it to a whole number from 1")
    return int(given)
