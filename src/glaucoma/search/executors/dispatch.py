"""Give units to workers, collect what they tell, replace a worker that dies and retry what it had not finished.

One thread per worker starts it and waits for it. The calling thread alone hears all events, so that it alone writes the
journal and no lock is needed there.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Protocol

from glaucoma.base.errors import TrainingError
from glaucoma.base.interrupts import released
from glaucoma.base.progress import say
from glaucoma.search.executors.work import Event
from glaucoma.train.grid import Run
from glaucoma.train.trainer import Follower

__all__ = ["RETRIES", "Worker", "WorkerDiedError", "dispatch"]

RETRIES = 2  # times that a unit is given to another worker before its runs count as failed
PATIENCE = 10  # seconds that the workers' threads get to end


class WorkerDiedError(Exception):
    """A worker is gone, with what it was doing; the message says how."""


class Worker(Protocol):
    """Something that trains one unit at a time elsewhere."""

    def ready(self) -> None:
        """Wait until it can train; raises WorkerDiedError where it can't be had."""

    def train(self, runs: Sequence[Run]) -> Iterator[Event]:
        """Train runs and yield what happens; raises WorkerDiedError when the worker is lost on the way."""

    def stop(self) -> None:
        """End the worker at once, whatever it does; may be called twice, and from another thread."""


class _Task:
    """A unit on its way: what is left of it, after what was told.

    Attributes:
        left: by run, as `follower` knows it, the epochs that it has not reached yet.
        told: by run, the last epoch that was told.
        deaths: how many workers were lost with it.
    """

    def __init__(self, unit: Sequence[Run]):
        self.left = {run: run.epochs for run in unit}
        self.told = dict.fromkeys(unit, 0)
        self.deaths = 0

    @property
    def optimizer(self) -> str:
        """What decides which compiled model trains it."""
        return next(iter(self.left)).optimizer

    def runs(self) -> list[Run]:
        """What a worker has to train."""
        return [replace(run, epochs=epochs) for run, epochs in self.left.items() if epochs]

    def tell(self, event: Event, follower: Follower) -> None:
        """Pass an event on, unless an earlier worker had come as far."""
        run = next(run for run in self.left if replace(run, epochs=event.run.epochs) == event.run)
        if event.kind == "epoch" and event.what["epoch"] <= self.told[run]:
            return
        if event.kind == "epoch":
            self.told[run] = event.what["epoch"]
        elif event.kind == "snapshot":
            self.left[run] = tuple(epochs for epochs in self.left[run] if epochs > event.what.epochs)
        else:
            self.left[run] = ()
        getattr(follower, event.kind)(run, event.what)


class _Waiting:
    """Tasks that no worker has yet. A worker gets one of the optimizer that it has compiled, where there is one."""

    def __init__(self, tasks: Sequence[_Task]):
        self.tasks, self.changed, self.closed = list(tasks), threading.Condition(), False
        self.compiled: dict[int, str] = {}  # by worker

    def put(self, task: _Task) -> None:
        with self.changed:
            self.tasks.append(task)
            self.changed.notify()

    def close(self) -> None:
        with self.changed:
            self.closed = True
            self.changed.notify_all()

    def take(self, slot: int) -> _Task | None:
        """The next task, as soon as there is one; None once all is done."""
        with self.changed:
            self.changed.wait_for(lambda: self.tasks or self.closed)
            if self.closed:
                return None
            others = {name for other, name in self.compiled.items() if other != slot}
            own = self.compiled.get(slot)
            task = min(self.tasks, key=lambda task: (task.optimizer != own, task.optimizer in others))
            self.tasks.remove(task)
            self.compiled[slot] = task.optimizer
            return task


def dispatch(units: Sequence[Sequence[Run]], start: Callable[[int], Worker], workers: int, follower: Follower) -> None:
    """Train all units on up to `workers` workers.

    A run whose workers died again and again is a failure like any other. An error that is no run's own ends everything.

    Args:
        units: runs that one worker trains together.
        start: starts a worker, given the number of its place (from 0); called in a thread of the place's own.
        workers: how many places there are.
        follower: is told everything, in the calling thread.
    """
    waiting, events, places = _Waiting([_Task(unit) for unit in units]), queue.SimpleQueue(), {}
    given = (start, waiting, events, places)
    threads = [threading.Thread(target=_place, args=(slot, *given), daemon=True) for slot in range(workers)]
    for thread in threads:
        thread.start()
    unfinished = len(units)
    try:
        while unfinished:
            with released():
                task, event = events.get()
            if isinstance(event, Event):
                task.tell(event, follower)
            elif event is None:
                unfinished -= 1
            elif isinstance(event, WorkerDiedError):
                unfinished -= 0 if _again(task, event, waiting, follower) else 1
            else:
                raise event
    finally:
        waiting.close()
        for worker in list(places.values()):
            worker.stop()
        for thread in threads:
            thread.join(PATIENCE)


def _again(task: _Task, death: WorkerDiedError, waiting: _Waiting, follower: Follower) -> bool:
    """Let another worker do what is left of a task, or tell that it failed; whether there is anything to wait for."""
    task.deaths += 1
    runs = task.runs()
    if runs and task.deaths <= RETRIES:
        say(f"a worker died ({death}); another one goes on with {'; '.join(map(str, runs))}")
        waiting.put(task)
        return True
    for run, epochs in list(task.left.items()):
        if epochs:
            follower.failure(run, TrainingError(f"{task.deaths} workers died of it, the last one: {death}"))
    return False


def _place(
    slot: int,
    start: Callable[[int], Worker],
    waiting: _Waiting,
    events: queue.SimpleQueue,
    places: dict[int, Worker],
) -> None:
    """Keep a worker in this place until all is done. Without a worker it holds no task that others could do."""
    failed = 0
    try:
        while not waiting.closed:
            task = None
            try:
                if slot not in places:
                    places[slot] = start(slot)
                    places[slot].ready()
                failed = 0
                if (task := waiting.take(slot)) is None:
                    break
                for event in places[slot].train(task.runs()):
                    events.put((task, event))
                events.put((task, None))
            except WorkerDiedError as death:
                places.pop(slot).stop()
                waiting.compiled.pop(slot, None)
                failed += task is None
                if failed > RETRIES:
                    raise TrainingError(f"workers die as they start: {death}", "train with one worker") from None
                if task is not None:
                    events.put((task, death))
    except BaseException as error:  # travels to the thread that waits for it
        events.put((None, error))
    finally:
        if slot in places:
            places[slot].stop()
