"""A grid of hyperparameters, its trials, and the runs that several trials share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from typing import Any

from glaucoma.params import Grid, Params

__all__ = ["Fit", "Run", "Trial", "columns", "expand", "fit_of", "group"]


@dataclass(frozen=True, order=True)
class Fit:
    """How a training goes beside its four hyperparameters; the default is the report's.

    Attributes:
        class_weight: `none`, or `balanced`: images / (2 · images of the class).
        label_smoothing: share of each label that is spread over both classes, 0 ≤ x < 1.
        early_stopping: epochs without a lower test loss after which training stops, at the best epoch's weights; 0 not.
        schedule: of the learning rate: `constant`, `cosine` or `plateau`.
        warmup: epochs in which it rises first.
        precise_bn: whether trained batch normalisation gets the train split's statistics in place of moving averages.
    """

    class_weight: str = "none"
    label_smoothing: float = 0.0
    early_stopping: int = 0
    schedule: str = "constant"
    warmup: int = 0
    precise_bn: bool = False

    def changes(self) -> dict[str, Any]:
        """What differs from the report."""
        return {name: value for name, value in asdict(self).items() if value != getattr(Fit, name)}

    def knows_the_end(self) -> bool:
        """Whether a training depends on how long it is meant to be, so that a shorter one is no part of a longer."""
        return self.schedule == "cosine" or self.early_stopping > 0


def fit_of(params: Params) -> Fit:
    """The section `fit` of params.yaml."""
    return Fit(**params.fit.model_dump())


@dataclass(frozen=True)
class Trial:
    """One configuration: learning rate, optimizer's name, images per batch, passes over the train split, the rest."""

    lr: float
    optimizer: str
    batch_size: int
    epochs: int
    fit: Fit = Fit()

    def as_dict(self) -> dict[str, float | int | str]:
        """The configuration as plain values, in the report's order; of `fit` what differs from the report."""
        own = {"lr": self.lr, "optimizer": self.optimizer, "batch_size": self.batch_size, "epochs": self.epochs}
        return own | self.fit.changes()

    @classmethod
    def of(cls, values: dict[str, Any]) -> Trial:
        """The trial that `as_dict` told."""
        names = {field.name for field in fields(Fit)}
        fit = Fit(**{name: value for name, value in values.items() if name in names})
        return cls(**{name: value for name, value in values.items() if name not in names}, fit=fit)

    def __str__(self) -> str:
        own = f"{self.optimizer} lr {self.lr:g} batch {self.batch_size} epochs {self.epochs}"
        return " ".join([own, *(f"{name} {value}" for name, value in self.fit.changes().items())])


@dataclass(frozen=True)
class Run:
    """Trials that differ only in epochs: the longest is trained, the others are snapshots on its way.

    Where a training knows its end, a run is one trial.
    """

    lr: float
    optimizer: str
    batch_size: int
    epochs: tuple[int, ...]  # ascending
    fit: Fit = Fit()

    def trial(self, epochs: int) -> Trial:
        """The trial of this run that ends after `epochs`."""
        return Trial(self.lr, self.optimizer, self.batch_size, epochs, self.fit)

    def __str__(self) -> str:
        return str(self.trial(self.epochs[-1]))


def expand(grid: Grid, fit: Fit = Fit()) -> list[Trial]:
    """The product of a grid's values, learning rate slowest, epochs fastest; what it does not list is as in `fit`."""
    names = [field.name for field in fields(Fit)]
    listed = [getattr(grid, name) or [getattr(fit, name)] for name in names]
    fits = [Fit(*value) for value in itertools.product(*listed)]
    return [
        Trial(lr, optimizer, batch_size, epochs, chosen)
        for lr, optimizer, batch_size, chosen, epochs in itertools.product(
            grid.lr, grid.optimizer, grid.batch_size, fits, grid.epochs
        )
    ]


def columns(trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """`as_dict` of each trial, with the same keys for all: those that any of them has."""
    trials = list(trials)
    named = {name for trial in trials for name in trial.fit.changes()}
    shown = [field.name for field in fields(Fit) if field.name in named]
    return [trial.as_dict() | {name: getattr(trial.fit, name) for name in shown} for trial in trials]


def group(trials: Iterable[Trial]) -> list[Run]:
    """Runs that cover `trials`, ordered so that a compiled model serves as many in a row as it can."""
    epochs: dict[tuple[str, int, float, Fit, int], list[int]] = {}
    for trial in trials:
        alone = trial.epochs if trial.fit.knows_the_end() else 0
        key = trial.optimizer, trial.batch_size, trial.lr, trial.fit, alone
        epochs.setdefault(key, []).append(trial.epochs)
    return [
        Run(lr, name, batch, tuple(sorted(epochs[name, batch, lr, fit, alone])), fit)
        for name, batch, lr, fit, alone in sorted(epochs)
    ]
