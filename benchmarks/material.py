"""Data for the training benchmarks: images of the protocol's number and size, and the network, all from a seed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from measuring import ROOT, SEED, Scale

from glaucoma.base.params import Trial
from glaucoma.base.profiles import load_profile
from glaucoma.dataset.splits import Split
from glaucoma.model.backbones import build_backbone
from glaucoma.model.network import build_network, reseed
from glaucoma.model.runtime import fresh, keras

__all__ = ["network", "pixels", "splits", "trials"]


def pixels(folder: Path, scale: Scale) -> np.ndarray:
    """Random textures, uint8 (images, size, size, 3), memory-mapped from a file shared by all parts."""
    file = folder / "pixels.npy"
    if not file.is_file():
        shape = (scale.images, scale.size, scale.size, 3)
        np.save(file, np.random.default_rng(SEED).integers(0, 256, shape, dtype=np.uint8))
    return np.load(file, mmap_mode="r")


def splits(scale: Scale, *, short: bool = False) -> dict[str, Split]:
    """Train and test of the whole protocol, or the first images of each."""
    abnormal = np.random.default_rng(SEED).random(scale.images) < 0.46
    parts = {
        "train": range(scale.short_train if short else scale.train),
        "test": range(scale.train, scale.train + (scale.short_test if short else scale.test)),
    }
    return {
        name: Split(
            tuple(hashlib.sha256(bytes(str(i), "ascii")).hexdigest() for i in part),
            np.array(part, np.int64),
            abnormal[list(part)],
        )
        for name, part in parts.items()
    }


def network(
    scale: Scale, size: int | None = None, policy: str = "float32", backbone: str = "EfficientNetB0"
) -> keras.Model:
    """The network of a stage, with random weights, or a few layers at a tiny scale.

    `policy` is Keras' dtype policy for all layers; it applies until the next call.
    """
    fresh(SEED)
    keras.config.set_dtype_policy(policy)  # after `fresh`, which resets it
    size = size or scale.size
    built = _tiny(size) if scale.tiny else build_backbone(backbone, size, "none")
    whole = build_network(built, dropout=0.2, seed=SEED)
    reseed(whole, SEED)
    return whole


def trials(stage: str, scale: Scale) -> list[Trial]:
    """The published grid of a stage; its first trials, shortened, if the scale is tiny."""
    grid = load_profile(ROOT / "profiles/published.yaml").trials(stage)
    if not scale.tiny:
        return grid
    return [trial.model_copy(update={"epochs": trial.epochs // 10}) for trial in grid[:4]]


def _tiny(size: int) -> keras.Model:
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    for filters in (8, 1536):  # the end is large enough to be trained as a tail, not as a head
        x = keras.layers.Conv2D(filters, 3, strides=2)(x)
        x = keras.layers.BatchNormalization()(x)
        x = keras.layers.Activation("swish")(x)
    return keras.Model(inputs, x)
