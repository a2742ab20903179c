"""What a worker needs to train the runs of a search, in this process or in another, and what it tells as it goes."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from glaucoma.base.errors import GlaucomaError, TrainingError
from glaucoma.base.params import Augment
from glaucoma.dataset.splits import Split
from glaucoma.model.cut import Cut, through_trunk
from glaucoma.model.runtime import fresh, keras
from glaucoma.train.grid import Run
from glaucoma.train.heads import HeadsTrainer
from glaucoma.train.trainer import Follower, Trainer, assign, values

__all__ = ["Event", "Work", "pack", "reason", "teller", "travelling", "unpack"]


class Event(NamedTuple):
    """What happened to a run: `kind` names the method of `Follower` that `what` is for."""

    kind: str
    run: Run
    what: Any


@dataclass(frozen=True)
class Work:
    """What all runs of a search share, large arrays apart.

    Attributes:
        cut: the network; its values are every run's start.
        splits: as a trainer takes them.
        seed: as a trainer takes it.
        cached: whether the arrays are the trunk's outputs, not pixels.
        together: whether the tail is a head so small that runs are trained side by side.
        augment: how images are changed in training; None where they are not.
    """

    cut: Cut
    splits: Mapping[str, Split]
    seed: int
    cached: bool
    together: bool
    augment: Augment | None = None

    def trainer(self, arrays: list[np.ndarray]) -> Trainer | HeadsTrainer:
        """What trains runs on `arrays`: the pixels, or the trunk's outputs, of all images."""
        if self.together:
            return HeadsTrainer(self.cut.tail, arrays[0], self.seed)
        through = self.cut.trunk is not None and not self.cached
        model = through_trunk(self.cut) if through else self.cut.tail
        return Trainer(model, self.cut.tail.variables, arrays, self.seed, self.augment)


def pack(work: Work) -> bytes:
    """Work as bytes. Generators' states travel with the weights, which a `.keras` file would not do."""
    trunk = work.cut.trunk if not work.cached else None
    models = [(model.to_json(), values(model.variables)) if model else None for model in (trunk, work.cut.tail)]
    rest = dict(work.splits), work.seed, work.cached, work.together, work.augment
    return pickle.dumps((models, *rest), protocol=5)


def unpack(packed: bytes) -> Work:
    """Prepare this process for training, and rebuild what `pack` took apart."""
    models, splits, seed, cached, together, augment = pickle.loads(packed)  # noqa: S301 - our own, from the driver
    fresh(seed)
    trunk, tail = (_rebuild(*model) if model else None for model in models)
    return Work(Cut(tail if trunk is None else trunk, trunk, tail), splits, seed, cached, together, augment)


def teller(emit: Callable[[Event], None]) -> Follower:
    """A follower that passes everything on as events that can be pickled."""

    def failure(run: Run, error: Exception) -> None:
        emit(Event("failure", run, error if isinstance(error, GlaucomaError) else TrainingError(reason(error))))

    return Follower(
        epoch=lambda run, row: emit(Event("epoch", run, row)),
        snapshot=lambda run, reached: emit(Event("snapshot", run, reached)),
        failure=failure,
    )


def reason(error: Exception) -> str:
    """Why a run failed, in a line."""
    if isinstance(error, GlaucomaError):
        return error.found
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"


def travelling(error: Exception) -> Exception:
    """The error itself where it can be pickled, else one that says the same."""
    try:
        pickle.loads(pickle.dumps(error))  # noqa: S301 - our own
    except Exception:
        return RuntimeError(f"{type(error).__name__}: {error}")
    return error


def _rebuild(architecture: str, given: list[np.ndarray]) -> keras.Model:
    model = keras.models.model_from_json(architecture)
    assign(model.variables, given)
    return model
