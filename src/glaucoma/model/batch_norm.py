"""Batch normalisation: its training step as one kernel, and its statistics recomputed after training.

Keras implements the training step as separate operations (moments, then scale and shift): a third of an EfficientNet's
training operations and a quarter of a step's time on a CPU. TensorFlow's fused kernel has the same arithmetic (Ioffe
and Szegedy 2015, doi 10.48550/arXiv.1502.03167, algorithm 1), with one difference, corrected here: its variance for the
moving average is the sample variance, n / (n - 1) times the batch variance that Keras uses. Results differ by rounding.

A moving average with Keras' momentum of 0.99 retains 0.99ⁿ of its initial value after n steps: half of it after two
epochs of 36. Precise batch normalisation replaces it with the statistics of a sample under the current weights (Wu and
Johnson 2021, arXiv 2105.07576, section 3).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from glaucoma.model.batches import Batches, predicted
from glaucoma.model.keras_internals import all_layers, calling, reduction_axes
from glaucoma.model.runtime import keras, ready_to_predict, tensorflow

__all__ = ["BatchStatistics", "one_kernel"]

STOCK = keras.layers.BatchNormalization


@contextmanager
def one_kernel(model: keras.Model) -> Iterator[None]:
    """Context in which training steps of `model` are traced with one kernel per trained batch normalisation.

    The model's layers, file, weights and predictions are not affected. Nothing changes on JAX, whose compiler fuses
    operations itself, and on torch.
    """
    layers = [layer for layer in all_layers(model) if _fits(layer)]
    with calling(layers, _call):
        yield


class BatchStatistics:
    """The statistics of a model's trained batch normalisations, for any weights and batches.

    Args:
        model: a built model. Its current values are used at each call; frozen layers are not changed.
    """

    def __init__(self, model: keras.Model):
        self.layers = _trained(model)
        if self.layers:
            given = model.inputs if len(model.inputs) > 1 else model.inputs[0]
            self._measured = keras.Model(model.inputs, _Moments(model)(given))
            ready_to_predict(self._measured)

    @contextmanager
    def of(self, batches: Batches) -> Iterator[None]:
        """Context in which moving means and variances are those of `batches`; afterwards, they are restored exactly.

        Layers normalise each batch by its own mean and variance, as in training; everything else, including dropout and
        stochastic depth, works as in prediction. The variance is that of all images: the mean of the batches' variances
        plus the variance of their means, weighted by batch size.

        Args:
            batches: the model's inputs, in batches like those of training; no labels.
        """
        if not self.layers:
            yield
            return
        moving = [variable for layer in self.layers for variable in (layer.moving_mean, layer.moving_variance)]
        before = [np.array(keras.ops.convert_to_numpy(variable.value)) for variable in moving]
        for variable, value in zip(moving, self._computed(batches), strict=True):
            variable.assign(value)
        try:
            yield
        finally:
            for variable, value in zip(moving, before, strict=True):
                variable.assign(value)

    def _computed(self, batches: Batches) -> list:
        """Mean and variance of each layer, float32 (channels,)."""
        found = predicted(self._measured, batches)
        images, means, variances = (np.asarray(each, "float64") for each in found)
        weights = images / images.sum()
        with np.errstate(invalid="ignore", over="ignore"):  # after divergence
            mean = (weights * means).sum(axis=0)
            variance = (weights * (variances + np.square(means - mean))).sum(axis=0)
            ends = np.cumsum([layer.moving_mean.shape[0] for layer in self.layers])[:-1]
            parts = zip(np.split(mean.astype("f4"), ends), np.split(variance.astype("f4"), ends), strict=True)
        return [value for part in parts for value in part]


class _Moments(keras.layers.Layer):
    """From a batch of a model's inputs: its size (1, 1), and (1, channels) means and variances of all trained layers.

    The layers' channels are concatenated. Each batch gives a row, so `predict` returns a table of all batches.
    """

    def __init__(self, model: keras.Model):
        super().__init__(dtype="float32")  # else a half-precision policy would cast pixels
        self.model = model

    def compute_output_spec(self, inputs: Any) -> tuple:
        channels = sum(layer.moving_mean.shape[0] for layer in _trained(self.model))
        return tuple(keras.KerasTensor((1, width)) for width in (1, channels, channels))

    def call(self, inputs: Any) -> tuple:
        layers, found = _trained(self.model), {}

        def by_batch(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
            scaled, *found[id(layer)] = _by_batch(layer, inputs)
            return scaled

        with calling(layers, by_batch):
            self.model(inputs, training=False)
        images = keras.ops.shape(keras.tree.flatten(inputs)[0])[0]
        rows = [[keras.ops.cast(images, "float32")[None]], *zip(*(found[id(layer)] for layer in layers), strict=True)]
        return tuple(keras.ops.concatenate(row)[None] for row in rows)


def _trained(model: keras.Model) -> list[Any]:
    return [layer for layer in all_layers(model) if isinstance(layer, STOCK) and layer.trainable]


def _fits(layer: Any) -> bool:
    """Whether the kernel supports the layer's settings, on images with channels last."""
    return (
        keras.backend.backend() == "tensorflow"
        and type(layer) is STOCK
        and layer.built
        and reduction_axes(layer) == [0, 1, 2]
        and layer.scale
        and layer.center
        and not (layer.renorm or layer.synchronized)
    )


def _call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    if not (training and layer.trainable) or mask is not None:
        return STOCK.call(layer, inputs, training=training, mask=mask)
    scaled, mean, variance = _by_batch(layer, inputs)
    for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance)):
        moving.assign(moving.value * layer.momentum + now * (1 - layer.momentum))
    return scaled


def _by_batch(layer: Any, inputs: Any) -> tuple[Any, Any, Any]:
    """Inputs normalised by their own mean and variance, and these two, float32 (channels,)."""
    inputs = keras.ops.cast(inputs, "float32")  # like Keras: half precision would overflow
    if _fits(layer):
        tf = tensorflow()
        scaled, mean, variance = tf.compat.v1.nn.fused_batch_norm(
            inputs, layer.gamma.value, layer.beta.value, epsilon=layer.epsilon, is_training=True
        )
        n = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
        variance = variance * ((n - 1) / n)
    else:
        mean, variance = keras.ops.moments(inputs, axes=reduction_axes(layer))
        scaled = keras.ops.batch_normalization(
            inputs, mean, variance, layer.axis, offset=layer.beta, scale=layer.gamma, epsilon=layer.epsilon
        )
    return keras.ops.cast(scaled, layer.compute_dtype), mean, variance
