"""Labels that are worth a second look, by confident learning on predictions that never saw the label (out of fold)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.special import expit

from glaucoma.evaluate.intervals import independent
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.model.log_odds import averaged_by

__all__ = ["NEIGHBOURS", "label_issues", "neighbours"]

BOTH = (NORMAL, ABNORMAL)
NEIGHBOURS, NEAREST = 5, 2  # that are asked, and that are named
AT_ONCE = 512  # rows of distances in memory at a time
COLUMNS = ["rank", "image", "patient", "label", "suggested", "probability", "source", "predictions"]


def label_issues(sources: Mapping[str, pd.DataFrame], near: pd.DataFrame | None = None) -> pd.DataFrame:
    """Every image by how little its label is believed, least first (Northcutt et al., JAIR 70:1373, 2021).

    An image counts as a class if its probability of it is at least what images labelled so have on the mean; the more
    probable of two. One that counts as the other class than its label's is an issue. The order is that of the
    probability of the label (their self-confidence). With 5 % of the synthetic sample's labels flipped, 83 % of them
    stand among the first 10 % (8 draws, 62 % at least; regression on frozen features); votes of neighbours find 50 %,
    and worsen the order when mixed in, so neighbours are only shown.

    Args:
        sources: by model, its out-of-fold predictions of any splits but train: columns image, label, log_odds and
            perhaps patient. That with the lowest log loss is taken; of an image, the mean of its probabilities.
        near: as `neighbours` gives it.

    Returns:
        A row per image: rank (from 1), image, patient ("" where unknown), label, suggested (the other class where the
        label is an issue, else ""), probability (of the label), source, predictions (how many were averaged); with
        `near` also neighbours_agree (the share of the nearest five with the same label) and nearest (content ids of
        two, space between).
    """
    found = {name: _averaged(table) for name, table in sources.items() if len(table)}
    if not found:
        return pd.DataFrame(columns=COLUMNS)
    losses = {name: float(-np.log(np.maximum(table["probability"], 1e-12)).mean()) for name, table in found.items()}
    source = min(losses, key=losses.__getitem__)
    table = found[source].assign(source=source)
    of_class = {name: np.where(table["label"] == name, table["probability"], 1 - table["probability"]) for name in BOTH}
    if table["label"].nunique() == 2:
        sure = {name: values[table["label"] == name].mean() for name, values in of_class.items()}
        sure = {name: np.where(values >= sure[name], values, -1.0) for name, values in of_class.items()}
        counted = np.where(sure[ABNORMAL] >= sure[NORMAL], ABNORMAL, NORMAL)
        counted = np.where(np.maximum(*sure.values()) < 0, table["label"], counted)
        table["suggested"] = np.where(counted != table["label"], counted, "")
    else:
        table["suggested"] = ""
    table = table.sort_values(["probability", "image"], ignore_index=True)
    table["rank"] = np.arange(1, len(table) + 1)
    return table[COLUMNS] if near is None or near.empty else _beside(table[COLUMNS], near)


def neighbours(
    features: np.ndarray, images: pd.DataFrame, clusters: Mapping[str, str] | None = None, most: int = NEIGHBOURS
) -> pd.DataFrame:
    """The photographs nearest to each in feature space, by cosine, but for those of its patient and its copies.

    Args:
        features: float (images, features), standardised here.
        images: a row per image in the same order: image and perhaps patient.
        clusters: the photograph of each image that has copies, by content id.
        most: how many of each.

    Returns:
        Columns image, nth (from 1), neighbour, distance (1 - cosine, 0 to 2).
    """
    values = np.asarray(features, np.float64)
    spread = values.std(axis=0)
    values = (values - values.mean(axis=0)) / np.where(spread > 0, spread, 1)
    values /= np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-12)
    groups, names, rows = independent(images, clusters), images["image"].to_numpy(), []
    for start in range(0, len(values), AT_ONCE):
        distances = 1 - values[start : start + AT_ONCE] @ values.T
        distances[groups[start : start + AT_ONCE, None] == groups] = np.inf
        order = np.argsort(distances, axis=1, kind="stable")[:, :most]
        for i, nearest in enumerate(order):
            kept = [(nth, j) for nth, j in enumerate(nearest, 1) if np.isfinite(distances[i, j])]
            rows += [(names[start + i], nth, names[j], round(float(distances[i, j]), 6)) for nth, j in kept]
    return pd.DataFrame(rows, columns=["image", "nth", "neighbour", "distance"])


def _averaged(table: pd.DataFrame) -> pd.DataFrame:
    """One row per image: image, patient, label, probability (of the label), predictions."""
    table = table.assign(patient="") if "patient" not in table else table.fillna({"patient": ""})
    mean = averaged_by(table["log_odds"], table["image"])
    once = table.groupby("image", sort=True).agg(
        patient=("patient", "max"), label=("label", "first"), predictions=("label", "size")
    )
    once["probability"] = expit(np.where(once["label"] == ABNORMAL, 1, -1) * mean.loc[once.index].to_numpy())
    return once.reset_index()


def _beside(table: pd.DataFrame, near: pd.DataFrame) -> pd.DataFrame:
    """With the nearest photographs of each image and how many of them agree."""
    labels = table.set_index("image")["label"]
    near = near[near["neighbour"].isin(labels.index) & near["image"].isin(labels.index)].sort_values(["image", "nth"])
    agree = near["neighbour"].map(labels) == near["image"].map(labels)
    return table.assign(
        neighbours_agree=table["image"].map(agree.groupby(near["image"]).mean()),
        nearest=table["image"].map(near[near["nth"] <= NEAREST].groupby("image")["neighbour"].agg(" ".join)).fillna(""),
    )
