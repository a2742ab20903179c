"""Train several heads at once: copies of a small model on the same batches, each with its own optimizer.

A step on a head is all overhead, so eight heads in one step cost little more than one. The heads share only the batch,
so each gives the same result as when trained alone (tested).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext

import numpy as np
import pandas as pd

from glaucoma.base.errors import TrainingError
from glaucoma.dataset.splits import Split
from glaucoma.model.batch_norm import BatchStatistics
from glaucoma.model.batches import Batches, Stoppable, predicted
from glaucoma.model.network import assign, values
from glaucoma.model.optimizers import SideBySide, make_optimizer
from glaucoma.model.runtime import keras, ready_to_predict
from glaucoma.model.scorer import log_odds, scorer
from glaucoma.train.fitting import check_finite, followed_metrics, history_row, statistics_rows
from glaucoma.train.trainer import Follower, Run, Snapshot

__all__ = ["HeadsTrainer"]


class HeadsTrainer:
    """Trains copies of a head, all runs of a call together; the runs must share batch size and options.

    Args:
        head: (batch, features) → (batch, 2); its current values are the start of every run.
        features: float32 (images, features).
        seed: determines data order; dropout depends on the states of the head's generators.
    """

    def __init__(self, head: keras.Model, features: np.ndarray, seed: int):
        self.head, self.features, self.seed = head, features, seed
        self.variables = head.variables
        self.start = values(self.variables)

    def train(self, runs: Sequence[Run], splits: Mapping[str, Split], follower: Follower) -> None:
        """Train runs on `train` and score `test` every epoch; all splits are predicted at each snapshot."""
        batch_size, precise = runs[0][-1].batch_size, runs[0][-1].precise_bn
        at = [{trial.epochs: trial for trial in run} for run in runs]
        ends = [run[-1].epochs for run in runs]
        train, test = splits["train"], splits["test"]
        heads, model, scored = self._copies(runs)
        statistics = BatchStatistics(model) if precise else None
        rows: list[list[dict[str, float]]] = [[] for _ in runs]
        going = set(range(len(runs)))
        begin = time.perf_counter()

        def look(*, whole: bool) -> tuple[dict[str, list[np.ndarray]], list[list[np.ndarray]]]:
            """The log-odds of test only, or of all splits and the weights; each by head."""
            rows = statistics_rows(train, self.seed, whole=whole)
            batches = Batches([self.features], rows, None, batch_size=batch_size)
            with statistics.of(batches) if statistics is not None else nullcontext():
                due = splits if whole else {"test": test}
                predicted = {name: self._log_odds(scored, split, batch_size) for name, split in due.items()}
                return predicted, [values(head.variables) for head in heads] if whole else []

        def epoch_end(epoch: int, logs: dict[str, float]) -> None:
            due = any(epoch + 1 in at[i] for i in going)
            last = all(epoch + 1 == ends[i] for i in going)
            whole = due and (last or not precise)
            followed, _ = found = look(whole=whole)
            predicted, weights = look(whole=True) if due and not whole else found
            seconds = (time.perf_counter() - begin) / len(runs)
            for i in sorted(going):
                run = runs[i]
                own = _own_logs(logs, heads[i].name) if len(heads) > 1 else logs
                rows[i].append(history_row(epoch, own, test, log_odds=followed["test"][i]))
                try:
                    check_finite(run[-1], rows[i][-1])
                except TrainingError as error:
                    going.remove(i)
                    follower.failure(run, error)
                    continue
                follower.epoch(run, rows[i][-1])
                if trial := at[i].get(epoch + 1):
                    reached = {name: found[i] for name, found in predicted.items()}
                    history = pd.DataFrame([*rows[i][:-1], history_row(epoch, own, test, log_odds=reached["test"])])
                    follower.snapshot(trial, Snapshot(epoch + 1, weights[i], reached, history, seconds))
                if epoch + 1 == ends[i]:
                    going.remove(i)
            model.stop_training = not going

        model.fit(
            self._batches(train, batch_size, outputs=len(runs), seed=self.seed),
            epochs=max(ends),
            shuffle=False,
            verbose=0,
            callbacks=[Stoppable(), keras.callbacks.LambdaCallback(on_epoch_end=epoch_end)],
        )

    def _copies(self, runs: Sequence[Run]) -> tuple[list[keras.Model], keras.Model, keras.Model]:
        """A copy of the head for each run, a compiled model of all copies, and a model of their scorers."""
        inputs = keras.Input(self.head.input_shape[1:], dtype="float32")
        heads = []
        for i in range(len(runs)):
            copy = keras.models.clone_model(self.head)
            heads.append(keras.Model(copy.inputs, copy.outputs[0], name=f"head{i}"))
        model = keras.Model(inputs, [head(inputs) for head in heads])
        scored = keras.Model(inputs, [scorer(head)(inputs) for head in heads])
        for head in heads:  # after building the graphs, which advances dropout's generators on torch
            assign(head.variables, self.start)
        optimizers = [make_optimizer(run[-1].optimizer, run[-1].lr) for run in runs]
        model.compile(
            optimizer=SideBySide(optimizers, [head.trainable_variables for head in heads]),
            loss=[keras.losses.BinaryCrossentropy() for _ in runs],
            metrics=[followed_metrics() for _ in runs],
        )
        ready_to_predict(scored)
        return heads, model, scored

    def _log_odds(self, scored: keras.Model, split: Split, batch_size: int) -> list[np.ndarray]:
        found = predicted(scored, self._batches(split, batch_size, labelled=False))
        found = found if isinstance(found, list) else [found]
        return [log_odds(one) for one in found]

    def _batches(
        self, split: Split, size: int, *, labelled: bool = True, outputs: int = 1, seed: int | None = None
    ) -> Batches:
        labels = split.abnormal if labelled else None
        return Batches([self.features], split.rows, labels, batch_size=size, seed=seed, outputs=outputs)


def _own_logs(logs: Mapping[str, float], head: str) -> dict[str, float]:
    """The logs of one head: `head3_loss` becomes `loss`."""
    return {name.removeprefix(f"{head}_"): value for name, value in logs.items() if name.startswith(f"{head}_")}
