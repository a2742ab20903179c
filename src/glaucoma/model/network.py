"""The report's network: backbone → global max pooling → batch normalisation → dropout → softmax over two classes.

Model 4 repeats the three layers between backbone and softmax three times.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import numpy as np

from glaucoma.base.index import CONDITIONS
from glaucoma.model.runtime import keras

__all__ = ["CLASSES", "HEAD", "assign", "build_network", "build_regression", "reseed", "values"]

CLASSES = CONDITIONS  # order of the softmax outputs; look columns up with CLASSES.index
HEAD = ("head_pool", "head_bn", "head_dropout", "head_softmax")
TINY = 1e-12  # epsilon of the normalisation, negligible beside the variances


def build_network(backbone: keras.Model, *, dropout: float, seed: int, blocks: int = 1) -> keras.Model:
    """Put the report's head on a backbone, in one flat graph whose layers keep their names.

    Args:
        backbone: model without top, (batch, size, size, 3) → (batch, h, w, channels).
        dropout: share of pooled features dropped in training, 0 ≤ dropout < 1.
        seed: determines the head's initial weights and dropout masks.
        blocks: number of repetitions of pooling, normalisation and dropout, ≥ 1. All poolings but the last keep the
            height and width axes (both 1 after the first) for the next one; the layers of further blocks are named with
            their number, e.g. `head_pool_2`.

    Returns:
        Model (batch, size, size, 3) float32 in 0–255 → (batch, 2) probabilities in the order of `CLASSES`.
    """
    pool, norm, drop, top = HEAD
    x = backbone.output
    for block in range(1, blocks + 1):
        end = "" if block == 1 else f"_{block}"
        x = keras.layers.GlobalMaxPooling2D(keepdims=block < blocks, name=pool + end)(x)
        x = keras.layers.BatchNormalization(name=norm + end)(x)
        x = keras.layers.Dropout(dropout, seed=seed, name=drop + end)(x)  # torch would ignore a generator without seed
    initial = keras.initializers.GlorotUniform(seed=seed)
    x = keras.layers.Dense(len(CLASSES), activation="softmax", kernel_initializer=initial, name=top)(x)
    network = keras.Model(backbone.inputs, x, name="glaucoma")
    reseed(network, seed)
    return network


def build_regression(
    backbone: keras.Model, mean: np.ndarray, scale: np.ndarray, coefficients: np.ndarray, intercept: float
) -> keras.Model:
    """Put a logistic regression on a backbone's average-pooled features, as a network.

    A batch normalisation does the scaling, because its values are variables of the model: a Normalization layer's would
    be constants of the traced function and not change when another model's values are loaded. The softmax of -z / 2 and
    z / 2 is the logistic function of z.

    Args:
        backbone: model without top, (batch, size, size, 3) → (batch, h, w, channels).
        mean: float (channels,), subtracted from the pooled features.
        scale: float (channels,), > 0, then divides them.
        coefficients: float (channels,), of the log-odds of abnormal.
        intercept: of the log-odds of abnormal.

    Returns:
        Model (batch, size, size, 3) float32 in 0–255 → (batch, 2) probabilities in the order of `CLASSES`.
    """
    pool, norm, _, top = HEAD
    scaling = keras.layers.BatchNormalization(center=False, scale=False, epsilon=TINY, name=norm)
    softmax = keras.layers.Dense(len(CLASSES), activation="softmax", name=top)
    pooled = keras.layers.GlobalAveragePooling2D(name=pool)(backbone.output)
    network = keras.Model(backbone.inputs, softmax(scaling(pooled)), name="regression")
    halves = np.where(np.array(CLASSES) == "abnormal", 0.5, -0.5)
    scaling.set_weights([mean, np.square(scale)])
    softmax.set_weights([np.outer(coefficients, halves), intercept * halves])
    return network


def reseed(network: keras.Model, seed: int) -> None:
    """Reset the generator of every dropout layer, seeded by `seed` and the layer's name.

    A saved model does not include these states, so a loaded model would drop other features than the original.
    """
    for layer in network.layers:
        generator = getattr(layer, "seed_generator", None)
        if generator is not None:
            own = (seed * 2_654_435_761 + zlib.crc32(layer.name.encode())) % 2**31
            generator.state.assign(keras.ops.convert_to_tensor([own, 0], dtype=generator.state.dtype))


def values(variables: Sequence[keras.Variable]) -> list[np.ndarray]:
    """Copies of the variables' values."""
    return [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in variables]


def assign(variables: Sequence[keras.Variable], given: Sequence[np.ndarray]) -> None:
    """Assign values, in the same order and with the same shapes, to variables."""
    for variable, value in zip(variables, given, strict=True):
        variable.assign(value)
