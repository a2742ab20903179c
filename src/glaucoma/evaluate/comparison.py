"""Compare two runs on the same images: means over folds, paired bootstrap, DeLong's and McNemar's tests."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm, rankdata

from glaucoma.base.errors import DataError, shown
from glaucoma.evaluate.intervals import RESAMPLES, arrays
from glaucoma.evaluate.over_folds import differences
from glaucoma.evaluate.scores import ABNORMAL, NORMAL, THRESHOLD
from glaucoma.model.log_odds import averaged_by

__all__ = ["compare", "delong", "mcnemar", "paired", "withheld"]


ROWS = ["fold", "image", "patient", "label", "log_odds"]


def paired(first: pd.DataFrame, second: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The predictions of two runs for their shared images.

    If the runs have folds in common, with the same shared images in each, only these folds are kept, so that the two
    models of a fold are compared on the same images. Otherwise each run keeps its own folds; a run without a column
    fold is one fold. Several predictions of an image in one fold are averaged as probabilities: see
    `glaucoma.model.log_odds.averaged`.

    Args:
        first: columns image, label, log_odds and optionally fold and patient.
        second: the same for the other run.

    Returns:
        The rows of the first and of the second run: columns fold, image, patient ("" if unknown), label, log_odds,
        sorted by fold and image.

    Raises:
        DataError: a label is neither `normal` nor `abnormal`, an image has two labels, or the runs share no image.
    """
    tables = [_once(table, name) for table, name in ((first, "first"), (second, "second"))]
    labels = [table.drop_duplicates("image").set_index("image")["label"] for table in tables]
    both = labels[0].index.intersection(labels[1].index)
    if both.empty:
        raise DataError("the two runs have no image in common", "compare runs on the same photographs")
    if changed := int((labels[0][both] != labels[1][both]).sum()):
        raise DataError(f"{changed} images have another label in the second run", "compare runs of one index")
    folds = set(tables[0]["fold"]) & set(tables[1]["fold"])
    alike = [table[table["fold"].isin(folds)] for table in tables]
    shared = set(alike[0]["image"]) & set(alike[1]["image"])
    alike = [table[table["image"].isin(shared)].reset_index(drop=True) for table in alike]
    if shared and alike[0][["fold", "image"]].equals(alike[1][["fold", "image"]]):
        return alike[0], alike[1]
    own = [table[table["image"].isin(both)].reset_index(drop=True) for table in tables]
    return own[0], own[1]


def _once(table: pd.DataFrame, name: str) -> pd.DataFrame:
    """Columns `ROWS`, a row per fold and image; raises DataError for invalid labels."""
    table = table.assign(**{column: "" for column in ("fold", "patient") if column not in table})
    table = table.fillna({"patient": ""})
    if unknown := sorted(set(table["label"].astype(str)) - {NORMAL, ABNORMAL}):
        what = f"the {name} run has labels other than {NORMAL} and {ABNORMAL}: {', '.join(map(shown, unknown[:5]))}"
        raise DataError(what, f"name the classes {NORMAL} and {ABNORMAL} in the column label")
    twice = table.groupby("image")["label"].nunique()
    if (twice > 1).any():
        raise DataError(f"{twice.index[twice > 1][0]} has two labels in the {name} run", "look at the audit")
    keys = pd.Series(list(zip(table["fold"], table["image"], strict=True)), index=table.index)
    mean = averaged_by(table["log_odds"], keys)
    once = table.groupby(["fold", "image"], sort=True).agg(patient=("patient", "max"), label=("label", "first"))
    once = once.reset_index()  # min of patients: "" (unknown) sorts first
    return once.assign(log_odds=mean.loc[list(zip(once["fold"], once["image"], strict=True))].to_numpy())[ROWS]


