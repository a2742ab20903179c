"""A network up to its logits, because the softmax in float32 loses ranks.

A softmax in float32 is 1 from log-odds of about 17, so confident predictions cannot be ranked. The scorer shares the
network's layers and variables and omits only the softmax; the network itself is unchanged.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from glaucoma.model.keras_internals import inputs_to, source
from glaucoma.model.network import CLASSES
from glaucoma.model.runtime import keras

__all__ = ["log_odds", "scorer", "with_log_odds"]

SMALLEST = 1.2e-38  # of float32, so that logarithms are finite: log-odds from probabilities reach ± 87


def scorer(network: keras.Model) -> keras.Model:
    """A model on the network's layers whose two outputs differ by the log-odds.

    The outputs are the logits if the network ends in a softmax layer or a dense layer with softmax, also in a nested
    model; otherwise (another program's network) the logarithms of its probabilities.

    Args:
        network: its output is (batch, 2) probabilities.

    Returns:
        A model of the same inputs; float (batch, 2), columns as in the network.
    """
    last, before = source(network.outputs[0]), inputs_to(network.outputs[0])
    if isinstance(last, keras.Model):
        return keras.Model(network.inputs, scorer(last)(before if len(before) > 1 else before[0]))
    if isinstance(last, keras.layers.Dense) and last.activation is keras.activations.softmax:
        return keras.Model(network.inputs, _Logits(last)(before[0]))
    plain = isinstance(last, keras.layers.Activation) and last.activation is keras.activations.softmax
    if plain or isinstance(last, keras.layers.Softmax):
        return keras.Model(network.inputs, before[0])
    return keras.Model(network.inputs, _Logarithm()(network.outputs[0]))


def with_log_odds(network: keras.Model, classes: tuple[str, ...] = CLASSES) -> keras.Model:
    """The network with a second output, the log-odds of abnormal, float (batch, 1)."""
    scored = scorer(network)
    at = [classes.index(name) for name in ("abnormal", "normal")]
    return keras.Model(network.inputs, [network.outputs[0], _Difference(*at)(scored.outputs[0])])


def log_odds(scored: np.ndarray, classes: tuple[str, ...] = CLASSES) -> np.ndarray:
    """The log-odds of abnormal, ln(p / (1 - p)), float64 (n,), from a scorer's output (n, 2) with columns `classes`."""
    scored = np.asarray(scored, "float64")
    return scored[:, classes.index("abnormal")] - scored[:, classes.index("normal")]


class _Logits(keras.layers.Layer):
    """A dense layer without its activation; it shares the layer's variables."""

    def __init__(self, dense: keras.layers.Dense):
        super().__init__(trainable=dense.trainable, dtype=dense.dtype_policy)
        self.dense = dense

    def call(self, inputs: Any) -> Any:
        found = keras.ops.matmul(inputs, keras.ops.cast(self.dense.kernel, self.compute_dtype))
        if not self.dense.use_bias:
            return found
        return keras.ops.add(found, keras.ops.cast(self.dense.bias, self.compute_dtype))


class _Logarithm(keras.layers.Layer):
    def call(self, inputs: Any) -> Any:
        return keras.ops.log(keras.ops.maximum(inputs, SMALLEST))


class _Difference(keras.layers.Layer):
    """The difference of two columns, as a column."""

    def __init__(self, one: int, other: int):
        super().__init__()
        self.one, self.other = one, other

    def call(self, inputs: Any) -> Any:
        return inputs[:, self.one : self.one + 1] - inputs[:, self.other : self.other + 1]
