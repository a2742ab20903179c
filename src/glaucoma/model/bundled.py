"""Weights that are shipped with the package: EfficientNetB0 pretrained on rendered eyes, in half precision."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from glaucoma.errors import WeightsError
from glaucoma.files import atomic_path, read_json, sha256_file, write_json
from glaucoma.model.runtime import keras

__all__ = ["BUNDLED", "BUNDLED_BACKBONE", "read_half", "take_bundled", "write_half"]

BUNDLED = Path(__file__).parent / "weights" / "efficientnetb0_eyes.npz"  # its recipe and scores: the JSON beside it
BUNDLED_BACKBONE = "EfficientNetB0"


def take_bundled(name: str, backbone: keras.Model) -> None:
    """Give a backbone the shipped weights.

    Raises:
        WeightsError: none are shipped for `name`, or the file is missing or not the one that its recipe names.
    """
    remedy = f"set backbone.name to {BUNDLED_BACKBONE}, or backbone.weights to imagenet, a file or none"
    if name != BUNDLED_BACKBONE:
        raise WeightsError(f"backbone.weights is bundled, and no weights are shipped for {name}", remedy)
    card = BUNDLED.with_suffix(".json")
    if not (BUNDLED.is_file() and card.is_file()):
        raise WeightsError("backbone.weights is bundled, and no weights are shipped with this version", remedy)
    if sha256_file(BUNDLED) != read_json(card)["sha256"]:
        raise WeightsError(f"{BUNDLED} is not the file that {card.name} describes", "`git checkout` both")
    read_half(backbone, BUNDLED)


def write_half(backbone: keras.Model, path: Path, recipe: dict[str, Any]) -> None:
    """Write a backbone's weights: kernels as float16, vectors (batch statistics among them) as float32.

    `recipe`, how they were made, is written beside them as JSON with the file's SHA-256; both are what is shipped.

    Raises:
        WeightsError: a kernel holds what float16 cannot.
    """
    arrays = {
        f"{number:04d}": values.astype("float16" if values.ndim > 1 else "float32")
        for number, values in enumerate(backbone.get_weights())
    }
    if not all(np.isfinite(array).all() for array in arrays.values()):
        raise WeightsError("the weights do not fit into float16", "pretrain with a lower learning rate")
    with atomic_path(path) as temporary:
        np.savez(temporary, **arrays)
    write_json(path.with_suffix(".json"), {**recipe, "sha256": sha256_file(path)})


def read_half(backbone: keras.Model, path: Path) -> None:
    """Give a backbone the weights that `write_half` wrote.

    Raises:
        WeightsError: damaged, or of another architecture.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            backbone.set_weights([file[name].astype("float32") for name in sorted(file.files)])
    except (ValueError, OSError, KeyError, EOFError, zipfile.BadZipFile) as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise WeightsError(f"{path} does not fit: {line}", "restore it with `git checkout`, or make it anew") from None
