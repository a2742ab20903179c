"""Train trials from one start on one fold; what was trained before is not trained again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from glaucoma.data.splits import Split
from glaucoma.errors import ParamsError, TrainingError
from glaucoma.files import hash_json
from glaucoma.model.cut import Cut
from glaucoma.model.network import reseed
from glaucoma.model.runtime import keras
from glaucoma.params import Augment
from glaucoma.progress import Progress, say
from glaucoma.search.activations import activations
from glaucoma.search.executors.choose import Executor, choose
from glaucoma.search.executors.work import Work, reason
from glaucoma.search.grid import Fit, Run, Trial, group
from glaucoma.search.identity import code_version, hash_examples, hash_model
from glaucoma.search.journal import Journal
from glaucoma.search.training import Follower, Snapshot, assign

__all__ = ["Searcher"]

SMALL = 100_000  # parameters up to which several tails are trained in one step
SIDE_BY_SIDE = (Fit(), Fit(precise_bn=True))  # what else a run may ask for then


class Searcher:
    """Trains trials that share a start (a network cut in two) and the examples of one fold.

    Args:
        cut: the network; its values at this moment are the start.
        pixels: uint8 (images, size, size, 3).
        splits: `train` is learnt from, `test` is followed epoch by epoch; every split given is predicted at the end.
        seed: decides data order and dropout.
        state: folder of the journal and the activations' cache.
        cached: train on the trunk's stored outputs; False runs the trunk in every step, with equal results.
        title: what progress is shown as.
        augment: how images are changed in training, which wants pixels: nothing frozen, or `cached` False.
        executor: where the trials are trained, which changes no result; None takes what the environment asks for.
    """

    def __init__(
        self,
        cut: Cut,
        pixels: np.ndarray,
        splits: dict[str, Split],
        *,
        seed: int,
        state: Path,
        cached: bool = True,
        title: str = "search",
        augment: Augment | None = None,
        executor: Executor | None = None,
    ):
        reseed(cut.network, seed)
        self.augment = augment if augment is not None and augment.is_on() else None
        if self.augment and cached and cut.trunk is not None:
            raise ParamsError(
                "augmentation changes images while they are trained on, and activations of frozen layers are computed "
                "once, from unchanged images",
                "set search.cache to false",
            )
        self.cut, self.pixels, self.splits, self.seed, self.cached = cut, pixels, splits, seed, cached
        self.state, self.title, self.executor = state, title, executor
        self.journal = Journal(state / "trials")
        self.errors: dict[Trial, str] = {}
        self._common = [code_version(), hash_model(cut.network), hash_examples(pixels, splits), seed]
        if self.augment:
            self._common.append(self.augment.model_dump())

    def identity(self, trial: Trial) -> str:
        """Hash of all that decides the trial's result."""
        return hash_json([*self._common, trial.as_dict()])

    def train(self, trials: Sequence[Trial]) -> dict[Trial, Snapshot]:
        """Train what the journal does not hold yet; why a trial failed stands in `errors`, the others go on.

        Returns:
            What each trial that did not fail ended with, in the order of `trials`.

        Raises:
            TrainingError: every trial failed.
        """
        known = {trial: self.journal.read(self.identity(trial)) for trial in trials}
        missing = [trial for trial, snapshot in known.items() if snapshot is None]
        if missing and len(missing) < len(trials):
            say(f"{self.title}: {len(trials) - len(missing)} of {len(trials)} trials are known, the rest follows")
        if missing:
            known |= self._train(group(missing))
        finished = {trial: snapshot for trial, snapshot in known.items() if snapshot is not None}
        if not finished:
            trial, error = next(iter(self.errors.items()))
            raise TrainingError(
                f"{self.title}: all {len(trials)} trials failed; {trial}: {error}",
                "lower the learning rates or the batch sizes of the grid",
            )
        self.journal.prune({self.identity(trial) for trial in trials})
        return finished

    def take(self, snapshot: Snapshot) -> None:
        """Give the network the weights that a trial ended with."""
        assign(self.cut.tail.variables, snapshot.weights)

    def _train(self, runs: list[Run]) -> dict[Trial, Snapshot]:
        finished: dict[Trial, Snapshot] = {}
        executor = self.executor or choose()
        together = self._heads_only and all(run.fit in SIDE_BY_SIDE for run in runs)  # any other is trained alone
        work = Work(self.cut, self.splits, self.seed, self.cached, together, self.augment)
        arrays, units = self._arrays(), self._units(runs, executor.workers(), together)
        with Progress(self.title, sum(run.epochs[-1] for run in runs), "epoch") as progress:

            def epoch(run: Run, row: dict[str, float]) -> None:
                loss, score = row["loss"], row["test_f1_macro"]
                place = f"run {runs.index(run) + 1} of {len(runs)}: {run}"
                progress.step(1, f"{place}, epoch {row['epoch']}, loss {loss:.3f}, test macro F1 {score:.3f}")

            def snapshot(run: Run, reached: Snapshot) -> None:
                trial = run.trial(reached.epochs)
                self.journal.write(self.identity(trial), reached)
                finished[trial] = reached

            def failure(run: Run, error: Exception) -> None:
                for trial in map(run.trial, run.epochs):
                    if trial not in finished:
                        self.errors[trial] = reason(error)
                        say(f"{self.title}: {trial} failed: {reason(error)}")

            executor.run(work, arrays, units, Follower(epoch, snapshot, failure))
        return finished

    def _units(self, runs: list[Run], workers: int, together: bool) -> list[list[Run]]:
        """Runs that are trained together: heads of a batch size and `fit`, in a part for each worker; or each alone.

        Which heads are trained together changes none of them.
        """
        if not together:
            return [[run] for run in runs]
        kinds = sorted({(run.batch_size, run.fit) for run in runs})
        parts = -(-workers // len(kinds))
        units = [[r for r in runs if (r.batch_size, r.fit) == kind][i::parts] for kind in kinds for i in range(parts)]
        return [unit for unit in units if unit]

    @property
    def _heads_only(self) -> bool:
        """Whether what is trained is a model on one vector, so small that a step on it is all overhead."""
        if not self.cached or self.cut.trunk is None or self.cut.tail.count_params() >= SMALL:
            return False
        if keras.backend.backend() == "torch":
            return False  # its cross-entropy raises at one head's NaN, and heads side by side end otherwise than alone
        return [len(crossing.shape) for crossing in self.cut.trunk.outputs] == [2]

    def _arrays(self) -> Sequence[np.ndarray]:
        """What is trained on: the trunk's outputs, or the pixels."""
        if self.cut.trunk is None or not self.cached:
            return [self.pixels]
        return activations(self.cut.trunk, self.pixels, self.state / "activations")
