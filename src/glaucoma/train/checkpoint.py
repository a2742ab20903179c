"""Checkpoints of a training between two epochs: after a kill it resumes there, and ends in the same bytes.

Keras' BackupAndRestore saves the model and its optimizer. This saves the history, early stopping and the generators of
augmentation too.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from glaucoma.base.files import atomic_path
from glaucoma.model.network import assign, values
from glaucoma.model.runtime import keras

__all__ = ["Checkpoint"]

INTERVAL = 60.0  # seconds of training between two checkpoints


class Checkpoint(keras.callbacks.Callback):
    """Saves a training after an epoch, if the last time was a minute ago; the last of its callbacks.

    Args:
        file: .npz; None saves nothing.
        variables: all variables that training changes.
        callbacks: those with a state, which must follow from the epochs' `test_loss`, except for weights to restore.
        rows: the history, a row per epoch; it grows with training.
    """

    def __init__(
        self,
        file: Path | None,
        variables: Sequence[keras.Variable],
        callbacks: Sequence[keras.callbacks.Callback],
        rows: list[dict[str, float]],
    ):
        super().__init__()
        self.file, self.variables, self.callbacks, self.rows = file, list(variables), callbacks, rows
        self.best = [each for each in callbacks if isinstance(each, keras.callbacks.EarlyStopping)]
        self.saved = self.begin = time.perf_counter()
        self._arrays: list[np.ndarray] = []

    @property
    def seconds(self) -> float:
        """Training time, before and after an interruption."""
        return time.perf_counter() - self.begin

    def resume(self, before: int) -> int:
        """Read the checkpoint, if there is one of fewer than `before` epochs; return its number of epochs, or 0."""
        try:
            with np.load(self.file or "") as kept:
                about = json.loads(str(kept["about"]))
                arrays = [kept[f"arr_{i}"] for i in range(len(kept.files) - 1)]
            seconds, rows = float(about["seconds"]), list(about["rows"])
        except (OSError, EOFError, ValueError, LookupError, TypeError, BadZipFile):  # none, or damaged
            return 0
        if len(rows) >= before:
            return 0
        self._arrays = arrays
        self.begin -= seconds
        self.rows[:] = rows
        return len(rows)

    def on_train_begin(self, logs: object = None) -> None:
        """Restore the checkpoint that `resume` read; the other callbacks see its epochs again."""
        if not self._arrays:
            return
        for epoch, row in enumerate(self.rows):
            for callback in self.callbacks:
                callback.on_epoch_end(epoch, {"test_loss": row["test_loss"]})
        ours = len(self.variables)
        assign(self.variables, self._arrays[:ours])
        for callback in self.best:
            callback.best_weights = self._arrays[ours:]

    def on_epoch_end(self, epoch: int, logs: object = None) -> None:
        """Save, unless this was the last epoch."""
        done = self.model.stop_training or epoch + 1 == self.params["epochs"]
        if self.file is None or done or time.perf_counter() - self.saved < INTERVAL:
            return
        best = [weights for callback in self.best for weights in callback.best_weights or ()]
        about = json.dumps({"rows": self.rows, "seconds": self.seconds})
        with atomic_path(self.file) as temporary:
            np.savez(temporary, *values(self.variables), *best, about=np.array(about))
        self.saved = time.perf_counter()
