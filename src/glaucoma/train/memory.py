"""Whether a training can fit into memory at all: told before it starts, because Linux kills what asks for too much."""

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
    """Refuse a training that cannot fit. A GPU is left to its backend, which raises an error of its own.

    Args:
        model: what is trained.
        images: per batch.
        what: names the training in the error.

    Raises:
        TrainingError: with what it takes at least, and what there is.
    """
    there, needed = memory_there(), least_memory(model, images)
    if needed <= there or _has_gpu():
        return
    raise TrainingError(
        f"{what}: {images} images a batch take at least {needed / 1e9:.0f} GB, and there are {there / 1e9:.0f}",
        "lower batch_size or data.image_size, or take a smaller backbone",
    )


def least_memory(model: keras.Model, images: int) -> float:
    """Bytes that a training step takes at least.

    Weights and their gradients; and half of what all layers put out, because the backward pass needs most of it again
    and a backend may compute some in place.
    """
    outputs = 0
    for layer in model.layers:
        for tensor in outputs_of(layer):
            outputs += int(np.prod([size or 1 for size in tensor.shape[1:]]))
    trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
    return FLOAT * (images * outputs / 2 + model.count_params() + trained)


def memory_there() -> float:
    """Bytes of memory of this machine, or of the container that this process is in; infinite where nobody tells."""
    found = [float("inf")]
    with suppress(ValueError, OSError, AttributeError):  # Windows tells it otherwise
        found.append(float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
    for file in LIMITS:
        with suppress(OSError, ValueError):  # not there, or "max"
            found.append(float(Path(file).read_text()))
    return min(found)


def _has_gpu() -> bool:
    with suppress(Exception):  # not every backend lists devices
        return bool(keras.distribution.list_devices("gpu"))
    return False


def make_room(folders: Iterable[Path], gigabytes: float, kept: Callable[[Path], bool] = lambda folder: False) -> None:
    """Delete those folders that were used longest ago until all that are left fit.

    Args:
        folders: each with files only, deleted as a whole.
        gigabytes: what they may take together; below 0, all of them go.
        kept: whether a folder stays, though it counts.
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
    """When a folder was touched last, in seconds since 1970; 0 where it is gone."""
    return _stat(folder).st_mtime


def _stat(path: Path) -> os.stat_result:
    """A file's state; zeros where another process has just renamed or deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result([0] * 10)
