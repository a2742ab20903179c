"""What a frozen trunk computes, computed once: memory-mapped float32, named by what decides it.

Stages 1 and 2 and the warm starts of all folds share them: an image's activations are computed once, though it stands
in ten folds. The folder is safe to delete.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from glaucoma.base.environment import number
from glaucoma.base.files import hash_arrays, hash_json
from glaucoma.base.progress import Progress
from glaucoma.model.batches import Batches, predicted
from glaucoma.model.runtime import describe, keras, ready_to_predict
from glaucoma.train.identity import hash_model
from glaucoma.train.memory import last_use, make_room

__all__ = ["activations"]

BATCH = 32  # images per inference step
CHUNK = 16 * BATCH  # images whose activations are held in memory at a time
GIGABYTES = 8.0  # what the cache may take, unless the environment's GLAUCOMA_CACHE_GB says otherwise
MAKING = ".making-"  # prefix of folders that are being made
ABANDONED = 24 * 3600  # seconds after which such a folder belongs to a process that was killed


def activations(trunk: keras.Model, pixels: np.ndarray, folder: Path) -> list[np.ndarray]:
    """A frozen trunk's outputs for all images, from the cache where they are there.

    Args:
        trunk: (batch, size, size, 3) → one or several tensors (batch, …).
        pixels: uint8 (images, size, size, 3).
        folder: the cache. It takes 8 GB at most, or GLAUCOMA_CACHE_GB, or one entry that is larger.

    Returns:
        For each output of the trunk, a read-only memory map float32 (images, …).

    Raises:
        ParamsError: GLAUCOMA_CACHE_GB is no number from 0.
    """
    key = hash_json([hash_model(trunk), hash_arrays([pixels]), describe()])
    entry = folder / key
    shapes = [(len(pixels), *output.shape[1:]) for output in trunk.outputs]
    known = _read(entry, shapes)
    if known is not None:
        os.utime(entry)
        return known
    folder.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(entry, ignore_errors=True)  # there only if someone has damaged it
    _make_room(folder, sum(4 * math.prod(shape) for shape in shapes))
    with tempfile.TemporaryDirectory(dir=folder, prefix=MAKING) as made:
        _compute(trunk, pixels, shapes, Path(made))
        try:
            Path(made).rename(entry)
            Path(made).mkdir()  # so that the temporary folder can be cleaned up
        except OSError:
            if not entry.is_dir():  # else another process was faster, with equal content
                raise
    return [np.load(path, mmap_mode="r") for path in sorted(entry.glob("*.npy"))]


def _read(entry: Path, shapes: list[tuple[int, ...]]) -> list[np.ndarray] | None:
    """The arrays of an entry, or None where it is not there or not whole."""
    try:
        arrays = [np.load(path, mmap_mode="r") for path in sorted(entry.glob("*.npy"))]
    except (OSError, EOFError, ValueError):
        return None
    return arrays if [(array.dtype, array.shape) for array in arrays] == [(np.float32, s) for s in shapes] else None


def _compute(trunk: keras.Model, pixels: np.ndarray, shapes: list[tuple[int, ...]], folder: Path) -> None:
    """Append chunk by chunk: a full disk is an OSError then; a memory map would be killed by a signal."""
    ready_to_predict(trunk)
    with ExitStack() as stack, Progress("activations", len(pixels), "image") as progress:
        files = [stack.enter_context((folder / f"{i:02}.npy").open("wb")) for i in range(len(shapes))]
        for file, shape in zip(files, shapes, strict=True):
            header = {"descr": np.lib.format.dtype_to_descr(np.dtype("float32")), "fortran_order": False}
            np.lib.format.write_array_header_1_0(file, {**header, "shape": shape})
        for start in range(0, len(pixels), CHUNK):
            rows = np.arange(start, min(start + CHUNK, len(pixels)))
            made = predicted(trunk, Batches([pixels], rows, None, batch_size=BATCH))
            for file, values in zip(files, [made] if len(files) == 1 else made, strict=True):
                file.write(np.ascontiguousarray(values, "float32").data)
            progress.step(len(rows))
        for file in files:
            file.flush()
            os.fsync(file.fileno())


def _make_room(folder: Path, coming: int) -> None:
    """Delete what killed processes left, and what was used longest ago, until `coming` bytes more are within bounds."""
    entries = [entry for entry in folder.iterdir() if entry.is_dir()]
    making = [entry for entry in entries if entry.name.startswith(MAKING)]
    for entry in making:
        if last_use(entry) < time.time() - ABANDONED:
            shutil.rmtree(entry, ignore_errors=True)
    bound = number("GLAUCOMA_CACHE_GB", float, 0, GIGABYTES)
    make_room(set(entries).difference(making), bound - coming / 1e9)
