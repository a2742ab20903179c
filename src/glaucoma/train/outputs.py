"""Write a training's warnings, history, predictions and tables; measure prediction speed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.base.files import write_csv
from glaucoma.base.progress import say
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import classification_report, confusion, predictions_table
from glaucoma.model.batches import Batches
from glaucoma.model.runtime import keras, ready_to_predict
from glaucoma.model.symptoms import FILE, Symptom, symptoms, symptoms_table
from glaucoma.train.trainer import Snapshot

__all__ = ["images_per_second", "write_rungs", "write_training"]

LADDER = ["rung", "fold", "split", "image", "patient", "label", "predicted", "probability", "log_odds"]
BATCH, MEASURED = 16, 32  # images per batch and per measurement


def write_training(
    snapshot: Snapshot,
    train: Split,
    splits: dict[str, Split],
    folder: Path,
    name: str,
    what: str,
    *,
    stops: bool = False,
) -> list[Symptom]:
    """Write a training's history, predictions and their tables into `folder`; the report draws them.

    Warnings about the network are printed and written to warnings.csv.

    Args:
        snapshot: the final state of the training.
        train: the train split.
        splits: the splits to report on; `predictions.csv` holds them all (image, patient, source, split, label,
            predicted, probability and log_odds of abnormal), the other tables are one per split.
        folder: folder of the files.
        name: of the training, such as `stage1` or `fold 3`.
        what: the configuration; the printed warnings start with both.
        stops: whether the weights are those of the epoch with the lowest test loss instead of the last.

    Returns:
        The warnings.
    """
    title = f"{name}, {what}"
    found = _symptoms(snapshot, train, splits, stops)
    for symptom in found:
        say(f"WARNING: {title}: {symptom}")
    write_csv(folder / FILE, symptoms_table({name: found}))
    write_csv(folder / "history.csv", snapshot.history)
    tables = []
    for name, split in splits.items():
        abnormal, log_odds = split.abnormal, snapshot.log_odds[name]
        table = predictions_table(split.images, abnormal, log_odds=log_odds)
        nowhere = [""] * len(split)
        about = {"patient": split.patients or nowhere, "source": split.sources or nowhere, "split": name}
        for place, (column, values) in enumerate(about.items(), start=1):
            table.insert(place, column, values)
        tables.append(table)
        report = classification_report(abnormal, log_odds=log_odds)
        write_csv(folder / f"report_{name}.csv", report.rename_axis("class").reset_index())
        counts = confusion(abnormal, log_odds=log_odds)
        write_csv(folder / f"confusion_{name}.csv", counts.rename_axis(columns=None).reset_index())
    write_csv(folder / "predictions.csv", pd.concat(tables))
    return found


def _symptoms(snapshot: Snapshot, train: Split, splits: dict[str, Split], stops: bool) -> list[Symptom]:
    history = snapshot.history
    epoch = int(history["epoch"][history["test_loss"].idxmin()]) if stops else None
    return symptoms(
        np.concatenate([split.abnormal for split in splits.values()]),
        np.concatenate([snapshot.log_odds[name] for name in splits]),
        train=(train.abnormal, snapshot.log_odds["train"]),
        history=history,
        epoch=epoch,
    )


def write_rungs(
    rungs: Mapping[str, Mapping[str, np.ndarray]], splits: Mapping[str, Split], fold: int, folder: Path
) -> None:
    """Write `ladder.csv` into `folder`: the predictions of each rung for `test` and `valid`, for the summary.

    Args:
        rungs: by rung and split, float64 (n,), the log-odds of abnormal; if empty, the table has no rows.
        splits: those of the fold.
        fold: its number.
        folder: folder of the file.
    """
    tables = [pd.DataFrame(columns=LADDER)]
    for rung, log_odds in rungs.items():
        for name in ("test", "valid"):
            split = splits[name]
            table = predictions_table(split.images, split.abnormal, log_odds=log_odds[name])
            patients = list(split.patients or [""] * len(split))
            tables.append(table.assign(rung=rung, fold=fold, split=name, patient=patients)[LADDER])
    write_csv(folder / "ladder.csv", pd.concat(tables[1:] or tables, ignore_index=True))


def images_per_second(network: keras.Model, pixels: np.ndarray, rows: np.ndarray) -> float:
    """Measure how many images a second a network predicts from decoded pixels, after a warm-up.

    Args:
        network: takes float32 (batch, size, size, 3).
        pixels: uint8 (images, size, size, 3).
        rows: int (n,), which images; repeated or cut to 32.
    """
    ready_to_predict(network)
    chosen = np.resize(rows, MEASURED)
    network.predict(Batches([pixels], chosen[:BATCH], None, batch_size=BATCH), verbose=0)
    begin = time.perf_counter()
    network.predict(Batches([pixels], chosen, None, batch_size=BATCH), verbose=0)
    return MEASURED / (time.perf_counter() - begin)
