"""Grad-CAM of a classifier with a pooled head, in closed form, on any backend."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image

from glaucoma.base.errors import WeightsError
from glaucoma.model.keras_internals import inputs_of, source
from glaucoma.model.network import CLASSES, HEAD
from glaucoma.model.regression import FEATURES, FLIPS, LOGITS, pools_of
from glaucoma.model.runtime import keras

__all__ = ["channel_weights", "gradcam"]

POOLS = (keras.layers.GlobalMaxPooling2D, keras.layers.GlobalAveragePooling2D)

LINEAR = (keras.layers.Dropout, keras.layers.BatchNormalization)  # in inference


def gradcam(
    network: keras.Model, classes: Sequence[str] = CLASSES
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Return a function that computes Grad-CAM (Selvaraju et al., ICCV 2017, equations 1 and 2).

    It explains the log-odds of abnormal: with two softmax outputs, the difference of their scores.

    Args:
        network: (batch, size, size, 3) in 0–255 → (batch, 2) probabilities; it must end in global pooling, optional
            batch normalisation, optional dropout and softmax, or come from `regression_network`.
        classes: the order of its outputs.

    Returns:
        uint8 (n, size, size, 3) → probability of abnormal, float64 (n,), and heat, float64 (n, h, w) on the grid of the
        last feature map, ≥ 0: the evidence for abnormal, in log-odds per grid cell.

    Raises:
        WeightsError: a head of another kind.
    """
    if FEATURES in {layer.name for layer in network.layers}:
        return _of_regression(network, classes)
    pool, _ = channel_weights(network, classes)
    both = keras.Model(network.inputs, [pool.input, network.outputs[0]])
    abnormal = list(classes).index("abnormal")

    def explain(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        _, weights = channel_weights(network, classes)  # at each call: the network may have been trained since
        maps, probability = both.predict_on_batch(np.asarray(pixels, "float32"))
        places = maps.shape[1] * maps.shape[2]
        heat = np.maximum(maps.astype("float64") @ weights / places, 0)
        return probability[:, abnormal].astype("float64"), heat

    return explain


def _of_regression(
    network: keras.Model, classes: Sequence[str]
) -> Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """`gradcam` of a regression on features from several depths: their heat is summed, each flip's flipped back.

    Every feature is a pooled channel, so equation 1 applies to each feature map separately.
    """
    features = network.get_layer(FEATURES)
    pools = pools_of(features)
    maps = keras.Model(features.inputs, [pool.input for pool in pools])
    sides = [pool.input.shape[1:3] for pool in pools]
    grid = max(sides)
    scaling, logits = network.get_layer(HEAD[1]), network.get_layer(LOGITS)
    _, size, width, _ = network.input_shape
    flips = next(ways for ways in FLIPS.values() if len(ways) == scaling.input.shape[1])
    abnormal, normal = list(classes).index("abnormal"), list(classes).index("normal")

    def heat_of(view: np.ndarray, weights: list[np.ndarray]) -> np.ndarray:
        found = maps.predict_on_batch(view)
        total = np.zeros((len(view), *grid))
        for values, weight, side in zip(found, weights, sides, strict=True):
            total += _spread(values.astype("float64") @ weight / (side[0] * side[1]), grid)
        return total

    def explain(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        kernel = _array(logits.kernel)
        weights = (kernel[:, abnormal] - kernel[:, normal]) / np.sqrt(_array(scaling.moving_variance))
        ends = np.cumsum([pool.input.shape[-1] for pool in pools])
        pixels = np.asarray(pixels, "float32")
        heat = []
        for view in range(width // size):
            part = pixels[:, :, view * size : (view + 1) * size]
            own = np.split(weights[view * ends[-1] : (view + 1) * ends[-1]], ends[:-1])
            turned = [np.flip(heat_of(np.flip(part, axis), own), axis) for axis in flips]
            heat.append(np.mean(turned, axis=0))
        probability = network.predict_on_batch(pixels)
        return probability[:, abnormal].astype("float64"), np.maximum(np.concatenate(heat, axis=2), 0)

    return explain


def _spread(heat: np.ndarray, grid: tuple[int, int]) -> np.ndarray:
    """Heat (n, h, w) on a finer grid, with the same sum."""
    if heat.shape[1:] == tuple(grid):
        return heat
    fine = np.stack(
        [Image.fromarray(one.astype("float32")).resize(grid[::-1], Image.Resampling.BILINEAR) for one in heat]
    )
    return fine * (heat.shape[1] * heat.shape[2]) / (grid[0] * grid[1])


def channel_weights(network: keras.Model, classes: Sequence[str] = CLASSES) -> tuple[keras.Layer, np.ndarray]:
    """The pooling layer, and the gradient of the log-odds with respect to each channel of the last feature map.

    The head is linear after pooling, so the gradient with respect to a pooled channel is w = γ / √(σ² + ε) ·
    (W_abnormal - W_normal). Average pooling passes w / Z to each of the Z cells (Grad-CAM then equals the class
    activation map of Zhou et al., CVPR 2016); maximum pooling passes all of w to the highest. Equation 1 takes the mean
    over the cells, w / Z in both cases.

    Returns:
        The layer, and w, float64 (channels,).

    Raises:
        WeightsError: a head of another kind.
    """
    chain = [network.layers[-1]]
    while not isinstance(chain[-1], POOLS):
        before = _inputs(chain[-1])
        if len(before) != 1:
            raise _other_head(chain)
        chain.append(before[0])
    while earlier := _block_before(chain[-1]):
        chain += earlier
    *head, pool = chain
    top, between = head[0] if head else pool, head[1:]
    allowed = (*LINEAR, *POOLS)
    soft = isinstance(top, keras.layers.Dense) and top.activation is keras.activations.softmax
    if not (soft and top.units == len(classes) == 2 and all(isinstance(layer, allowed) for layer in between)):
        raise _other_head(chain)
    if pool.data_format != "channels_last":
        raise WeightsError(
            "its pooling takes channels first, which Grad-CAM here does not", "predict without --explain"
        )
    kernel = _array(top.kernel)
    weights = kernel[:, list(classes).index("abnormal")] - kernel[:, list(classes).index("normal")]
    for layer in between:
        if isinstance(layer, keras.layers.BatchNormalization):
            weights = weights / np.sqrt(_array(layer.moving_variance) + layer.epsilon)
            weights = weights * _array(layer.gamma) if layer.scale else weights
    return pool, weights


def _block_before(pool: keras.Layer) -> list[keras.Layer]:
    """The layers from a pooling back to an earlier pooling that kept its axes; empty if there is none.

    The later pooling then pools a single cell, which it does not change.
    """
    found: list[keras.Layer] = []
    layer = pool
    while len(before := _inputs(layer)) == 1:
        layer = before[0]
        found.append(layer)
        if isinstance(layer, POOLS):
            return found if layer.keepdims else []
        if not isinstance(layer, LINEAR):
            break
    return []


def _inputs(layer: keras.Layer) -> list[keras.Layer]:
    """The layers whose outputs are a layer's inputs."""
    return [source(tensor) for tensor in inputs_of(layer)]


def _array(variable: keras.Variable) -> np.ndarray:
    return keras.ops.convert_to_numpy(variable).astype("float64")


def _other_head(chain: list[keras.Layer]) -> WeightsError:
    kinds = " ← ".join(type(layer).__name__ for layer in chain[:6])
    what = f"Grad-CAM needs a head of global pooling, batch normalisation, dropout and softmax; this one is {kinds}"
    return WeightsError(what, "predict without --explain")
