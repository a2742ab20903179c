"""Batch normalisation in training as one kernel, where TensorFlow would run twenty.

Keras spells it out: moments, then scale and shift, which is a third of an EfficientNet's trained operations and a
quarter of a step's time on a CPU. TensorFlow's own kernel for it has the same arithmetic (Ioffe and Szegedy 2015, doi
10.48550/arXiv.1502.03167, algorithm 1), with one difference that is undone here: the variance it gives for the moving
average is the sample's, n / (n - 1) of the batch's, which Keras takes. Results differ by rounding.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from glaucoma.model.runtime import keras, tensorflow

__all__ = ["one_kernel"]

STOCK = keras.layers.BatchNormalization


@contextmanager
def one_kernel(model: keras.Model) -> Iterator[None]:
    """Within, training steps of `model` are traced with one kernel for each batch normalisation that is trained.

    The layers are those that the model has: its file, its weights and what it predicts know nothing of it. With JAX,
    whose compiler fuses by itself, and with torch nothing is changed.
    """
    layers = [layer for layer in model._flatten_layers(include_self=False) if _fits(layer)]
    for layer in layers:
        layer.call = partial(_call, layer)
    try:
        yield
    finally:
        for layer in layers:
            del layer.call


def _fits(layer: Any) -> bool:
    """Whether the kernel does what the layer is set to do, on images with channels last."""
    return (
        keras.backend.backend() == "tensorflow"
        and type(layer) is STOCK
        and layer.built
        and layer._reduction_axes == [0, 1, 2]
        and layer.scale
        and layer.center
        and not (layer.renorm or layer.synchronized)
    )


def _call(layer: Any, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
    if not (training and layer.trainable) or mask is not None:
        return STOCK.call(layer, inputs, training=training, mask=mask)
    tf = tensorflow()
    inputs = keras.ops.cast(inputs, "float32")  # as Keras does: half precision would overflow
    scaled, mean, variance = tf.compat.v1.nn.fused_batch_norm(
        inputs, layer.gamma.value, layer.beta.value, epsilon=layer.epsilon, is_training=True
    )
    n = tf.cast(tf.size(inputs) // inputs.shape[-1], "float32")
    for moving, now in ((layer.moving_mean, mean), (layer.moving_variance, variance * ((n - 1) / n))):
        moving.assign(moving.value * layer.momentum + now * (1 - layer.momentum))
    return keras.ops.cast(scaled, layer.compute_dtype)
