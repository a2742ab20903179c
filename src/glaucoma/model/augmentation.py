"""Random augmentation of training images by Keras' preprocessing layers; not part of saved models.

Uncovered areas at an image's edge become black, as around a retina. Shear, blur and other changes that could hide or
create signs of glaucoma are left out on purpose.
"""

from __future__ import annotations

from typing import Any

from glaucoma.base.params import Augment
from glaucoma.model.runtime import keras

__all__ = ["augmented", "augmenting_layers"]

FLIPS = {"horizontal": "horizontal", "vertical": "vertical", "both": "horizontal_and_vertical"}
RANGE = (0, 255)  # of input and output values


def augmenting_layers(augment: Augment, seed: int) -> list[keras.layers.Layer]:
    """Keras layers for the enabled augmentations, each with its own random sequence, determined by `seed`."""
    layers = keras.layers
    wanted: list[tuple[Any, dict[str, Any]]] = []
    if augment.flip != "none":
        wanted.append((layers.RandomFlip, {"mode": FLIPS[augment.flip]}))
    if augment.rotation:
        wanted.append((layers.RandomRotation, {"factor": augment.rotation / 360, "fill_mode": "constant"}))
    if augment.zoom:
        wanted.append((layers.RandomZoom, {"height_factor": augment.zoom, "fill_mode": "constant"}))
    if augment.brightness:
        wanted.append((layers.RandomBrightness, {"factor": augment.brightness, "value_range": RANGE}))
    if augment.contrast:
        wanted.append((layers.RandomContrast, {"factor": augment.contrast, "value_range": RANGE}))
    if augment.colour:
        hue = {"factor": augment.colour, "value_range": RANGE}
        wanted.append((layers.RandomHue, hue))
        # Keras' saturation factor: 0.5 leaves an image as it is, 0 is grey
        wanted.append(
            (layers.RandomSaturation, {"factor": (0.5 - augment.colour, 0.5 + augment.colour), "value_range": RANGE})
        )
    return [kind(**options, seed=(seed * 1_000 + i) % 2**31) for i, (kind, options) in enumerate(wanted)]


def augmented(model: keras.Model, layers: list[keras.layers.Layer]) -> keras.Model:
    """The model with augmenting layers before it, active in training only; it shares the model's variables.

    Args:
        model: (batch, size, size, 3) in 0–255 → (batch, 2).
        layers: from `augmenting_layers`.
    """
    pixels = x = keras.Input(model.input_shape[1:], dtype="float32")
    for layer in layers:
        x = layer(x)
    return keras.Model(pixels, model(x))
