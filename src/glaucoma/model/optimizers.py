"""The report's four optimizers, updating all variables as one vector.

A network with 215 variables has 215 updates to trace, which takes most of the time before its first step. These
optimizers are elementwise, so one update of the concatenated variables is the same arithmetic: Keras' own
`update_step`, on one variable.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from glaucoma.model.keras_internals import AsOneVector, UpdatesAll
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


class SideBySide(UpdatesAll, keras.optimizers.Optimizer):
    """Optimizers of several models that are trained together, each for its own variables.

    Args:
        optimizers: one per model.
        variables: the trainable variables of each model, in the order of `optimizers`; together, all of them.
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

    def update_all(self, gradients: Sequence[Any], variables: Sequence[Any], learning_rate: Any) -> None:
        """Let each optimizer update its own variables."""
        for part, optimizer in enumerate(self.optimizers):
            own = [(g, v) for g, v in zip(gradients, variables, strict=True) if self._owner[id(v)] == part]
            optimizer.apply(*map(list, zip(*own, strict=True)))


_AS_ONE = {name: type(f"{base.__name__}AsOneVector", (AsOneVector, base), {}) for name, base in OPTIMIZERS.items()}
