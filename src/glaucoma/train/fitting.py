"""Keras settings for a trial's options: class weights, images for batch statistics, callbacks.

Callbacks monitor `test_loss`, the cross-entropy on the test split, which trials are selected on too. In a fold of the
cross-validation, early stopping and `plateau` therefore make test scores optimistic; `valid` is not affected.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from sklearn.utils.class_weight import compute_class_weight

from glaucoma.base.errors import TrainingError
from glaucoma.base.params import Trial
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import THRESHOLD, decided
from glaucoma.model.network import CLASSES
from glaucoma.model.runtime import keras

__all__ = [
    "EpochEnd",
    "check_finite",
    "class_weights",
    "fit_callbacks",
    "followed",
    "followed_metrics",
    "history_row",
    "learning_rate",
    "statistics_rows",
]

FOLLOWED = "test_loss"
PATIENCE, FACTOR = 3, 0.5  # of schedule `plateau`
ENOUGH = 2_000  # images for batch statistics; 10³ to 10⁴ suffice (Wu and Johnson 2021, arXiv 2105.07576)
PART = 0.5  # share of the train split for statistics after each epoch; a tenth of an epoch's time for EfficientNetB0


class EpochEnd(keras.callbacks.Callback):
    """Calls `work(epoch, logs)` at the end of each epoch, and logs the returned test loss for later callbacks."""

    def __init__(self, work: Callable[[int, dict[str, float]], float]):
        super().__init__()
        self.work = work

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Call `work`; Keras passes the same logs to all callbacks."""
        logs[FOLLOWED] = self.work(epoch, logs)


def fit_callbacks(trial: Trial) -> list[keras.callbacks.Callback]:
    """Keras callbacks for a trial's schedule and early stopping; none for the report's configuration."""
    found, patience = [], trial.early_stopping
    if trial.schedule == "cosine" or trial.warmup:
        found.append(keras.callbacks.LearningRateScheduler(lambda epoch, now: learning_rate(trial, epoch, now)))
    if trial.schedule == "plateau":
        found.append(keras.callbacks.ReduceLROnPlateau(FOLLOWED, FACTOR, PATIENCE, mode="min"))
    if patience:
        found.append(keras.callbacks.EarlyStopping(FOLLOWED, patience=patience, mode="min", restore_best_weights=True))
    return found


def learning_rate(trial: Trial, epoch: int, now: float) -> float:
    """The learning rate of an epoch (from 0).

    With w epochs of warm-up, epoch e < w has lr · (e + 1) / (w + 1). Then `cosine` decays along half a cosine wave over
    the remaining epochs, to 0 after the last (Loshchilov and Hutter 2017, doi 10.48550/arXiv.1608.03983, without
    restarts). Other schedules keep the rate, at `now` if a plateau has lowered it.
    """
    warmup = trial.warmup
    if epoch < warmup:
        return trial.lr * (epoch + 1) / (warmup + 1)
    if trial.schedule == "cosine":
        falling = keras.optimizers.schedules.CosineDecay(trial.lr, max(trial.epochs - warmup, 1))
        return float(keras.ops.convert_to_numpy(falling(epoch - warmup)))
    return trial.lr if epoch == warmup else now


def class_weights(trial: Trial, train: Split) -> dict[int, float] | None:
    """The weight of each class, by column of the labels; None if all weights are equal."""
    if trial.class_weight == "none":
        return None
    present = np.unique(train.abnormal)
    weights = compute_class_weight("balanced", classes=present, y=train.abnormal)
    names = ["abnormal" if abnormal else "normal" for abnormal in present]
    return dict.fromkeys(range(len(CLASSES)), 1.0) | {
        CLASSES.index(name): float(weight) for name, weight in zip(names, weights, strict=True)
    }


def statistics_rows(train: Split, seed: int, *, whole: bool) -> np.ndarray:
    """Rows of the images for batch statistics: a random sample of all or part of `train`, at most 2 000."""
    wanted = len(train) if whole else math.ceil(len(train) * PART)
    return np.random.default_rng(seed).permutation(train.rows)[: min(wanted, ENOUGH)]


LOSS = "cross_entropy"
EPSILON = 1e-7  # keras.config.epsilon()


def followed_metrics() -> list[keras.metrics.Metric]:
    """The metrics of an epoch, as in the report.

    Their state is created here: created while tracing the first step, it would make TensorFlow trace that step twice.
    """
    f1 = keras.metrics.F1Score(average="macro", name="f1_macro")
    f1.update_state(*[keras.ops.eye(len(CLASSES))] * 2)
    f1.reset_state()
    return [keras.metrics.BinaryCrossentropy(name=LOSS), keras.metrics.CategoricalAccuracy(name="accuracy"), f1]


def history_row(epoch: int, logs: Mapping[str, float], test: Split, *, log_odds: np.ndarray) -> dict[str, float]:
    """A row of a history: Keras' logs of an epoch (from 0), and the test scores from its predictions.

    The train loss is the metric's mean over images, which Keras' own loss is only for models with one output. Test
    scores come from `predict`, which the last epoch needs anyway, instead of `evaluate`, which would trace another
    graph. The cross-entropy is clipped like Keras'.
    """
    row = {"epoch": epoch + 1, "loss": logs[LOSS], "accuracy": logs["accuracy"], "f1_macro": logs["f1_macro"]}
    row |= {f"test_{name}": value for name, value in followed(test, log_odds=log_odds).items()}
    return {name: value if name == "epoch" else float(value) for name, value in row.items()}


def followed(split: Split, *, log_odds: np.ndarray) -> dict[str, float]:
    """The scores of a split in a history: loss (cross-entropy), accuracy and f1_macro (NaN if not defined)."""
    if not np.isfinite(log_odds).all():
        return dict.fromkeys(("loss", "accuracy", "f1_macro"), np.nan)
    found = decided(split.abnormal, log_odds >= THRESHOLD)
    losses = np.logaddexp(0, np.where(split.abnormal, -log_odds, log_odds))
    loss = np.clip(losses, -np.log(1 - EPSILON), -np.log(EPSILON)).mean()
    return {"loss": loss} | {name: found.get(name, np.nan) for name in ("accuracy", "f1_macro")}


def check_finite(trial: Trial, row: Mapping[str, float]) -> None:
    """Stop if a loss is NaN or infinite.

    Raises:
        TrainingError: a loss is not finite; it names the trial, the losses and the epoch.
    """
    if not np.isfinite([row["loss"], row["test_loss"]]).all():
        found = f"{trial}: diverged in epoch {row['epoch']}, train loss {row['loss']:g}, test loss {row['test_loss']:g}"
        raise TrainingError(found, "lower the learning rate")
