"""Delay Ctrl-C until a safe point.

A KeyboardInterrupt can be raised between any two instructions and leave a callback from native code unfinished: one in
25 interrupted searches corrupted TensorFlow's memory. While interrupts are held, Ctrl-C makes the next `check` raise,
which happens once per batch; a second Ctrl-C stops at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["check", "held", "install", "released"]

_depth = 0  # nesting level of `held`; 0: interrupts are raised at once
_pending = False


def install() -> None:
    """Install the handler for Ctrl-C, unless this process ignores it, like background processes of a shell."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _arrived)


@contextmanager
def held() -> Iterator[None]:
    """Context in which an interrupt waits for `check` or for the end."""
    global _depth
    _depth += 1
    try:
        yield
        check()
    finally:
        _depth -= 1


@contextmanager
def released() -> Iterator[None]:
    """Context in which interrupts are raised at once; no native code may run in this thread."""
    global _depth
    before, _depth = _depth, 0
    try:
        check()
        yield
    finally:
        _depth = before


def check() -> None:
    """Raise a pending interrupt.

    Raises:
        KeyboardInterrupt: Ctrl-C was pressed.
    """
    global _pending
    if _pending:
        _pending = False
        raise KeyboardInterrupt


def _arrived(number: int, frame: object) -> None:
    global _pending
    if not _depth or _pending:
        _pending = False
        raise KeyboardInterrupt
    _pending = True
    print("\nCtrl-C: stopping after this step; once more stops at once", file=sys.stderr)
