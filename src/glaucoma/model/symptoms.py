"""Detect failed trainings: the same answer for every image, or a saved network worse than the trained one.

The rules, limits and wording are defined here only; the page, the commands and the sidecars repeat them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.base.errors import many
from glaucoma.base.files import read_csv
from glaucoma.base.index import THRESHOLD

__all__ = ["FILE", "Symptom", "first_line", "read_symptoms", "symptoms", "symptoms_of", "symptoms_table"]

FILE = "warnings.csv"  # in the folder of each training's report

# Calibrated log-odds with standard deviation s have an AUROC of about Φ(s / √2): 0.1 gives 0.53, hardly above chance,
# and probabilities of, say, 0.475 to 0.525. With less variation, the answer is the same for every image.
LEAST_SPREAD = 0.1
# A classifier with a recall of one half misses all of five images of a class by chance in 1 of 32 cases.
LEAST_OF_A_CLASS = 5
# One train image in ten wrong as saved but right in training; for small splits, three standard errors.
# Dropout and augmentation lower the training accuracy, so without a fault the gap is below zero.
LARGEST_GAP, ERRORS = 0.1, 3
KNOWN = 0.9  # train accuracy from which the network counts as overfitted
UNEQUAL = 0.75  # share of the larger class from which predicting it for every image pays off

SAYS = {
    "worse_as_saved": "scores its train images far worse as saved than in training",
    "same_answer": "answers almost the same for every photograph",
    "one_class": "calls every photograph the same",
}
STATISTICS = (
    "the batch statistics that were saved do not fit the weights",
    "set fit.precise_bn to true, or train for more epochs",
)
TOO_FAST = ("the learning rate was too high: the loss rose", "lower lr")
BY_HEART = ("the network has memorised the train images", "train for fewer epochs, or set augment")
FOR_THE_LARGER = ("the classes are imbalanced", "set fit.class_weight to balanced")
TOO_LITTLE = (
    "the network is undertrained: learning rate too low, too few epochs, or random initial weights",
    "raise lr or epochs, or name pretrained weights in backbone.weights",
)


@dataclass(frozen=True)
class Symptom:
    """A sign that a network is useless.

    Attributes:
        warning: its name, a key of `SAYS`.
        value: the measure that is out of bounds: standard deviation of the log-odds, share of images with the same
            predicted class, or the drop of the accuracy on the train split.
        found: the observation, as a clause.
        cause: the likely cause.
        remedy: what to do.
    """

    warning: str
    value: float
    found: str
    cause: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.found}; probably {self.cause}: {self.remedy}"


def symptoms(
    abnormal: np.ndarray,
    log_odds: np.ndarray,
    *,
    train: tuple[np.ndarray, np.ndarray] | None = None,
    history: pd.DataFrame | None = None,
    epoch: int | None = None,
) -> list[Symptom]:
    """The symptoms of a network, from its predictions; empty if there are none.

    Three signs: the saved network scores the train split far worse than in training (`worse_as_saved`); the log-odds
    hardly vary (`same_answer`); images of both classes are all assigned to one (`one_class`).

    Args:
        abnormal: bool, (n,); labels of images that were not trained on.
        log_odds: float, (n,); the network's ln(p / (1 - p)) of the probability of abnormal for them.
        train: the same two for the train split or part of it, predicted by the saved network.
        history: a row per epoch: epoch, loss and accuracy (of the train split, in training mode).
        epoch: the epoch of the saved weights; the last by default.
    """
    found = _worse_as_saved(*train, history, epoch) if train and history is not None else []
    spread, n = float(np.std(log_odds)) if len(log_odds) else np.nan, len(log_odds)
    of_class = min(int(abnormal.sum()), int((~abnormal).sum()))
    called = np.asarray(log_odds) >= THRESHOLD
    if n >= 2 * LEAST_OF_A_CLASS and spread < LEAST_SPREAD:
        seen = f"the standard deviation of its log-odds is {spread:.2g} over {n} images"
        found.append(("same_answer", spread, seen))
    elif of_class >= LEAST_OF_A_CLASS and (called.all() or not called.any()):
        found.append(("one_class", 1.0, f"{'abnormal' if called.all() else 'normal'}, all {n} of both classes"))
    if not found:
        return []
    cause, remedy = _cause([name for name, *_ in found], abnormal, train, history)
    return [Symptom(name, value, f"{SAYS[name]} ({seen})", cause, remedy) for name, value, seen in found]


def symptoms_table(named: Mapping[str, Sequence[Symptom]]) -> pd.DataFrame:
    """The symptoms of trainings, by name, as a table: columns of (the name), warning … remedy."""
    rows = [(name, *astuple(one)) for name, found in named.items() for one in found]
    return pd.DataFrame(rows, columns=["of", *(field.name for field in fields(Symptom))])


def read_symptoms(files: Iterable[Path]) -> pd.DataFrame:
    """Read and concatenate such tables; missing files are skipped."""
    tables = [read_csv(file) for file in files if file.is_file()]
    return pd.concat([one for one in tables if len(one)] or [symptoms_table({})], ignore_index=True)


def symptoms_of(card: Mapping[str, Any]) -> list[Symptom]:
    """The symptoms under `warnings` in a model card; empty if there are none or another program wrote the card."""
    try:
        found = [Symptom(**one) for one in card.get("warnings", ())]
    except TypeError:
        return []
    return [one for one in found if one.warning in SAYS]


def first_line(table: pd.DataFrame, count: int, noun: str = "fold") -> str:
    """One line of warnings to show before any score; empty if there are none.

    Args:
        table: from `symptoms_table`. Trainings named `fold 0`, `fold 1` and so on are counted, not listed.
        count: number of folds.
        noun: the counted unit, if not folds.
    """
    told = []
    for name, says in SAYS.items():
        part = table[table["warning"] == name]
        if part.empty:
            continue
        counted = part["of"].str.startswith(f"{noun} ")
        who = list(part.loc[~counted, "of"])
        who += [f"{counted.sum()} of {many(count, noun)}"] if counted.any() else []
        cause, remedy = part.groupby(["cause", "remedy"], sort=True).size().idxmax()
        told.append(f"{', '.join(who)}: {says}; probably {cause}: {remedy}.")
    return " ".join(told)


def _worse_as_saved(
    abnormal: np.ndarray, log_odds: np.ndarray, history: pd.DataFrame, epoch: int | None
) -> list[tuple[str, float, str]]:
    """The symptom, its value and description, if the accuracy gap between training and saved network is too large."""
    row = history.iloc[-1] if epoch is None else history.set_index("epoch").loc[epoch]
    now = float(np.mean((log_odds >= THRESHOLD) == abnormal))
    loss = float(np.logaddexp(0, np.where(abnormal, -log_odds, log_odds)).mean())
    then = float(row["accuracy"])
    allowed = max(LARGEST_GAP, ERRORS * np.sqrt(then * (1 - then) / len(abnormal)))
    if then - now <= allowed or loss <= row["loss"]:
        return []
    return [("worse_as_saved", then - now, f"accuracy {then:.3f} in training, {now:.3f} as saved")]


def _cause(
    names: Sequence[str],
    abnormal: np.ndarray,
    train: tuple[np.ndarray, np.ndarray] | None,
    history: pd.DataFrame | None,
) -> tuple[str, str]:
    """The likely cause and the remedy."""
    if "worse_as_saved" in names:
        return STATISTICS
    if history is not None and len(history) > 1:
        first, last = history["loss"].iloc[[0, -1]]
        if last > max(first, np.log(2)):
            return TOO_FAST
    if "one_class" in names:
        if train and np.mean((train[1] >= THRESHOLD) == train[0]) >= KNOWN:
            return BY_HEART
        if max(abnormal.mean(), 1 - abnormal.mean()) >= UNEQUAL:
            return FOR_THE_LARGER
    return TOO_LITTLE
