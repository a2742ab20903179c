"""One fold of the cross-validation: warm start, training of the final configuration, scores on `test` and `valid`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_json, write_csv, write_json
from glaucoma.base.interrupts import held
from glaucoma.base.params import Params, Trial
from glaucoma.base.progress import say
from glaucoma.dataset.folds import inner_splits
from glaucoma.dataset.splits import Dataset, Split, contamination, read_clusters
from glaucoma.evaluate.scores import scores
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.batches import Batches, predicted
from glaucoma.model.cut import Cut, cut_of
from glaucoma.model.log_odds import FLIPS, over_flips
from glaucoma.model.runtime import fresh, keras, ready_to_predict
from glaucoma.model.scorer import log_odds, scorer
from glaucoma.train.logistic import fit_regression
from glaucoma.train.outputs import images_per_second, write_rungs, write_training
from glaucoma.train.ranking import best_of, rank
from glaucoma.train.search import Searcher
from glaucoma.train.search_stage import dataset, free_network, likeness, model_card, with_head
from glaucoma.train.trainer import Snapshot

__all__ = ["fill_journal", "train_fold"]

BATCH = 16  # images per inference step
STAGES = ("stage1", "stage2")  # repeated on each fold by `warm_start: fold`


@held()
def train_fold(params: Params, fold: int) -> None:
    """Train the final configuration (top level of params.yaml) on a fold, and write the fold's files.

    Raises:
        DataError: the fold does not exist or is unusable for training.
        TrainingError: the training diverged.
    """
    trainer = _FoldTrainer(params, fold, dataset(params))
    params = trainer.params
    network, seen, snapshot = trainer.train_all()
    splits, final, regression = trainer.splits, trainer.final, params.crossval.model == "regression"
    configuration = params.regression.model_dump() if regression else final.as_dict()

    files = paths.fold_files(fold)
    held_out = {name: splits[name] for name in ("test", "valid")}
    result = {
        name: {
            **scores(split.abnormal, log_odds=snapshot.log_odds[name]),
            **contamination(split, seen, trainer.clusters),
        }
        for name, split in held_out.items()
    }
    of = "regression on frozen features" if regression else str(final)
    stops = final.early_stopping > 0 and not regression
    found = write_training(snapshot, splits["train"], held_out, files["report"], f"fold {fold}", of, stops=stops)
    write_rungs({stage: one.log_odds for stage, one in trainer.rungs.items()}, splits, fold, files["report"])
    write_json(files["metrics"], {"fold": fold, **result, "warnings": len(found)})
    write_csv(files["report"] / "selection.csv", pd.DataFrame(trainer.chosen(configuration)))
    about = {"stage": "crossval", "fold": fold, "configuration": configuration, **result}
    about |= {"model": params.crossval.model, "warm_start": params.crossval.warm_start}
    about |= {"nested": params.search.nested, **likeness(splits["train"])}
    about["warnings"] = [asdict(symptom) for symptom in found]
    card = model_card(params, about, params.crossval.model)
    if params.crossval.flips != "none":
        card["input"] |= {"flips": params.crossval.flips}
    save_model(network, files["model"], card)
    rate = images_per_second(network, trainer.data.pixels, splits["valid"].rows) / len(FLIPS[params.crossval.flips])
    timing = {"seconds": sum(trainer.seconds), "final_seconds": snapshot.seconds, "images_per_second": rate}
    write_json(files["timing"], {**timing, "ladder": trainer.costs(snapshot, rate)})
    shown = "; ".join(f"{name} {_headline(result[name])}" for name in held_out)
    say(f"fold {fold}: {shown}")


@held()
def fill_journal(params: Params, fold: int) -> None:
    """Run the trainings of `train_fold` and write them to the journal only, where `train_fold` later finds them.

    Raises:
        DataError: the fold does not exist or is unusable for training.
        TrainingError: the training diverged.
    """
    _FoldTrainer(params, fold, dataset(params)).train_all()


class _FoldTrainer:
    """Trains single configurations on one fold.

    Attributes:
        final: the fold's final configuration.
        seconds: duration of each training, including those read from the journal.
        winners: the trial of each warm-start stage.
        rungs: the final state of each warm-start stage.
    """

    def __init__(self, params: Params, fold: int, data: Dataset, clusters: Mapping[str, str] | None = None):
        params = params.model_copy(update={"seed": params.seed + params.crossval.seed})
        fresh(params.seed)
        self.params, self.fold, self.data, self.splits = params, fold, data, data.fold(fold)
        self.clusters = read_clusters() if clusters is None else clusters
        self.final = params.final()
        self.seconds: list[float] = []
        self.winners: dict[str, Trial] = {}
        self.rungs: dict[str, Snapshot] = {}

    def train_all(self) -> tuple[keras.Model, Split | None, Snapshot]:
        """Return the trained network, the split whose labels its initial weights saw, and its final snapshot."""
        params = self.params
        network, seen = self.warm_start(self.data.fold(params.search.fold)["train"])
        if params.crossval.model == "regression":
            how = self.data.pixels, self.splits, params.regression, paths.STATE
            network, snapshot = fit_regression(network, params.backbone.name, *how)
            self.seconds.append(snapshot.seconds)
            return network, seen, snapshot
        cut = cut_of("stage3" if params.crossval.model == "final" else params.crossval.model, network, params)
        searcher, snapshot = self.train(cut, self.final, self.splits, "training")
        searcher.take(snapshot)
        return network, seen, self._over_flips(network, snapshot)

    def _over_flips(self, network: keras.Model, snapshot: Snapshot) -> Snapshot:
        """With predictions of what is held out averaged over crossval.flips; of training nothing changes."""
        flips = self.params.crossval.flips
        if flips == "none":
            return snapshot
        score = scorer(network)
        ready_to_predict(score)

        def predict(pixels: np.ndarray) -> np.ndarray:
            batches = Batches([pixels], np.arange(len(pixels)), None, batch_size=BATCH)
            return log_odds(predicted(score, batches))

        held_out = {name: self.data.pixels[self.splits[name].rows] for name in ("test", "valid")}
        found = {name: over_flips(predict, pixels, flips) for name, pixels in held_out.items()}
        return replace(snapshot, log_odds={**snapshot.log_odds, **found})

    def warm_start(self, search_train: Split) -> tuple[keras.Model, Split | None]:
        """Return the network that the fold starts from, and the split whose labels its weights have seen."""
        params = self.params
        if params.crossval.model == "regression":
            return load_model(paths.BACKBONE), None
        if params.crossval.model != "final":
            return free_network(params, params.crossval.model), None
        if params.crossval.warm_start == "stage2":
            return load_model(paths.search_files("stage2")["model"]), search_train
        network = self._untrained()
        if params.crossval.warm_start == "none":
            return network, None
        self.winners = self._nested() if params.search.nested else {stage: _winner(stage) for stage in STAGES}
        for stage, winner in self.winners.items():  # `valid` is predicted at the end; it selects nothing
            searcher, snapshot = self.train(
                cut_of(stage, network, self.params), winner, self.splits, f"warm start, {stage}"
            )
            searcher.take(snapshot)
            self.rungs[stage] = snapshot
        return network, self.splits["train"]

    def chosen(self, final: dict) -> list[dict]:
        """The configuration of each stage of the fold, and the data it was chosen on."""
        fold, search = self.fold, self.params.search
        on = f"fold {fold}, part of train" if search.nested else f"fold {search.fold}, test"
        rows = [{"stage": stage, "chosen_on": on, **trial.as_dict()} for stage, trial in self.winners.items()]
        return [*rows, {"stage": "final", "chosen_on": "params.yaml", **final}]

    def costs(self, final: Snapshot, rate: float) -> dict[str, float]:
        """Cumulative training seconds from the untrained network to each rung.

        Without augmentation, activations of frozen layers are cached, and no training time includes them: one pass of
        the train images through the network, at `rate` images a second, is added instead.
        """
        total, costs = 0.0, {}
        one_pass = len(self.splits["train"]) / rate
        for stage, snapshot in self.rungs.items():
            total += snapshot.seconds + (0.0 if self.params.augment.is_on() else one_pass)
            costs[stage] = total
        frozen = self.params.crossval.model == "regression"
        return {**costs, "final": total + final.seconds + (one_pass if frozen else 0.0)}

    def _nested(self) -> dict[str, Trial]:
        """The best trials of the grids of stages 1 and 2, selected on a hold-out of the fold's train split.

        Stage 2 starts from stage 1's winner as trained on the inner train split: no model has seen the hold-out.
        """
        search, network = self.params.search, self._untrained()
        inner = inner_splits(self.splits["train"], self.clusters, self.params.seed)
        winners = {}
        for stage in STAGES:
            trials = self.params.trials(stage)
            searcher = self._searcher(cut_of(stage, network, self.params), inner, f"selection, {stage}")
            finished = searcher.train(trials)
            table, best = rank(trials, finished, searcher.errors, inner["test"], search.metric, search.miss_cost)
            searcher.take(finished[best])
            self.seconds += [snapshot.seconds for snapshot in finished.values()]
            winners[stage] = best
            say(f"fold {self.fold}, {stage}: {best} is the {best_of(table)} on {len(inner['test'])} images")
        return winners

    def _untrained(self) -> keras.Model:
        return with_head(load_model(paths.BACKBONE), self.params.head, self.params.seed)

    def train(self, cut: Cut, trial: Trial, splits: dict[str, Split], what: str) -> tuple[Searcher, Snapshot]:
        """Train one configuration on the fold, or take it from the journal."""
        searcher = self._searcher(cut, splits, what)
        snapshot = searcher.train([trial])[trial]
        self.seconds.append(snapshot.seconds)
        return searcher, snapshot

    def _searcher(self, cut: Cut, splits: dict[str, Split], what: str) -> Searcher:
        return Searcher(
            cut,
            self.data.pixels,
            splits,
            seed=self.params.seed,
            state=paths.STATE,
            augment=self.params.augment,
            title=f"fold {self.fold}, {what}",
        )


def _headline(found: Mapping[str, float | None]) -> str:
    """The headline metrics: sensitivity, then macro F1."""
    named = {"sensitivity": found["sensitivity"], "macro F1": found["f1_macro"]}
    return ", ".join(f"{name} {'not defined' if value is None else f'{value:.3f}'}" for name, value in named.items())


def _winner(stage: str) -> Trial:
    path: Path = paths.search_files(stage)["metrics"]
    if not path.is_file():
        raise DataError(f"{path} does not exist", f"run `dvc repro {stage}`, which makes it")
    return Trial(**read_json(path)["best"])
