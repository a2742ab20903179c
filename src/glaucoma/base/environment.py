"""Numbers that the environment may set: what changes no result, or, as the number of threads, the last bits only."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from glaucoma.base.errors import ParamsError

__all__ = ["number"]

Number = TypeVar("Number", int, float)


def number(name: str, kind: Callable[[str], Number], least: Number, default: Number | None) -> Number | None:
    """The environment's `name`, or the default where it is not set.

    Raises:
        ParamsError: it is no number of this kind from `least`.
    """
    given = os.environ.get(name)
    if not given:
        return default
    try:
        found = kind(given)
    except ValueError:
        found = None
    if found is None or not found >= least:  # a comparison with nan is false
        raise ParamsError(f"the environment's {name} is {given!r}", f"set it to a number from {least}, or unset it")
    return found
