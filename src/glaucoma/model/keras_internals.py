"""All uses of Keras' private API, and what stock Keras does instead.

Private names can change with any minor version, so pyproject.toml pins Keras below the next one; tests/test_layers.py
checks that no other module uses them. tests/test_optimizers.py, test_batch_norm.py, test_precise_bn.py
and test_cut.py compare each use with stock Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from glaucoma.model.runtime import keras

__all__ = [
    "AsOneVector",
    "UpdatesAll",
    "all_layers",
    "calling",
    "inputs_of",
    "inputs_to",
    "outputs_of",
    "reduction_axes",
    "source",
]

# The graph of a model: Keras exposes `model.layers`, and of a layer only the tensors of its own definition


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """All layers of a model, including nested ones; `model.layers` has only the first level."""
    return model._flatten_layers(include_self=False)


def inputs_of(layer: keras.Layer) -> list[Any]:
    """The symbolic tensors of a layer's first call; empty if it was never called.

    `layer.input` is the same, except for a model within a model, where it is the inner model's own inputs.
    """
    return list(layer._inbound_nodes[0].input_tensors) if layer._inbound_nodes else []


def outputs_of(layer: keras.Layer) -> list[Any]:
    """The symbolic outputs of a layer's first call; like `inputs_of`, also for a model within a model."""
    return list(layer._inbound_nodes[0].output_tensors)


def source(tensor: Any) -> keras.Layer:
    """The layer or operation that produced a symbolic tensor; Keras has no public way to find it."""
    return tensor._keras_history.operation


def inputs_to(tensor: Any) -> list[Any]:
    """The input tensors of the call that produced `tensor`; a layer may be called more than once."""
    return list(source(tensor)._inbound_nodes[tensor._keras_history.node_index].input_tensors)


# Batch normalisation


def reduction_axes(layer: keras.layers.BatchNormalization) -> list[int]:
    """The axes over which a built batch normalisation takes its mean: all except its `axis`."""
    return layer._reduction_axes


@contextmanager
def calling(layers: Sequence[keras.Layer], call: Callable) -> Iterator[None]:
    """Context in which layers are called as `call(layer, inputs, training, mask)`; `call` is restored afterwards.

    Keras looks up `call` on the layer at each call, and so finds this one; stock Keras calls the class's.
    """
    before = [vars(layer).get("call") for layer in layers]
    for layer in layers:
        layer.call = partial(call, layer)
    try:
        yield
    finally:
        for layer, own in zip(layers, before, strict=True):
            del layer.call
            if own is not None:
                layer.call = own


# Optimizers


class UpdatesAll:
    """Optimizer mixin: one call of `update_all` updates all variables.

    Stock Keras calls `update_step` for each variable.
    """

    def update_all(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Update `variables` by `gradients`, in the same order and with the same shapes."""
        raise NotImplementedError

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        self.update_all(grads, trainable_variables, learning_rate)


class AsOneVector(UpdatesAll):
    """Mixin for an elementwise Keras optimizer: its slots and its update use one flat variable.

    Stock Keras has slots and an update per variable: 215 to trace for EfficientNetB0, which takes most of the time
    before its first step. The arithmetic is the same, bit for bit.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Create the slots, each a flat variable as long as all `variables` together."""
        if self.built:
            return
        sizes = [int(keras.ops.size(variable)) for variable in variables]
        flat = keras.Variable(keras.ops.zeros(sum(sizes), variables[0].dtype), trainable=True, name="flat")
        super().build([flat])
        self._trainable_variables_indices = {self._var_key(v): i for i, v in enumerate(variables)}
        # bypasses Keras' tracking, which would count the model's variables as optimizer state
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.__dict__.update(_flat=flat, _ends=ends, _trainable_variables=list(variables))

    def update_all(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Update `variables` by `gradients`, in the same order and with the same shapes.

        Raises:
            ValueError: a variable has no gradient.
        """
        if len(gradients) != len(self._ends):
            missing = len(self._ends) - len(gradients)
            raise ValueError(f"{missing} of {len(self._ends)} variables have no gradient")
        self._flat.assign(_flatten([variable.value for variable in variables]))
        super(UpdatesAll, self)._backend_update_step([_flatten(gradients)], [self._flat], learning_rate)
        parts = keras.ops.split(self._flat.value, self._ends[:-1])
        for variable, part in zip(variables, parts, strict=True):
            variable.assign(part if len(variable.shape) == 1 else keras.ops.reshape(part, variable.shape))

    def _get_variable_index(self, variable: keras.Variable) -> int:
        return 0  # every slot is a list with one entry, for the flat variable


def _flatten(tensors: Sequence[Any]) -> Any:
    flat = [tensor if len(tensor.shape) == 1 else keras.ops.reshape(tensor, (-1,)) for tensor in tensors]
    return keras.ops.concatenate(flat)  # most variables are vectors, and each operation takes time to trace
