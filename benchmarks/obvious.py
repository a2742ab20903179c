"""The obvious way to search: for each trial build the network, compile it and fit it from pixels, as the report did.

It uses the project's batches, seed and initial weights, so that both end with the same scores; the trunk is part of the
graph, in inference mode. Otherwise it is plain Keras: its optimizers and data sets, one fit per trial, nothing shared
between trials.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from clock import Clock, clocked, steady
from material import network, pixels, splits
from measuring import SEED, Scale

from glaucoma.base.params import Trial
from glaucoma.dataset.splits import Split
from glaucoma.model.batches import Batches
from glaucoma.model.cut import Cut, through_trunk
from glaucoma.model.network import CLASSES, values
from glaucoma.model.runtime import keras

__all__ = ["EPOCHS", "PLAIN", "Ended", "difference", "measure_short", "train", "whole_grid"]

EPOCHS = 4  # of a short trial: the first traces, the fastest of the others counts
PLAIN = {
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "adadelta": keras.optimizers.Adadelta,
    "adagrad": keras.optimizers.Adagrad,
}


@dataclass(frozen=True)
class Ended:
    """The result of a trial: values of the tail's variables, P(abnormal) of the test split, seconds per epoch."""

    weights: list[np.ndarray]
    probability: np.ndarray
    epochs: list[dict[str, float]]
    setup: float


def train(build: Callable[[], Cut], images: np.ndarray, parts: Mapping[str, Split], trial: Trial) -> Ended:
    """Train a trial from scratch. `setup` is the extra time up to the end of the first epoch, relative to the last."""
    begin = time.perf_counter()
    cut = build()
    model = through_trunk(cut) if cut.trunk else cut.network
    model.compile(
        optimizer=PLAIN[trial.optimizer](learning_rate=trial.lr),
        loss=keras.losses.BinaryCrossentropy(),
        metrics=[keras.metrics.CategoricalAccuracy(), keras.metrics.F1Score(average="macro")],
    )
    train_split, test = parts["train"], parts["test"]
    with clocked(Clock()) as clock:
        model.fit(
            Batches([images], train_split.rows, train_split.abnormal, batch_size=trial.batch_size, seed=SEED),
            validation_data=Batches([images], test.rows, test.abnormal, batch_size=trial.batch_size),
            epochs=trial.epochs,
            shuffle=False,
            verbose=0,
        )
    epochs = clock.fits[0]
    later = sum(sum(epoch.values()) for epoch in epochs[1:])
    setup = time.perf_counter() - begin - later - sum(steady(epochs).values())
    probability = model.predict(Batches([images], test.rows, None, batch_size=trial.batch_size), verbose=0)
    return Ended(values(cut.tail.variables), probability[:, CLASSES.index("abnormal")].astype("float64"), epochs, setup)


def measure_short(cut: Callable[[Any], Cut], chosen: Sequence[Trial], folder: Path, scale: Scale) -> dict[str, Any]:
    """Train a short trial for each batch size of a grid; the result of the first is written to a file for comparison.

    Returns:
        `costs`: for each batch size, seconds of setup and per training and test image; and the trial to compare.
    """
    images, parts = pixels(folder, scale), splits(scale, short=True)
    costs, compared = {}, short_trial(chosen)
    for size in sorted({trial.batch_size for trial in chosen}):
        trial = compared.model_copy(update={"batch_size": size})
        ended = train(lambda: cut(network(scale)), images, parts, trial)
        if trial == compared:
            np.savez(folder / "obvious.npz", *ended.weights, probability=ended.probability)
        epoch = steady(ended.epochs)
        costs[str(size)] = {
            "setup": ended.setup,
            "train": epoch["train"] / len(parts["train"]),
            "test": epoch["rest"] / len(parts["test"]),
        }
    return {"costs": costs, "epochs": EPOCHS}


def short_trial(chosen: Sequence[Trial]) -> Trial:
    """The trial for the comparison: some epochs of Adam on the short splits, with the grid's smallest batch size."""
    lr, size = max(trial.lr for trial in chosen), min(trial.batch_size for trial in chosen)
    return Trial(lr=lr, optimizer="adam", batch_size=size, epochs=EPOCHS)


def whole_grid(costs: Mapping[str, Mapping[str, float]], chosen: Sequence[Trial], scale: Scale) -> float:
    """Seconds that the obvious way would take for all trials: setup and epochs of each."""
    total = 0.0
    for trial in chosen:
        cost = costs[str(trial.batch_size)]
        total += cost["setup"] + trial.epochs * (scale.train * cost["train"] + scale.test * cost["test"])
    return total


def difference(folder: Path, weights: Sequence[np.ndarray], probability: np.ndarray) -> dict[str, float]:
    """Largest differences between the obvious way's result, read from its file, and ours."""
    with np.load(folder / "obvious.npz") as kept:
        theirs = [kept[f"arr_{i}"] for i in range(len(weights))]
        scores = kept["probability"]
    apart = [
        np.abs(a.astype("float64") - b.astype("float64")).max(initial=0) for a, b in zip(theirs, weights, strict=True)
    ]
    return {"weights": float(max(apart)), "probability": float(np.abs(scores - probability).max())}
