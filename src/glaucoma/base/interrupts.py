"""Ctrl-C that waits for a safe place.

A KeyboardInterrupt that is raised between any two instructions may leave a callback from native code half done: one in
25 stopped searches ended with corrupted memory in TensorFlow. While interrupts are held, Ctrl-C only makes the next
`check` raise, of which there is one per batch; a second Ctrl-C stops at once.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["check", "held", "install", "released"]

_depth = 0  # how many `held` are open; 0: an interrupt is raised where it arrives
_pending = False


def install() -> None:
    """Take over Ctrl-C, unless this process ignores it, as those in the background of a shell do."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, _arrived)


@contextmanager
def held() -> Iterator[None]:
    """Within, an interrupt waits for `check`, or for the end."""
    global _depth
    _depth += 1
    try:
        yield
        check()
    finally:
        _depth -= 1


@contextmanager
def released() -> Iterator[None]:
    """Within, while nothing native runs in this thread, an interrupt is raised where it arrives."""
    global _depth
    before, _depth = _depth, 0
    try:
        check()
        yield
    finally:
        _depth = before


def check() -> None:
    """Raise the interrupt that has arrived, if one has.

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
