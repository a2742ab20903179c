"""All that uses Keras' private API, and what stock Keras does in its place.

Private names can change with any minor version, so pyproject.toml holds Keras below the next one; tests/test_layers.py
holds that no other module uses them. tests/test_optimizers.py, test_batch_norm.py, test_precise_bn.py, test_runtime.py
and test_cut.py compare each use with stock Keras.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

from glaucoma.model.runtime import keras, tensorflow

__all__ = [
    "AsOneVector",
    "UpdatesAll",
    "all_layers",
    "calling",
    "inputs_of",
    "inputs_to",
    "leave_untuned",
    "outputs_of",
    "reduction_axes",
    "source",
]

# The graph of a model: Keras shows `model.layers`, and of a layer only the tensors of its own definition


def all_layers(model: keras.Model) -> list[keras.Layer]:
    """The layers of a model and those within them. `model.layers` stops at the first level."""
    return model._flatten_layers(include_self=False)


def inputs_of(layer: keras.Layer) -> list[Any]:
    """The symbolic tensors that a layer was first called with, none if it never was.

    `layer.input` is the same, but of a model within a model it gives the inner model's own inputs.
    """
    return list(layer._inbound_nodes[0].input_tensors) if layer._inbound_nodes else []


def outputs_of(layer: keras.Layer) -> list[Any]:
    """The symbolic tensors that a layer's first call gave; as `inputs_of`, also of a model within a model."""
    return list(layer._inbound_nodes[0].output_tensors)


def source(tensor: Any) -> keras.Layer:
    """The layer or operation that a symbolic tensor comes from; Keras has no public way back from a tensor."""
    return tensor._keras_history.operation


def inputs_to(tensor: Any) -> list[Any]:
    """The symbolic tensors of the very call that gave `tensor`; a layer may be called more than once."""
    return list(source(tensor)._inbound_nodes[tensor._keras_history.node_index].input_tensors)


# Batch normalisation


def reduction_axes(layer: keras.layers.BatchNormalization) -> list[int]:
    """The axes that a built batch normalisation takes its mean over: all but its own `axis`."""
    return layer._reduction_axes


@contextmanager
def calling(layers: Sequence[keras.Layer], call: Callable) -> Iterator[None]:
    """Within, each layer is called as `call(layer, inputs, training, mask)`; then as before, which may be no less.

    Keras looks `call` up on the layer at each call, and so finds this one; stock Keras calls the class's.
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
    """Mixed into an optimizer: one call of `update_all` is the step of all variables.

    Stock Keras calls `update_step` for each variable in turn.
    """

    def update_all(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Change `variables` along `gradients`, of equal order and shapes."""
        raise NotImplementedError

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        self.update_all(grads, trainable_variables, learning_rate)


class AsOneVector(UpdatesAll):
    """Mixed into an elementwise Keras optimizer: its slots and its update see one flat variable.

    Stock Keras keeps slots and makes an update for each variable: 215 to trace for EfficientNetB0, which is most of the
    wait for its first step. The arithmetic is the same, to the bit.
    """

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Make the slots, each of one flat variable as long as all `variables` together."""
        if self.built:
            return
        sizes = [int(keras.ops.size(variable)) for variable in variables]
        flat = keras.Variable(keras.ops.zeros(sum(sizes), variables[0].dtype), trainable=True, name="flat")
        super().build([flat])
        self._trainable_variables_indices = {self._var_key(v): i for i, v in enumerate(variables)}
        # set past Keras' tracking, which would count the model's own variables as the optimizer's state
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.__dict__.update(_flat=flat, _ends=ends, _trainable_variables=list(variables))

    def update_all(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Change `variables` along `gradients`, of equal order and shapes.

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
        return 0  # every slot is a list of one, for the flat variable


def _flatten(tensors: Sequence[Any]) -> Any:
    flat = [tensor if len(tensor.shape) == 1 else keras.ops.reshape(tensor, (-1,)) for tensor in tensors]
    return keras.ops.concatenate(flat)  # most variables are vectors, and each operation takes time to trace


# Data sets


def leave_untuned() -> None:
    """Have TensorFlow not tune the data sets that Keras makes of those whose attribute `autotune` is false.

    Stock Keras has them tuned. The tuner's thread sleeps in periods that double from 10 ms to 20 s, and each epoch and
    prediction waits, when it is over, until the thread next wakes: up to as long again as its work took. Keras itself
    goes without the tuner where a data set has several workers.
    """
    if keras.backend.backend() != "tensorflow":
        return
    from keras.src.trainers.data_adapters.py_dataset_adapter import PyDatasetAdapter

    stock = PyDatasetAdapter.get_tf_dataset

    def get_tf_dataset(adapter: Any) -> Any:
        dataset = stock(adapter)
        if getattr(adapter.py_dataset, "autotune", True):
            return dataset
        options = tensorflow().data.Options()
        options.autotune.enabled = False
        return dataset.with_options(options)

    PyDatasetAdapter.get_tf_dataset = get_tf_dataset