def compare(
    first: pd.DataFrame,
    second: pd.DataFrame,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """The mean over folds of every score of both runs, with the difference and its interval.

    Args:
        first: from `paired`.
        second: the same for the other run, on the same images.
        seed: of the bootstrap.
        resamples: number of resamples, drawn over patients; the same ones for both runs.
        clusters: the photograph of each image that has copies, by content id; copies are drawn together.

    Returns:
        A row per score: score, first, second, difference (second - first), low, high (95 %), p (two-sided:
        DeLong for auroc, McNemar for accuracy, else empty), test (`DeLong`, `McNemar` or ``), withheld (why a test
        gives no p: see `withheld`), n (images), groups, resamples (in which both runs' scores are defined). Values
        are empty where a score is not defined.
    """
    found = differences(first, second, seed=seed, resamples=resamples, clusters=clusters)
    found["n"] = first["image"].nunique()
    why = withheld(first, second, int(found["groups"].iat[0]))
    found["p"] = np.nan
    found["test"] = found["score"].map({"accuracy": "McNemar", "auroc": "DeLong"}).fillna("")
    found["withheld"] = np.where(found["test"] != "", why, "")
    if not why:
        abnormal, one = arrays(first)
        two = second["log_odds"].to_numpy(float)
        p = {"McNemar": mcnemar(*((x >= THRESHOLD) == abnormal for x in (one, two)))}
        if abnormal.any() and not abnormal.all():
            p["DeLong"] = delong(abnormal, one, two)["p"]
        found["p"] = found["test"].map(p).astype(float)
    values = ["score", "first", "second", "difference", "low", "high", "p", "test", "withheld"]
    return found[[*values, "n", "groups", "resamples"]]


def withheld(first: pd.DataFrame, second: pd.DataFrame, groups: int) -> str:
    """Why DeLong's and McNemar's tests give no p; "" if they do. They assume one model per run and independent images.

    Args:
        first: from `paired`.
        second: the same for the other run.
        groups: number of independent patients or photographs among the images.
    """
    folds = max(first["fold"].nunique(), second["fold"].nunique())
    if folds > 1:
        return f"{folds} folds are {folds} models, whose predictions cannot be ranked together"
    images = first["image"].nunique()
    return f"{images} images are of {groups} patients or photographs" if groups < images else ""


def delong(abnormal: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """DeLong's test of two correlated AUROCs (Biometrics 44:837, 1988), by ranks (Sun & Xu, IEEE SPL 21:1389, 2014).

    Args:
        abnormal: bool, (n,); at least two of each class, or the variance is not defined and p is NaN.
        first: float, (n,); the first model's predictions, on any scale.
        second: float, (n,); the second model's.

    Returns:
        first, second: the AUROCs; difference (second - first); se: its standard error; z; p, two-sided: 1 if the
        difference and its error are both 0.
    """
    m, n = int(abnormal.sum()), int((~abnormal).sum())
    aurocs, by_abnormal, by_normal = [], [], []
    for predicted in (first, second):
        ranks = rankdata(np.concatenate([predicted[abnormal], predicted[~abnormal]]))
        own = rankdata(predicted[abnormal]), rankdata(predicted[~abnormal])
        by_abnormal.append((ranks[:m] - own[0]) / n)
        by_normal.append(1 - (ranks[m:] - own[1]) / m)
        aurocs.append(float(by_abnormal[-1].mean()))
    difference = aurocs[1] - aurocs[0]
    if min(m, n) < 2:
        se = float("nan")
    else:
        parts = [np.var(part[1] - part[0], ddof=1) / len(part[0]) for part in (by_abnormal, by_normal)]
        se = float(np.sqrt(sum(parts)))
    z = difference / se if se > 0 else (0.0 if difference == 0 and se == 0 else float("nan"))
    p = float(2 * norm.sf(abs(z)))
    return {"first": aurocs[0], "second": aurocs[1], "difference": difference, "se": se, "z": z, "p": p}


def mcnemar(first: np.ndarray, second: np.ndarray) -> float:
    """McNemar's exact test (Psychometrika 12:153, 1947) of whether two models have the same accuracy.

    Args:
        first: bool, (n,); whether the first model is correct.
        second: bool, (n,); whether the second is.

    Returns:
        Two-sided p; 1 if they are correct on the same images.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    total = only_first + only_second
    return float(binomtest(only_first, total).pvalue) if total else 1.0
