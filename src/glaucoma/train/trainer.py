"""Train a model repeatedly from the same initial values: compiled once, reset between runs, with snapshots."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import expit

from glaucoma.base.errors import TrainingError
from glaucoma.base.params import Augment, Trial
from glaucoma.dataset.splits import Split
from glaucoma.model.augmentation import augmented, augmenting_layers
from glaucoma.model.batch_norm import BatchStatistics, one_kernel
from glaucoma.model.batches import Batches, Stoppable, predicted
from glaucoma.model.cut import before_statistics
from glaucoma.model.network import assign, values
from glaucoma.model.optimizers import make_optimizer
from glaucoma.model.runtime import keras, ready_to_predict
from glaucoma.model.scorer import log_odds, scorer
from glaucoma.train.checkpoint import Checkpoint
from glaucoma.train.fitting import (
    EpochEnd,
    check_finite,
    class_weights,
    fit_callbacks,
    followed_metrics,
    history_row,
    statistics_rows,
)
from glaucoma.train.memory import check_memory

__all__ = [
    "Follower",
    "Run",
    "Snapshot",
    "Trainer",
]

Run = tuple[Trial, ...]  # trials that differ only in epochs, ascending: the last is trained, the others are snapshots


@dataclass(frozen=True)
class Snapshot:
    """A model after some epochs of training.

    Attributes:
        epochs: number of epochs; after early stopping, the planned number, and `history` is shorter.
        weights: values of the trainer's variables, in their order.
        log_odds: by split, float64 (n,), ln(p / (1 - p)) of the probability of abnormal of each image.
        history: one row per epoch: epoch (from 1), loss, accuracy, f1_macro, and the same with `test_`. If batch
            statistics are recomputed, `test_` uses those of half of the train split, and of all of it in the last row.
        seconds: training time so far.
    """

    epochs: int
    weights: list[np.ndarray]
    log_odds: dict[str, np.ndarray]
    history: pd.DataFrame
    seconds: float

    @property
    def probability(self) -> dict[str, np.ndarray]:
        """By split, float64 (n,), the probability of abnormal; rounded to 1 from log-odds of 37."""
        return {name: expit(found) for name, found in self.log_odds.items()}


@dataclass(frozen=True)
class Follower:
    """A trainer's callbacks.

    Attributes:
        epoch: called with the run and the newest row of its history.
        snapshot: called with each of the run's trials and its final state.
        failure: called with the run and the error that stopped it.
        checkpoint: the file of a trial's checkpoint; None for none.
        resumed: called with the run and the number of epochs that its checkpoint holds.
    """

    epoch: Callable[[Run, dict[str, float]], None]
    snapshot: Callable[[Trial, Snapshot], None]
    failure: Callable[[Run, Exception], None]
    checkpoint: Callable[[Trial], Path | None] = lambda trial: None
    resumed: Callable[[Run, int], None] = lambda run, epochs: None


class _Compiled(NamedTuple):
    """A compiled model, the variables of its optimizer and its augmentation, and their initial values."""

    model: keras.Model
    moving: list[keras.Variable]
    state: list[np.ndarray]


class Trainer:
    """Trains a model from the same initial values, one run at a time.

    Args:
        model: maps `arrays` to (batch, 2) probabilities.
        variables: the model's variables that training changes; their current values are the start of every run.
        arrays: the model's inputs for all images: pixels, or the outputs of a frozen trunk.
        seed: determines data order and augmentation; dropout depends on the generators' states among the variables.
        augment: augmentation of pixels; must be None for activations.
    """

    def __init__(
        self,
        model: keras.Model,
        variables: Sequence[keras.Variable],
        arrays: Sequence[np.ndarray],
        seed: int,
        augment: Augment | None = None,
    ):
        self.model, self.variables, self.arrays, self.seed = model, variables, arrays, seed
        self.augment = augment if augment is not None and augment.is_on() else None
        self.start = values(variables)
        self.front, self.rear = before_statistics(model)
        self.scorer = scorer(self.rear)
        self._compiled: dict[tuple[str, float], _Compiled] = {}

    @cached_property
    def _statistics(self) -> BatchStatistics:
        return BatchStatistics(self.rear)

    def train(self, runs: Sequence[Run], splits: Mapping[str, Split], follower: Follower) -> None:
        """Train runs on `train` and score `test` every epoch; all splits are predicted at each snapshot."""
        for run in runs:
            try:
                self._train(run, splits, follower)
            except Exception as error:
                if type(error) is RuntimeError and "between 0 and 1" in str(error):  # torch's cross-entropy of NaN
                    error = TrainingError(f"{run[-1]}: diverged, the loss is nan", "lower the learning rate")
                if not is_the_runs_own(error):
                    raise
                follower.failure(run, error)

    def _train(self, run: Run, splits: Mapping[str, Split], follower: Follower) -> None:
        trial, at = run[-1], {one.epochs: one for one in run}
        train, test = splits["train"], splits["test"]
        check_memory(self.model, min(trial.batch_size, len(train)), str(trial))
        model, moving, _ = self._ready(trial)
        rows: list[dict[str, float]] = []
        callbacks = fit_callbacks(trial)
        checkpoint = Checkpoint(follower.checkpoint(trial), [*self.variables, *moving], callbacks, rows)

        def look(*, whole: bool) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
            """The log-odds of test only, or of all splits and the weights."""
            due = {name: split.rows for name, split in splits.items() if whole or split is test}
            sample = statistics_rows(train, self.seed, whole=whole) if trial.precise_bn else train.rows[:0]
            batches = self._passed([sample, *due.values()], trial.batch_size)
            with self._statistics.of(batches(sample)) if trial.precise_bn else nullcontext():
                found = {name: log_odds(predicted(self.scorer, batches(rows))) for name, rows in due.items()}
                return found, values(self.variables) if whole else []

        def reached(epochs: int, found: tuple[dict[str, np.ndarray], list[np.ndarray]], history: list) -> None:
            log_odds, weights = found
            snapshot = Snapshot(epochs, weights, log_odds, pd.DataFrame(history), checkpoint.seconds)
            follower.snapshot(at[epochs], snapshot)

        def epoch_end(epoch: int, logs: dict[str, float]) -> float:
            due = epoch + 1 in at and not trial.early_stopping
            # The loss that callbacks see must not depend on whether a snapshot is due
            whole = due and (epoch + 1 == trial.epochs or not trial.precise_bn)
            found = look(whole=whole)
            rows.append(history_row(epoch, logs, test, log_odds=found[0]["test"]))
            check_finite(trial, rows[-1])
            follower.epoch(run, rows[-1])
            if due:
                found = found if whole else look(whole=True)
                reached(epoch + 1, found, [*rows[:-1], history_row(epoch, logs, test, log_odds=found[0]["test"])])
            return rows[-1]["test_loss"]

        if done := checkpoint.resume(before=run[0].epochs):
            follower.resumed(run, done)
        given = {"batch_size": trial.batch_size, "seed": self.seed, "epoch": done}
        with one_kernel(model):
            model.fit(
                Batches(self.arrays, train.rows, train.abnormal, **given),
                initial_epoch=done,
                epochs=trial.epochs,
                shuffle=False,  # Batches shuffles images; this would shuffle batches by the global seed
                verbose=0,
                class_weight=class_weights(trial, train),
                callbacks=[Stoppable(), EpochEnd(epoch_end), *callbacks, checkpoint],
            )
        if trial.early_stopping:  # only now are the best epoch's weights restored
            reached(trial.epochs, look(whole=True), rows)

    def _passed(self, wanted: Sequence[np.ndarray], size: int) -> Callable[[np.ndarray], Batches]:
        """Batches of rows among `wanted` for `rear`, which have passed through `front`, if there is one."""
        if self.front is None:
            return lambda rows: Batches(self.arrays, rows, None, batch_size=size)
        ready_to_predict(self.front)
        every = np.unique(np.concatenate(wanted))
        pooled = predicted(self.front, Batches(self.arrays, every, None, batch_size=size))
        return lambda rows: Batches([pooled], np.searchsorted(every, rows), None, batch_size=size)

    def _ready(self, trial: Trial) -> _Compiled:
        """The model compiled with the trial's optimizer, both reset to their initial values.

        One compiled model serves every learning rate and batch size, because neither is part of the traced step. The
        global seed is not set: dropout uses generators among the variables, and setting the seed would make TensorFlow
        optimise every traced function again (3 s for a whole EfficientNetB0).
        """
        key = trial.optimizer, trial.label_smoothing
        if key not in self._compiled:
            layers = augmenting_layers(self.augment, self.seed) if self.augment else []
            model = keras.Model(self.model.inputs, self.model.outputs[0])
            model = augmented(model, layers) if layers else model
            optimizer = make_optimizer(trial.optimizer, trial.lr)
            loss = keras.losses.BinaryCrossentropy(label_smoothing=trial.label_smoothing)
            model.compile(optimizer=optimizer, loss=loss, metrics=followed_metrics())
            model.optimizer.build(model.trainable_variables)
            ready_to_predict(self.scorer)
            moving = [*model.optimizer.variables, *(variable for layer in layers for variable in layer.variables)]
            self._compiled[key] = _Compiled(model, moving, values(moving))
        model, moving, state = self._compiled[key]
        assign(self.variables, self.start)
        assign(moving, state)
        model.optimizer.learning_rate = trial.lr
        return self._compiled[key]


def is_the_runs_own(error: Exception) -> bool:
    """Whether a configuration can have caused an error: divergence or too little memory."""
    return isinstance(error, (TrainingError, MemoryError, ArithmeticError)) or type(error).__name__ in (
        "ResourceExhaustedError",  # TensorFlow
        "OutOfMemoryError",  # torch
        "XlaRuntimeError",  # JAX
    )
