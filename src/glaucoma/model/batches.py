"""Batches from arrays larger than memory, in an order determined by seed and epoch; Ctrl-C between batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from glaucoma.base import interrupts
from glaucoma.model.network import CLASSES
from glaucoma.model.runtime import keras

__all__ = ["Batches", "Stoppable", "one_hot", "predicted"]


class Batches(keras.utils.PyDataset):
    """Rows of memory-mapped arrays as batches of float32, shuffled anew each epoch, or in the given order.

    Keras' own adapters would copy whole arrays into memory and shuffle with the backend's generator; this order is the
    same on every backend, so the first epochs of a long run equal those of a short one.

    Args:
        arrays: the model's inputs, each (images, …); the same row of each belongs to an image.
        rows: int (n,), the rows to use.
        abnormal: bool (n,), or None to predict.
        batch_size: images per batch; the last may be smaller.
        seed: for shuffling; None keeps the order of `rows`.
        epoch: number of the first epoch, from 0, in whose order images come.
        outputs: number of model outputs that get the labels.
    """

    def __init__(
        self,
        arrays: Sequence[np.ndarray],
        rows: np.ndarray,
        abnormal: np.ndarray | None,
        *,
        batch_size: int,
        seed: int | None = None,
        epoch: int = 0,
        outputs: int = 1,
    ):
        super().__init__(workers=1, use_multiprocessing=False)
        self.arrays, self.rows, self.batch_size, self.seed = tuple(arrays), rows, batch_size, seed
        self.outputs = outputs
        self.labels = None if abnormal is None else one_hot(abnormal)
        self.epoch = epoch
        self.order = self._order()

    def __len__(self) -> int:
        return -(-len(self.rows) // self.batch_size)

    def __getitem__(self, index: int) -> tuple:
        chosen = self.order[index * self.batch_size : (index + 1) * self.batch_size]
        inputs = tuple(np.asarray(array[self.rows[chosen]], "float32") for array in self.arrays)
        given = inputs[0] if len(inputs) == 1 else inputs
        if self.labels is None:
            return (given,)
        labels = self.labels[chosen]
        return given, labels if self.outputs == 1 else (labels,) * self.outputs

    def on_epoch_end(self) -> None:
        """Draw the next epoch's order."""
        self.epoch += 1
        self.order = self._order()

    def _order(self) -> np.ndarray:
        if self.seed is None:
            return np.arange(len(self.rows))
        return np.random.default_rng((self.seed, self.epoch)).permutation(len(self.rows))


def predicted(model: keras.Model, batches: Batches) -> Any:
    """What `model.predict` returns for these batches, for predictions in a training; Ctrl-C stops it between two.

    `predict` builds a data pipeline at each call, which takes longer than a head's predictions.

    Returns:
        An array of (n, …), or a list of the model's outputs.
    """
    found = []
    for i in range(len(batches)):
        interrupts.check()
        found.append(model.predict_on_batch(batches[i][0]))
    if isinstance(found[0], (list, tuple)):
        return [np.concatenate(each) for each in zip(*found, strict=True)]
    return np.concatenate(found)


class Stoppable(keras.callbacks.Callback):
    """Lets Ctrl-C stop training between two batches, when no native code is running."""

    def on_train_batch_begin(self, batch: int, logs: object = None) -> None:
        """Raise the interrupt that has arrived."""
        interrupts.check()


def one_hot(abnormal: np.ndarray) -> np.ndarray:
    """Labels bool (n,) as float32 (n, 2), columns in the order of `CLASSES`."""
    labels = np.zeros((len(abnormal), len(CLASSES)), "float32")
    labels[:, CLASSES.index("abnormal")] = abnormal
    labels[:, CLASSES.index("normal")] = ~abnormal
    return labels
