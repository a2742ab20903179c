"""Two models on the same images: paired bootstrap of every score, DeLong's test of the AUROC, McNemar's of accuracy."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import binomtest, norm, rankdata

from glaucoma.base.errors import DataError
from glaucoma.evaluate.intervals import RESAMPLES, independent, resampled
from glaucoma.evaluate.scores import ABNORMAL, SCORES, THRESHOLD, scores
from glaucoma.model.log_odds import averaged_by

__all__ = ["compare", "delong", "mcnemar", "paired"]


def paired(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """The images that both runs predict, each once: a model's several predictions of an image are averaged.

    What is averaged are probabilities, as in an ensemble; see `glaucoma.model.log_odds.averaged`.

    Args:
        first: columns image, label, log_odds and perhaps patient.
        second: the same, of the other run.

    Returns:
        Columns image, patient ("" where unknown), label, first, second (log-odds), sorted by image.

    Raises:
        DataError: no image is common to both, or one has two labels.
    """
    tables = []
    for name, table in (("first", first), ("second", second)):
        table = table.fillna({"patient": ""}) if "patient" in table else table.assign(patient="")
        once = table.groupby("image", sort=True).agg(
            patient=("patient", "max"),  # "" where unknown is least
            label=("label", "first"),
            labels=("label", "nunique"),
        )
        once[name] = averaged_by(table["log_odds"], table["image"])
        if (once["labels"] > 1).any():
            raise DataError(f"{once.index[once['labels'] > 1][0]} has two labels in one run", "look at the audit")
        tables.append(once.drop(columns="labels"))
    both = tables[0].join(tables[1], how="inner", rsuffix="_second")
    if both.empty:
        raise DataError("the two runs have no image in common", "compare runs on the same photographs")
    changed = both["label"] != both["label_second"]
    if changed.any():
        raise DataError(
            f"{int(changed.sum())} images have another label in the second run", "compare runs of one index"
        )
    both["patient"] = both["patient"].where(both["patient"] != "", both["patient_second"])
    return both.reset_index()[["image", "patient", "label", "first", "second"]]


def compare(
    pairs: pd.DataFrame,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
    threshold: float = THRESHOLD,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Every score of both, their difference, its interval, and whether noise explains it.

    Args:
        pairs: as `paired` returns it.
        seed: of the bootstrap's draws.
        resamples: how many; both models are scored in the same ones, drawn over patients.
        threshold: log-odds from which on an image is called abnormal.
        clusters: the photograph of each image that has copies, by content id; copies are drawn as one.

    Returns:
        A row per score: score, first, second, difference (second - first), low, high (95 %, percentile), p (two-sided:
        DeLong for auroc, McNemar for accuracy, else empty), test (`DeLong`, `McNemar` or ``), n, groups. Values are
        empty where a score is not defined. DeLong's and McNemar's tests take images for independent: where groups are
        fewer than n, their p is too small, and the intervals are to be gone by.
    """
    abnormal = (pairs["label"] == ABNORMAL).to_numpy()
    groups = independent(pairs, clusters)
    both = [pairs[name].to_numpy(float) for name in ("first", "second")]
    values = [scores(abnormal, log_odds=x, threshold=threshold) for x in both]
    drawn = [resampled(abnormal, x, groups, seed=seed, resamples=resamples, threshold=threshold) for x in both]
    right = [(x >= threshold) == abnormal for x in both]
    tests = {"accuracy": ("McNemar", mcnemar(*right))}
    if values[0]["auroc"] is not None:
        tests["auroc"] = ("DeLong", delong(abnormal, *both)["p"])
    rows = []
    for name in SCORES:
        one, two = (np.nan if v[name] is None else v[name] for v in values)
        differences = drawn[1][name] - drawn[0][name]
        differences = differences[np.isfinite(differences)]
        low, high = np.quantile(differences, [0.025, 0.975]) if len(differences) and one == one else (np.nan, np.nan)
        test, p = tests.get(name, ("", np.nan))
        rows.append((name, one, two, two - one, low, high, p, test, len(pairs), len(np.unique(groups))))
    return pd.DataFrame(
        rows, columns=["score", "first", "second", "difference", "low", "high", "p", "test", "n", "groups"]
    )


def delong(abnormal: np.ndarray, first: np.ndarray, second: np.ndarray) -> dict[str, float]:
    """DeLong's test of two correlated AUROCs (Biometrics 44:837, 1988), by ranks (Sun & Xu, IEEE SPL 21:1389, 2014).

    Args:
        abnormal: bool, (n,); at least two of each class, or the variance is not defined and p is NaN.
        first: float, (n,); the one model's predictions, of any scale.
        second: float, (n,); the other's.

    Returns:
        first, second: the AUROCs; difference (second - first); se: its standard error; z; p, two-sided: 1 where the
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
    """McNemar's exact test (Psychometrika 12:153, 1947) of whether two models are right equally often.

    Args:
        first: bool, (n,); where the one model is right.
        second: bool, (n,); where the other is.

    Returns:
        Two-sided p; 1 where they are right about the same images.
    """
    only_first, only_second = int(np.sum(first & ~second)), int(np.sum(~first & second))
    total = only_first + only_second
    return float(binomtest(only_first, total).pvalue) if total else 1.0
