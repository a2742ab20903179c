"""Small networks and images that train within seconds, and an EfficientNetB0 shared by all tests."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import cache

import numpy as np

from glaucoma.base.params import Trial
from glaucoma.dataset.splits import Split
from glaucoma.model.backbones import build_backbone
from glaucoma.model.network import build_network, reseed
from glaucoma.model.runtime import fresh, keras
from glaucoma.train.trainer import Follower, Run, Snapshot

fresh(0)  # deterministic kernels, as in every stage

SIZE = 32


def images(count: int = 56, size: int = SIZE, seed: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Noise, brighter in the middle where abnormal: pixels uint8 (count, size, size, 3) and labels bool (count,)."""
    random = np.random.default_rng(seed)
    abnormal = random.random(count) < 0.45
    abnormal[:2] = True, False
    pixels = random.integers(0, 160, (count, size, size, 3))
    middle = slice(size // 4, -size // 4)
    pixels[abnormal, middle, middle] += 70
    return pixels.astype("uint8"), abnormal


def splits(abnormal: np.ndarray, train: int = 38) -> dict[str, Split]:
    """The first `train` images as `train`, two thirds of the rest as `test` and one third as `valid`."""
    names = [hashlib.sha256(bytes([i])).hexdigest() for i in range(len(abnormal))]
    test = train + (len(abnormal) - train) * 2 // 3
    parts = {"train": range(train), "test": range(train, test), "valid": range(test, len(abnormal))}
    return {
        name: Split(tuple(names[i] for i in part), np.array(part, np.int64), abnormal[list(part)])
        for name, part in parts.items()
    }


def tiny_backbone(size: int = SIZE) -> keras.Model:
    """A backbone of ten layers with the features that are hard to freeze: batch statistics, dropout and a branch."""
    inputs = keras.Input((size, size, 3))
    x = keras.layers.Rescaling(1 / 255, name="rescale")(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, name="a_conv")(x)
    x = keras.layers.BatchNormalization(name="a_bn")(x)
    x = branch = keras.layers.Activation("swish", name="a_swish")(x)
    x = keras.layers.Conv2D(6, 3, padding="same", name="b_conv")(x)
    x = keras.layers.BatchNormalization(name="b_bn")(x)
    x = keras.layers.Dropout(0.4, noise_shape=(None, 1, 1, 1), name="b_drop")(x)
    x = keras.layers.Add(name="b_add")([x, branch])
    x = keras.layers.Conv2D(12, 3, strides=2, name="c_conv")(x)
    x = keras.layers.BatchNormalization(name="c_bn")(x)
    return keras.Model(inputs, x, name="tiny")


def tiny_network(seed: int = 3, dropout: float = 0.2) -> keras.Model:
    """The report's head on the tiny backbone; equal seeds give equal networks."""
    keras.utils.set_random_seed(seed)
    return build_network(tiny_backbone(), dropout=dropout, seed=seed)


def tiny_head(seed: int = 3) -> keras.Model:
    """The fastest model to train with batch statistics and dropout: (batch, 12) → (batch, 2)."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((12,))
    x = keras.layers.Dense(8, activation="swish")(inputs)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.Dropout(0.2, seed=seed, name="drop")(x)
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
    reseed(network, seed)
    return network


def features(pixels: np.ndarray) -> np.ndarray:
    """Twelve features per image: mean grey levels, float32 (images, 12), about 0 to 1."""
    size = pixels.shape[1] // 2
    return (
        pixels.reshape(len(pixels), 2, size, 2, size, 3).mean(axis=(2, 4)).reshape(len(pixels), 12).astype("f4") / 255
    )


@cache
def efficientnet() -> keras.Model:
    """The whole network on EfficientNetB0 at 32 px; shared, so do not change its weights."""
    keras.utils.set_random_seed(1)
    network = build_network(build_backbone("EfficientNetB0", SIZE, "none"), dropout=0.2, seed=1)
    random = np.random.default_rng(1)
    for layer in network.layers:  # initial batch statistics would hide a change of mode
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.moving_mean.assign(random.normal(0, 0.05, layer.moving_mean.shape))
            layer.moving_variance.assign(random.uniform(0.8, 1.2, layer.moving_variance.shape))
    return network


def run(lr: float, optimizer: str, batch_size: int, epochs: Iterable[int], **options: object) -> Run:
    """Trials that differ only in epochs, in ascending order."""
    return tuple(Trial(lr=lr, optimizer=optimizer, batch_size=batch_size, epochs=n, **options) for n in epochs)


def trained(trainer, runs: Sequence[Run], on: dict[str, Split]) -> tuple[dict[tuple[Run, int], Snapshot], dict]:
    """Train runs, each in the order given; the snapshots by run and epoch, and the failures by run."""
    snapshots: dict[tuple[Run, int], Snapshot] = {}
    failures: dict[Run, Exception] = {}
    owner = {trial: run for run in runs for trial in run}
    follower = Follower(
        epoch=lambda run, row: None,
        snapshot=lambda trial, reached: snapshots.__setitem__((owner[trial], reached.epochs), reached),
        failure=failures.__setitem__,
    )
    trainer.train(runs, on, follower)
    return snapshots, failures


def same(one: Snapshot, other: Snapshot) -> None:
    """Assert that two snapshots are equal, bit for bit, except for the time taken."""
    assert one.epochs == other.epochs
    same_arrays(one.weights, other.weights)
    assert one.log_odds.keys() == other.log_odds.keys()
    for name, log_odds in one.log_odds.items():
        np.testing.assert_array_equal(log_odds, other.log_odds[name])
    assert [*one.history] == [*other.history]  # the files of both have equal bytes
    assert one.history.to_dict("list") == other.history.to_dict("list")


def same_arrays(some: Iterable[np.ndarray], others: Iterable[np.ndarray]) -> None:
    """Assert that two lists of arrays are equal, bit for bit."""
    for one, other in zip(some, others, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
