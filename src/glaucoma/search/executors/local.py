"""Train in this process, one unit after the other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glaucoma.search.executors.work import Work
from glaucoma.train.grid import Run
from glaucoma.train.trainer import Follower, assign

__all__ = ["InProcess"]


class InProcess:
    """The executor that needs nothing, and that all others must agree with bit for bit."""

    def workers(self) -> int:
        """How many units are trained at a time."""
        return 1

    def run(self, work: Work, arrays: Sequence[np.ndarray], units: Sequence[Sequence[Run]], follower: Follower) -> None:
        """Train all units, telling `follower`; the network is left with the values it had."""
        trainer = work.trainer(list(arrays))
        for unit in units:
            trainer.train(unit, work.splits, follower)
        assign(trainer.variables, trainer.start)
