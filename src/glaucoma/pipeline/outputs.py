"""What a training leaves for people: curves, predictions, classification report, confusion matrix."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glaucoma.data.splits import Split
from glaucoma.evaluate.scores import classification_report, confusion, predictions_table
from glaucoma.files import write_csv
from glaucoma.report.training import confusion_figure, learning_curves
from glaucoma.search.training import Snapshot

__all__ = ["write_training"]


def write_training(snapshot: Snapshot, splits: dict[str, Split], folder: Path, title: str) -> None:
    """Write a training's history and its predictions, with their tables and figures, into `folder`.

    Args:
        snapshot: what the training ended with.
        splits: the splits to report on; `predictions.csv` holds them all (image, patient, source, split, label,
            predicted, probability of abnormal), the other tables are one per split.
        folder: where the files go.
        title: of the figures.
    """
    write_csv(folder / "history.csv", snapshot.history)
    learning_curves(snapshot.history, folder / "curves.png", title)
    tables = []
    for name, split in splits.items():
        abnormal, probability = split.abnormal, snapshot.probability[name]
        table = predictions_table(split.images, abnormal, probability)
        nowhere = [""] * len(split)
        about = {"patient": split.patients or nowhere, "source": split.sources or nowhere, "split": name}
        for place, (column, values) in enumerate(about.items(), start=1):
            table.insert(place, column, values)
        tables.append(table)
        report = classification_report(abnormal, probability)
        write_csv(folder / f"report_{name}.csv", report.rename_axis("class").reset_index())
        counts = confusion(abnormal, probability)
        write_csv(folder / f"confusion_{name}.csv", counts.rename_axis(columns=None).reset_index())
        confusion_figure(counts, folder / f"confusion_{name}.png", f"{title}: {name}")
    write_csv(folder / "predictions.csv", pd.concat(tables))
