"""Train trials from one initial network on one fold, skipping those in the journal."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from glaucoma.base.errors import GlaucomaError, TrainingError
from glaucoma.base.files import hash_json
from glaucoma.base.params import Augment, Trial, group
from glaucoma.base.progress import Progress, plain, say
from glaucoma.dataset.splits import Split
from glaucoma.model.cut import Cut, through_trunk
from glaucoma.model.network import assign, reseed, values
from glaucoma.model.runtime import fresh, keras
from glaucoma.train.activations import activations
from glaucoma.train.heads import HeadsTrainer
from glaucoma.train.identity import code_version, hash_examples, hash_model
from glaucoma.train.journal import Journal
from glaucoma.train.pool import Cluster, Processes, choose
from glaucoma.train.trainer import Follower, Run, Snapshot, Trainer

__all__ = ["Searcher", "pack", "unpack"]

Unit = tuple[list[Run], dict[Trial, str]]  # runs that are trained together, and the identity of each of their trials
SMALL = 100_000  # parameters; smaller tails are trained together, in one step
SIDE_BY_SIDE = {"lr", "optimizer", "batch_size", "epochs", "precise_bn"}  # the only options they may set


class Searcher:
    """Trains trials that share an initial network (cut in two) and the examples of one fold.

    Args:
        cut: the network; its current values are the start of every trial.
        pixels: uint8 (images, size, size, 3).
        splits: models train on `train` and are scored on `test` every epoch; every split is predicted at the end.
        seed: determines data order and dropout.
        state: folder of the journal and the activations' cache.
        cached: train on the trunk's cached outputs; False runs the trunk in every step, with equal results.
        title: the progress bar's title.
        augment: augmentation of pixels; the trunk runs in every step, since images change.
        pool: where trials are trained; results do not depend on it. None: the environment's.
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
        pool: Processes | Cluster | None = None,
    ):
        reseed(cut.network, seed)
        self.augment = augment if augment is not None and augment.is_on() else None
        self.cached = cached and self.augment is None
        self.cut, self.pixels, self.splits, self.seed = cut, pixels, splits, seed
        self.state, self.title, self.pool = state, title, pool
        self.journal = Journal(state / "trials")
        self.errors: dict[Trial, str] = {}
        self._common = [code_version(), hash_model(cut.network), hash_examples(pixels, splits), seed]
        if self.augment:
            self._common.append(self.augment.model_dump())

    def identity(self, trial: Trial) -> str:
        """Hash of everything that determines the trial's result."""
        return hash_json([*self._common, trial.as_dict()])

    def train(self, trials: Sequence[Trial]) -> dict[Trial, Snapshot]:
        """Train the trials that are not in the journal. A failed trial is recorded in `errors`; the others continue.

        Returns:
            The final state of each successful trial, in the order of `trials`.

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
        """Load a trial's final weights into the network."""
        assign(self.cut.tail.variables, snapshot.weights)

    def _train(self, runs: list[Run]) -> dict[Trial, Snapshot]:
        finished: dict[Trial, Snapshot] = {}
        pool = self.pool or choose()
        together = self._heads_only and all(
            run[-1].as_dict().keys() <= SIDE_BY_SIDE for run in runs
        )  # trials with other options are trained alone
        units = [(unit, self._identities(unit)) for unit in self._units(runs, pool.workers, together)]
        settings: dict[str, Any] = {"seed": self.seed, "cached": self.cached}
        settings |= {"together": together, "augment": self.augment}
        arrays, here = [np.asarray(array) for array in self._arrays()], pool.stays_here(len(units))
        if not here:
            plain()
        with Progress(self.title, sum(run[-1].epochs for run in runs), "epoch") as progress:
            if here:
                trainer = _trainer(self.cut, arrays, **settings)
                results: Iterator = (
                    (unit, _train_unit(trainer, self.splits, unit, self.journal, progress)) for unit in units
                )
            else:
                journal = self.journal.folder.absolute() if pool.shares_files else None
                packed = pack(self.cut, settings, self.splits, self.title, journal)
                results = pool.run(_train_packed, (uuid.uuid4().hex, packed, arrays), units)
            for (unit, identities), told in results:
                for trial, ended in told.items():
                    if isinstance(ended, str):
                        self.errors[trial] = ended
                        say(f"{self.title}: {trial} failed: {ended}")
                        continue
                    finished[trial] = ended
                    if not pool.shares_files:
                        self.journal.write(identities[trial], ended)
                if not here:
                    progress.step(sum(run[-1].epochs for run in unit), f"done: {unit[-1][-1]}")
            if here:
                assign(trainer.variables, trainer.start)  # restore the network's values
        return finished

    def _identities(self, runs: list[Run]) -> dict[Trial, str]:
        return {trial: self.identity(trial) for run in runs for trial in run}

    def _units(self, runs: list[Run], workers: int, together: bool) -> list[list[Run]]:
        """Group runs to train together: heads by batch size and options, split among the workers; other runs alone.

        The grouping does not change any head's result.
        """
        if not together:
            return [[run] for run in runs]
        kinds: dict[tuple, list[Run]] = {}
        for run in runs:
            kinds.setdefault((run[-1].batch_size, run[-1].options()), []).append(run)
        parts = -(-workers // len(kinds))
        units = [kinds[kind][i::parts] for kind in sorted(kinds) for i in range(parts)]
        return [unit for unit in units if unit]

    @property
    def _heads_only(self) -> bool:
        """Whether the trained part is a small model on one vector, whose steps are all overhead."""
        if not self.cached or self.cut.trunk is None or self.cut.tail.count_params() >= SMALL:
            return False
        if keras.backend.backend() == "torch":
            return False  # its cross-entropy raises if one head is NaN, and heads trained together end differently
        return [len(crossing.shape) for crossing in self.cut.trunk.outputs] == [2]

    def _arrays(self) -> Sequence[np.ndarray]:
        """The training inputs: the trunk's outputs or the pixels."""
        if self.cut.trunk is None or not self.cached:
            return [self.pixels]
        return activations(self.cut.trunk, self.pixels, self.state / "activations")


def pack(cut: Cut, settings: dict[str, Any], *rest: Any) -> np.ndarray:
    """Serialise (uint8) for `unpack`, which builds the trainer in another process; `settings` are those of `_trainer`.

    It includes the generators' states, which a `.keras` file does not.
    """
    models = [cut.tail] if settings["cached"] or cut.trunk is None else [cut.tail, cut.trunk]
    taken = [(model.to_json(), values(model.variables)) for model in models]
    return np.frombuffer(pickle.dumps((code_version(), taken, settings, rest), protocol=5), "uint8")


def unpack(packed: np.ndarray, arrays: Sequence[np.ndarray]) -> tuple[Trainer | HeadsTrainer, Any]:
    """Prepare this process for training on `arrays`: the pixels or the trunk's outputs of all images.

    Returns:
        A trainer, and the rest of the packed objects.

    Raises:
        TrainingError: it was packed by another version of the code.
    """
    code, taken, settings, rest = pickle.loads(packed)  # noqa: S301 - our own data, from the parent process
    if code != code_version():
        remedy = "install this project on every node, from the same lock"
        raise TrainingError("a worker has this project, Keras or its backend in another version than here", remedy)
    fresh(settings["seed"])
    models = []
    for architecture, given in taken:
        models.append(keras.models.model_from_json(architecture))
        assign(models[-1].variables, given)
    tail, trunk = [*models, None][:2]
    return _trainer(Cut(trunk or tail, trunk, tail), arrays, **settings), rest


def _trainer(
    cut: Cut, arrays: Sequence[np.ndarray], *, seed: int, cached: bool, together: bool, augment: Augment | None
) -> Trainer | HeadsTrainer:
    if together:
        return HeadsTrainer(cut.tail, arrays[0], seed)
    through = cut.trunk is not None and not cached
    return Trainer(through_trunk(cut) if through else cut.tail, cut.tail.variables, arrays, seed, augment)


_latest: tuple[str, Any] = ("", None)  # in a worker: a search's key and its unpacked trainer


def _train_packed(
    key: str, packed: np.ndarray, arrays: Sequence[np.ndarray], unit: Unit
) -> dict[Trial, Snapshot | str]:
    """Train a unit in a worker. Units with the same `key` share a trainer and its compiled functions."""
    global _latest
    if _latest[0] != key:
        _latest = key, unpack(packed, arrays)
    trainer, (splits, title, journal) = _latest[1]
    runs = unit[0]
    with Progress(title, sum(run[-1].epochs for run in runs), "epoch") as progress:
        return _train_unit(trainer, splits, unit, Journal(journal) if journal else None, progress)


def _train_unit(
    trainer: Trainer | HeadsTrainer,
    splits: Mapping[str, Split],
    unit: Unit,
    journal: Journal | None,
    progress: Progress,
) -> dict[Trial, Snapshot | str]:
    """Train the trials of a unit that are not in the journal; return each trial's final state or why it failed."""
    runs, identities = unit
    known = {trial: journal.read(identity) for trial, identity in identities.items()} if journal else {}
    told: dict[Trial, Snapshot | str] = {trial: found for trial, found in known.items() if found}
    left = [tuple(trial for trial in run if trial not in told) for run in runs]

    def epoch(run: Run, row: Mapping[str, float]) -> None:
        scores = f"loss {row['loss']:.3f}, test macro F1 {row['test_f1_macro']:.3f}"
        progress.step(1, f"{run[-1]}, epoch {row['epoch']}, {scores}")

    def resumed(run: Run, epochs: int) -> None:
        say(f"{progress.title}: {run[-1]} resumes after epoch {epochs}")
        progress.skip(epochs)

    def checkpoint(trial: Trial) -> Path | None:
        return journal.checkpoint(identities[trial]) if journal else None

    def snapshot(trial: Trial, reached: Snapshot) -> None:
        if journal:
            journal.write(identities[trial], reached)
        told[trial] = reached

    def failure(run: Run, error: Exception) -> None:
        told.update({trial: _reason(error) for trial in run if trial not in told})

    if left := [run for run in left if run]:
        trainer.train(left, splits, Follower(epoch, snapshot, failure, checkpoint, resumed))
    return told


def _reason(error: Exception) -> str:
    """Why a run failed, in one line."""
    if isinstance(error, GlaucomaError):
        return error.found
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0][:200]}"
