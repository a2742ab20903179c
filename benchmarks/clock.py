"""Measure the seconds of each epoch of Keras' `fit`, regardless of the caller."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from glaucoma.model.runtime import keras

__all__ = ["Clock", "clocked", "steady"]


@dataclass
class Clock:
    """The measurements of `clocked`.

    Attributes:
        fits: for each call of `fit`, a list of epochs: seconds of training steps (`train`) and of everything else,
            mainly validation (`rest`).
        model: the last fitted model.
        first_step: `time.time()` at the end of the first training step.
        steps: whether to watch every step, at a small cost; without it, there is no `first_step`.
    """

    fits: list[list[dict[str, float]]] = field(default_factory=list)
    model: keras.Model | None = None
    first_step: float | None = None
    steps: bool = False


@contextmanager
def clocked(clock: Clock) -> Iterator[Clock]:
    """Context in which `clock` times each `fit`."""
    fit = keras.Model.fit

    def watched(self: keras.Model, *args: Any, callbacks: Any = (), **options: Any) -> Any:
        clock.model = self
        clock.fits.append([])
        before = _Before()
        watch = [_Steps(clock)] if clock.steps else []
        return fit(self, *args, callbacks=[before, *watch, *callbacks, _After(clock, before)], **options)

    keras.Model.fit = watched
    try:
        yield clock
    finally:
        keras.Model.fit = fit


def steady(epochs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Seconds of an epoch without the tracing in the first: the fastest of each part.

    Other load on the machine can only add time. With a single epoch, a disturbed measurement of the obvious way would
    make ours look fast.
    """
    return {part: min(epoch[part] for epoch in epochs[1:]) for part in ("train", "rest")}


class _Before(keras.callbacks.Callback):
    """Records when an epoch began and when its training ended: at validation or at the end-of-epoch callbacks."""

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        self.begin, self.trained = time.perf_counter(), None

    def on_test_begin(self, logs: Any = None) -> None:
        self.trained = self.trained or time.perf_counter()

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        self.trained = self.trained or time.perf_counter()


class _After(keras.callbacks.Callback):
    """The last callback at an epoch's end."""

    def __init__(self, clock: Clock, before: _Before):
        super().__init__()
        self.clock, self.before = clock, before

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        begin, trained = self.before.begin, self.before.trained
        self.clock.fits[-1].append({"train": trained - begin, "rest": time.perf_counter() - trained})


class _Steps(keras.callbacks.Callback):
    def __init__(self, clock: Clock):
        super().__init__()
        self.clock = clock

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        self.clock.first_step = self.clock.first_step or time.time()
