"""What a training leaves for people: warnings, curves, predictions, classification report, confusion matrix."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.data.splits import Split
from glaucoma.evaluate.scores import classification_report, confusion, predictions_table
from glaucoma.evaluate.symptoms import FILE, Symptom, symptoms, symptoms_table
from glaucoma.files import write_csv
from glaucoma.progress import say
from glaucoma.report.training import confusion_figure, learning_curves
from glaucoma.search.training import Snapshot

__all__ = ["write_training"]


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
    """Write a training's history and its predictions, with their tables and figures, into `folder`.

    What speaks against the network is said at once, and is warnings.csv.

    Args:
        snapshot: what the training ended with.
        train: the split that was learnt from.
        splits: the splits to report on; `predictions.csv` holds them all (image, patient, source, split, label,
            predicted, probability and log_odds of abnormal), the other tables are one per split.
        folder: where the files go.
        name: of the training, such as `stage1` or `fold 3`.
        what: was trained; both are the title of the figures and of what is said.
        stops: whether the weights are those of the epoch with the lowest test loss, and not of the last.

    Returns:
        What speaks against the network.
    """
    title = f"{name}, {what}"
    found = _symptoms(snapshot, train, splits, stops)
    for symptom in found:
        say(f"WARNING: {title}: {symptom}")
    write_csv(folder / FILE, symptoms_table({name: found}))
    write_csv(folder / "history.csv", snapshot.history)
    learning_curves(snapshot.history, folder / "curves.png", title)
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
        confusion_figure(counts, folder / f"confusion_{name}.png", f"{title}: {name}")
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
