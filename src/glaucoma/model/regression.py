"""A logistic regression on a frozen backbone's features, as a network like the others.

Views, flips, pooling, scaling and softmax are all in the graph, so it is saved, exported and run like any network.
Features come from several depths: a pretrained backbone's features are more general before its end (Yosinski et al.,
NeurIPS 2014), and the disc's rim is small. benchmarks/recipe.md measures the gain of depths and flips.
"""

from __future__ import annotations

import re

import numpy as np

from glaucoma.base.backbone_table import BACKBONES, in_block
from glaucoma.model.log_odds import FLIPS
from glaucoma.model.network import CLASSES, HEAD
from glaucoma.model.runtime import keras

__all__ = ["FEATURES", "FLIPS", "LOGITS", "feature_trunk", "pools_of", "regression_network"]

LOGITS = "head_logits"  # name of the layer of log-odds
FEATURES = "features"  # name of the part of the graph that computes one view's features
STAGES = 3  # of the backbone before its last, whose final outputs give features


def feature_trunk(backbone: keras.Model, name: str, flips: str) -> keras.Model:
    """The features for the regression: pooled features of each view of a photograph, for each flip.

    Averages over the outputs of the three stages before the last, and the maximum over the last feature map; if a
    backbone's stages are unknown, average and maximum over the last feature map.

    Args:
        backbone: model without top, (batch, size, views · size, 3) → (batch, h, w, channels).
        name: its row in the backbone table.
        flips: none | horizontal | both.

    Returns:
        Model (batch, size, views · size, 3) float32 in 0–255 → (batch, flips, views · features) float32.
    """
    _, size, width, _ = backbone.input_shape
    views, ways, ops = width // size, FLIPS[flips], keras.ops
    features = _features(backbone, name, size)
    inputs = keras.Input((size, width, 3), dtype="float32")
    parts = [inputs[:, :, i * size : (i + 1) * size] for i in range(views)] if views > 1 else [inputs]
    turned = [ops.flip(part, axis) if axis else part for axis in ways for part in parts]
    found = features(ops.concatenate(turned, axis=0) if len(turned) > 1 else inputs)
    channels = features.output_shape[-1]
    found = ops.transpose(ops.reshape(found, (len(ways), views, -1, channels)), (2, 0, 1, 3))
    return keras.Model(inputs, ops.reshape(found, (-1, len(ways), views * channels)), name="trunk")


def regression_network(
    trunk: keras.Model, mean: np.ndarray, scale: np.ndarray, coefficients: np.ndarray, intercept: float
) -> keras.Model:
    """Put a fitted regression on its feature trunk; log-odds are averaged over the flips.

    A batch normalisation does the scaling, because its values are variables of the model: a Normalization layer's would
    be constants of the traced function. The softmax of -z / 2 and z / 2 is the logistic function of z.

    Args:
        trunk: from `feature_trunk`.
        mean: float (features,), subtracted from the features.
        scale: float (features,), > 0, then divides them.
        coefficients: float (features,), of the log-odds of abnormal.
        intercept: of the log-odds of abnormal.

    Returns:
        Model (batch, size, views · size, 3) float32 in 0–255 → (batch, 2) probabilities in the order of `CLASSES`.
    """
    _, norm, _, top = HEAD
    scaling = keras.layers.BatchNormalization(center=False, scale=False, epsilon=0.0, name=norm)
    logits = keras.layers.Dense(len(CLASSES), name=LOGITS)
    averaged = keras.ops.mean(logits(scaling(trunk.output)), axis=1)
    network = keras.Model(trunk.inputs, keras.layers.Activation("softmax", name=top)(averaged), name="regression")
    halves = np.where(np.array(CLASSES) == "abnormal", 0.5, -0.5)
    scaling.set_weights([mean, np.square(scale)])
    logits.set_weights([np.outer(coefficients, halves), intercept * halves])
    return network


def pools_of(features: keras.Model) -> list[keras.Layer]:
    """The pooling layers of the submodel `FEATURES`, in the order of its output."""
    named = {layer.name: layer for layer in features.layers}
    averages = [named[name] for i in range(len(named)) if (name := f"average_{i}") in named]
    return [*averages, named["highest"]]


def _features(backbone: keras.Model, name: str, size: int) -> keras.Model:
    """The features of one square view, (batch, size, size, 3) → (batch, features)."""
    if backbone.input_shape[2] != size:  # built for several views side by side
        square = keras.models.clone_model(backbone, input_tensors=keras.Input((size, size, 3), dtype="float32"))
        square.set_weights(backbone.get_weights())
        for layer in square.layers:
            if isinstance(layer, keras.layers.Normalization):
                layer.finalize_state()
        backbone = square
    ends = [_end(backbone, block) for block in _blocks(name)]
    average, highest = keras.layers.GlobalAveragePooling2D, keras.layers.GlobalMaxPooling2D
    pooled = [average(name=f"average_{i}")(end) for i, end in enumerate(ends or [backbone.output])]
    pooled.append(highest(name="highest")(backbone.output))
    return keras.Model(backbone.inputs, keras.layers.Concatenate(name="pooled")(pooled), name=FEATURES)


def _blocks(name: str) -> list[str]:
    """The last block of each stage that gives features."""
    stages: dict[str, str] = {}
    for block in BACKBONES[name].blocks:
        if found := re.fullmatch(r"(block\d+)[a-z]|(conv\d+)_block\d+", block):
            stages[found[1] or found[2]] = block
    return list(stages.values())[-1 - STAGES : -1]


def _end(backbone: keras.Model, block: str) -> keras.KerasTensor:
    """The output of a block's last layer."""
    return [layer for layer in backbone.layers if in_block(layer.name, block)][-1].output
