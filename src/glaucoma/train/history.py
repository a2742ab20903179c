"""What is followed epoch by epoch: Keras' metrics of the train split, and the test split from its predictions."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from glaucoma.base.errors import TrainingError
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import THRESHOLD, decided
from glaucoma.model.network import CLASSES
from glaucoma.model.runtime import keras
from glaucoma.train.grid import Run

__all__ = ["check_finite", "followed", "followed_metrics", "history_row"]

LOSS = "cross_entropy"
EPSILON = 1e-7  # keras.config.epsilon()


def followed_metrics() -> list[keras.metrics.Metric]:
    """The metrics of an epoch, as the report follows them.

    Their state is made here: made while the first step is traced, TensorFlow would trace that step twice.
    """
    f1 = keras.metrics.F1Score(average="macro", name="f1_macro")
    f1.update_state(*[keras.ops.eye(len(CLASSES))] * 2)
    f1.reset_state()
    return [keras.metrics.BinaryCrossentropy(name=LOSS), keras.metrics.CategoricalAccuracy(name="accuracy"), f1]


def history_row(epoch: int, logs: Mapping[str, float], test: Split, *, log_odds: np.ndarray) -> dict[str, float]:
    """A row of a history: an epoch (from 0) of Keras' logs, and the test split from its predictions.

    The train loss is the metric's, a mean over images; Keras' own is that only for a model of one output. Test is
    scored from `predict`, which the last epoch needs anyway, and not by `evaluate`, which would be one more graph to
    trace. The cross-entropy clips as Keras' does.
    """
    row = {"epoch": epoch + 1, "loss": logs[LOSS], "accuracy": logs["accuracy"], "f1_macro": logs["f1_macro"]}
    row |= {f"test_{name}": value for name, value in followed(test, log_odds=log_odds).items()}
    return {name: value if name == "epoch" else float(value) for name, value in row.items()}


def followed(split: Split, *, log_odds: np.ndarray) -> dict[str, float]:
    """What a history says of a split: loss (cross-entropy), accuracy and f1_macro (NaN where they are not defined)."""
    if not np.isfinite(log_odds).all():
        return dict.fromkeys(("loss", "accuracy", "f1_macro"), np.nan)
    found = decided(split.abnormal, log_odds >= THRESHOLD)
    losses = np.logaddexp(0, np.where(split.abnormal, -log_odds, log_odds))
    loss = np.clip(losses, -np.log(1 - EPSILON), -np.log(EPSILON)).mean()
    return {"loss": loss} | {name: found.get(name, np.nan) for name in ("accuracy", "f1_macro")}


def check_finite(run: Run, row: Mapping[str, float]) -> None:
    """Refuse to go on once a loss is NaN or infinite.

    Raises:
        TrainingError: naming the run, the loss and the epoch.
    """
    if not np.isfinite([row["loss"], row["test_loss"]]).all():
        found = f"{run}: diverged in epoch {row['epoch']}, train loss {row['loss']:g}, test loss {row['test_loss']:g}"
        raise TrainingError(found, "lower the learning rate")
