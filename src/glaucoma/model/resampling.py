"""Resizing as a part of a network's graph: what Pillow's antialiased Lanczos filter gives, for photographs of any size.

Other programs' resizing differs in filter and antialiasing, and so would the network's answers.
"""

from __future__ import annotations

from typing import Any

from glaucoma.model.runtime import keras

__all__ = ["with_resizing"]

LOBES = 3.0


def with_resizing(network: keras.Model) -> keras.Model:
    """The network with a graph in front that squashes what it is given to the size that the network takes.

    Args:
        network: float32 (batch, size, size, 3) in 0–255 → (batch, 2).

    Returns:
        float32 (batch, height, width, 3) in 0–255, of any height and width → (batch, 2).
    """
    pixels = keras.Input((None, None, 3), name="pixels")
    return keras.Model(pixels, network(Lanczos(*network.input_shape[1:3])(pixels)))


class Lanczos(keras.layers.Layer):
    """Resizes as `PIL.Image.resize(…, LANCZOS)` does, columns before rows, each rounded to whole grey levels.

    Args:
        height, width: of its output, in pixels.
    """

    def __init__(self, height: int, width: int):
        super().__init__(name="lanczos")
        self.height, self.width = height, width

    def call(self, pixels: Any) -> Any:
        """float32 (batch, any, any, 3) → (batch, height, width, 3), whole numbers of 0–255."""
        _, rows, columns, _ = keras.ops.shape(pixels)
        across = keras.ops.transpose(pixels, (0, 1, 3, 2))  # columns last
        across = _whole(keras.ops.matmul(across, keras.ops.transpose(_weights(columns, self.width))))
        down = keras.ops.transpose(across, (0, 3, 2, 1))  # rows last
        down = _whole(keras.ops.matmul(down, keras.ops.transpose(_weights(rows, self.height))))
        return keras.ops.transpose(down, (0, 3, 1, 2))

    def compute_output_shape(self, shape: tuple) -> tuple:
        """(batch, height, width, 3)."""
        return (shape[0], self.height, self.width, shape[3])


def _weights(before: Any, after: int) -> Any:
    """float32 (after, before): the share of each pixel before in each one after; rows sum to 1."""
    ops = keras.ops
    scale = ops.cast(before, "float32") / after
    wide = ops.maximum(scale, 1.0)  # a reduction widens the filter
    centres = (ops.arange(after, dtype="float32") + 0.5) * scale
    distance = (ops.cast(ops.arange(before), "float32")[None, :] + 0.5 - centres[:, None]) / wide
    found = _sinc(distance) * _sinc(distance / LOBES)
    found = ops.where(ops.abs(distance) < LOBES, found, ops.zeros_like(found))
    return found / ops.sum(found, axis=1, keepdims=True)


def _sinc(x: Any) -> Any:
    ops = keras.ops
    angle = ops.where(ops.abs(x) < 1e-6, ops.ones_like(x), x) * 3.14159265358979
    return ops.where(ops.abs(x) < 1e-6, ops.ones_like(x), ops.sin(angle) / angle)


def _whole(values: Any) -> Any:
    return keras.ops.clip(keras.ops.floor(values + 0.5), 0.0, 255.0)
