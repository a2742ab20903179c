"""The report's four optimizers, updating all variables as one vector.

A network of 215 variables has 215 updates to trace, which is most of the wait for its first step. These optimizers
are elementwise, so one update of the concatenated variables is the same arithmetic: Keras' own `update_step`, on one
variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glaucoma.model.runtime import keras

__all__ = ["OPTIMIZERS", "SideBySide", "make_optimizer"]

OPTIMIZERS = {
    "adam": keras.optimizers.Adam,
    "sgd": keras.optimizers.SGD,
    "adadelta": keras.optimizers.Adadelta,
    "adagrad": keras.optimizers.Adagrad,
}


def make_optimizer(name: str, lr: float) -> keras.optimizers.Optimizer:
    """A new optimizer with Keras' defaults, the learning rate `lr` (> 0) and one update for all variables."""
    return _AS_ONE[name](learning_rate=lr)


class SideBySide(keras.optimizers.Optimizer):
    """Optimizers of several models that are trained as one, each for its own variables.

    Args:
        optimizers: one per model.
        variables: the trainable variables of each model, in the order of `optimizers`; together, all there are.
    """

    def __init__(self, optimizers: Sequence[keras.optimizers.Optimizer], variables: Sequence[Sequence[keras.Variable]]):
        super().__init__(learning_rate=0.0)
        self.optimizers = list(optimizers)
        for optimizer, own in zip(optimizers, variables, strict=True):
            optimizer.build(own)
        self._owner = {id(v): part for part, own in enumerate(variables) for v in own}

    @property
    def variables(self) -> list[keras.Variable]:
        """The state of all optimizers."""
        return [*super().variables, *(v for optimizer in self.optimizers for v in optimizer.variables)]

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        for part, optimizer in enumerate(self.optimizers):
            own = [(g, v) for g, v in zip(grads, trainable_variables, strict=True) if self._owner[id(v)] == part]
            optimizer.apply(*map(list, zip(*own, strict=True)))


class _AsOneVector:
    """Mixed into an elementwise Keras optimizer: its slots and its update see one flat variable."""

    def build(self, variables: Sequence[keras.Variable]) -> None:
        if self.built:
            return
        sizes = [int(keras.ops.size(variable)) for variable in variables]
        flat = keras.Variable(keras.ops.zeros(sum(sizes), variables[0].dtype), trainable=True, name="flat")
        super().build([flat])
        self._trainable_variables_indices = {self._var_key(v): i for i, v in enumerate(variables)}
        # set past Keras' tracking, which would count the model's own variables as the optimizer's state
        ends = [sum(sizes[: i + 1]) for i in range(len(sizes))]
        self.__dict__.update(_flat=flat, _ends=ends, _trainable_variables=list(variables))

    def _get_variable_index(self, variable: keras.Variable) -> int:
        return 0  # every slot is a list of one, for the flat variable

    def _backend_update_step(
        self, grads: Sequence[Any], trainable_variables: Sequence[Any], learning_rate: Any
    ) -> None:
        if len(grads) != len(self._ends):
            raise ValueError(f"{len(self._ends) - len(grads)} of {len(self._ends)} variables have no gradient")
        self._flat.assign(_flatten([variable.value for variable in trainable_variables]))
        super()._backend_update_step([_flatten(grads)], [self._flat], learning_rate)
        parts = keras.ops.split(self._flat.value, self._ends[:-1])
        for variable, part in zip(trainable_variables, parts, strict=True):
            variable.assign(part if len(variable.shape) == 1 else keras.ops.reshape(part, variable.shape))


def _flatten(tensors: Sequence[Any]) -> Any:
    flat = [tensor if len(tensor.shape) == 1 else keras.ops.reshape(tensor, (-1,)) for tensor in tensors]
    return keras.ops.concatenate(flat)  # most variables are vectors, and each operation takes time to trace


_AS_ONE = {name: type(f"{base.__name__}AsOneVector", (_AsOneVector, base), {}) for name, base in OPTIMIZERS.items()}
