"""Progress with the remaining time: a bar in a terminal, occasional plain lines in a log file."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

from glaucoma.base import interrupts

__all__ = ["Progress", "plain", "say", "silent", "track"]

Item = TypeVar("Item")
LOG_INTERVAL = 15.0  # seconds between lines in a log file
_bars = _lines = True


def plain() -> None:
    """From now on, write lines to terminals too: several processes can't share a bar."""
    global _bars
    _bars = False


def silent() -> None:
    """From now on, show no progress: what a server does is nobody's wait."""
    global _bars, _lines
    _bars = _lines = False


def say(message: str) -> None:
    """Print a line without breaking a progress bar."""
    tqdm.write(message, file=sys.stderr)
    sys.stderr.flush()


class Progress:
    """Counts steps of a known total; `note` describes the current one (trial, epoch, loss).

    Args:
        title: of the task.
        total: number of steps.
        unit: name of a step.
    """

    def __init__(self, title: str, total: int, unit: str = "step"):
        self.title, self.total, self.unit = title, total, unit
        self.done, self.last, self.note_text = 0, time.monotonic(), ""
        self.skipped = 0  # steps done before, which took no time
        self.told = -1  # steps done at the last line
        self.start = self.last
        terminal = _bars and sys.stderr.isatty()
        self.bar = tqdm(total=total, desc=title, unit=unit, file=sys.stderr, dynamic_ncols=True) if terminal else None

    def step(self, count: int = 1, note: str = "") -> None:
        """Count `count` steps; `note` replaces the text beside the bar."""
        interrupts.check()
        self.done += count
        self.note_text = note or self.note_text
        if self.bar is not None:
            self.bar.set_postfix_str(self.note_text, refresh=False)
            self.bar.update(count)
        elif _lines and time.monotonic() - self.last >= LOG_INTERVAL:
            self._line()

    def skip(self, count: int) -> None:
        """Count steps that were done before; they are left out of the remaining time."""
        self.done += count
        self.skipped += count
        if self.bar is not None:
            self.bar.initial += count
            self.bar.n += count
            self.bar.refresh()

    def close(self) -> None:
        """Remove the bar, or write the last line."""
        if self.bar is not None:
            self.bar.close()
        elif _lines and self.told != self.done:
            self._line()

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _line(self) -> None:
        self.last, self.told = time.monotonic(), self.done
        elapsed = self.last - self.start
        done = self.done - self.skipped
        left = elapsed / done * (self.total - self.done) if done else None
        clock = tqdm.format_interval
        times = f"{clock(elapsed)} gone" + (f", {clock(left)} left" if left else "")
        note = f" | {self.note_text}" if self.note_text else ""
        print(f"{self.title}: {self.done}/{self.total} {self.unit}s, {times}{note}", file=sys.stderr, flush=True)


def track(items: Iterable[Item], title: str, total: int, unit: str) -> Iterator[Item]:
    """Yield from `items`, counting each."""
    with Progress(title, total, unit) as progress:
        for item in items:
            yield item
            progress.step()
