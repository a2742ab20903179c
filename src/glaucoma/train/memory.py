"""Check before training whether it can fit into memory, because Linux kills a process that needs too much."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np

from glaucoma.base.errors import TrainingError
from glaucoma.model.keras_internals import outputs_of
from glaucoma.model.runtime import keras

__all__ = [
    "check_memory",
    "last_use",
    "least_memory",
    "make_room",
    "memory_there",
]

FLOAT = 4  # bytes
LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def check_memory(model: keras.Model, images: int, what: str) -> None:
    """Refuse a training that cannot fit into memory. GPU memory is not checked: the backend raises its own error.

    Args:
        model: the model to train.
        images: per batch.
        what: name of the training, for the error.

    Raises:
        TrainingError: too little memory; it states the required and the available amount.
    """
    there, needed = memory_there(), least_memory(model, images)
    if needed <= there or _has_gpu():
        return
    raise TrainingError(
        f"{what}: {images} images a batch take at least {needed / 1e9:.0f} GB, and there are {there / 1e9:.0f}",
        "lower batch_size or data.image_size, or take a smaller backbone",
    )


def least_memory(model: keras.Model, images: int) -> float:
    """Lower bound of the bytes that a training step takes.

    Weights, their gradients and half of all layer outputs: the backward pass needs most outputs, but a backend may
    compute some in place.
    """
    outputs = 0
    for layer in model.layers:
        for tensor in outputs_of(layer):
            outputs += int(np.prod([size or 1 for size in tensor.shape[1:]]))
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return FLOAT * (images * outputs / 2 + model.count_params() + trained)


def memory_there() -> float:
    """Bytes of memory of this machine or of this process's container; infinite if unknown."""
    found = [float("inf")]
    with suppress(ValueError, OSError, AttributeError):  # not available on Windows
        found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for file in LIMITS:
        with suppress(OSError, ValueError):  # missing, or "max"
            found.append(float(Path(file).read_text()))
    return min(found)


def _has_gpu() -> bool:
    with suppress(Exception):  # not every backend lists devices
        return bool(keras.distribution.list_devices("gpu"))
    return False


def make_room(folders: Iterable[Path], gigabytes: float, kept: Callable[[Path], bool] = lambda folder: False) -> None:
    """Delete the least recently used folders until the rest fit the limit.

    Args:
        folders: each contains files only and is deleted as a whole.
        gigabytes: limit of their total size; below 0, all are deleted.
        kept: whether a folder is kept; it still counts towards the total.
    """
    ordered = sorted(folders, key=last_use)
    sizes = {folder: sum(_stat(file).st_size for file in folder.glob("*")) for folder in ordered}
    excess = sum(sizes.values()) - gigabytes * 1e9
    for folder in ordered:
        if excess <= 0:
            break
        if not kept(folder):
            shutil.rmtree(folder, ignore_errors=True)
            excess -= sizes[folder]


def last_use(folder: Path) -> float:
    """When a folder was last used, in seconds since 1970; 0 if it is gone."""
    return _stat(folder).st_mtime


def _stat(path: Path) -> os.stat_result:
    """A file's status; zeros if another process has just renamed or deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result([0] * 10)
