"""What a model is good for: operating points, predictive values by prevalence, net benefit, and how surely known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import brentq
from scipy.special import expit, logit

from glaucoma.base.confidence import auroc_interval, difference_interval, wilson_interval
from glaucoma.evaluate.agreement import clustered_mean
from glaucoma.evaluate.intervals import independent
from glaucoma.evaluate.scores import ABNORMAL, NORMAL, checked

__all__ = ["MARGIN", "PREVALENCES", "miss_range", "net_benefit", "operating_points", "precision", "predictive_values"]

RATES = ("sensitivity", "specificity")
PREVALENCES = (0.01, 0.02, 0.035, 0.05, 0.1, 0.2, 0.3, 0.5)  # 3.5 % of people from 40 to 80 (Tham et al., 2014)
MARGIN = 0.03  # that reviewers ask scores to be known to
STEPS = 21  # thresholds of the range


def operating_points(
    predictions: pd.DataFrame, found: Mapping[str, Any], clusters: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Sensitivity and specificity on `valid` of each rule's thresholds, chosen fold by fold on `test`.

    Args:
        predictions: columns fold, split, image, label, log_odds and perhaps patient.
        found: as `glaucoma.evaluate.decisions.decisions` gives it.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per rule: rule, then of sensitivity and of specificity the value, `_low`, `_high` (95 %, Wilson's with the
        number of independent cases that has its variance) and `_cases`, that number; empty where not defined.
    """
    valid, rows = predictions[predictions["split"] == "valid"], []
    for rule in next(iter(found["folds"].values()))["thresholds"]:
        limits = {int(fold): entry["thresholds"][rule] for fold, entry in found["folds"].items()}
        part = valid[valid["fold"].isin([fold for fold, limit in limits.items() if limit is not None])]
        abnormal = (part["label"] == ABNORMAL).to_numpy()
        called = part["log_odds"].to_numpy(float) >= part["fold"].map(limits).to_numpy(float)
        row: dict[str, Any] = {"rule": rule}
        for name, of in zip(RATES, (abnormal, ~abnormal), strict=True):
            row |= _rate(name, (called == abnormal)[of], part[of], clusters)
        rows.append(row)
    return pd.DataFrame(rows)


def _rate(name: str, right: np.ndarray, part: pd.DataFrame, clusters: Mapping[str, str] | None) -> dict[str, float]:
    ends = ["", "_low", "_high", "_cases"]
    if not len(right):
        return {name + end: np.nan for end in ends}
    groups = np.unique(independent(part, clusters), return_inverse=True)[1]
    value, count = float(right.mean()), int(groups.max()) + 1
    cases = float(count)
    if 0 < value < 1 and count > 1:
        sums = np.bincount(groups, (right - value) / len(right))
        variance = float((sums**2).sum())
        cases = float(np.clip(value * (1 - value) / variance, 1, count)) if variance > 0 else cases
    found = (value, *wilson_interval(value, cases), cases)
    return {name + end: number for end, number in zip(ends, found, strict=True)}


def predictive_values(points: pd.DataFrame, prevalences: tuple[float, ...] = PREVALENCES) -> pd.DataFrame:
    """PPV and NPV where other shares of the photographs are abnormal, if both rates stay as they are.

    Intervals are of the likelihood ratio on the logarithm's scale, from Wilson's of the two rates (Zou & Donner, Stat
    Med 27:1693, 2008), which cover 92–97 % for 20 to 200 cases and rates up to 0.98; the prevalence counts as known.

    Args:
        points: as `operating_points` gives it.
        prevalences: shares of abnormal photographs, 0 < x < 1.

    Returns:
        A row per rule and prevalence: rule, prevalence, ppv, ppv_low, ppv_high, npv, npv_low, npv_high.
    """
    rows = []
    for point in points.to_dict("records"):
        for prevalence in prevalences:
            row = {"rule": point["rule"], "prevalence": prevalence}
            row |= _predictive("ppv", point, "sensitivity", "specificity", prevalence)
            row |= _predictive("npv", point, "specificity", "sensitivity", 1 - prevalence)
            rows.append(row)
    return pd.DataFrame(rows)


def _predictive(name: str, point: Mapping[str, Any], one: str, other: str, share: float) -> dict[str, float]:
    """The share of those called so who are so: of a class's rate, the other's, and the class's share."""
    hit, miss = point[one] * share, (1 - point[other]) * (1 - share)
    value = hit / (hit + miss) if hit + miss > 0 else np.nan
    if value != value:
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), np.nan)
    logarithms = []
    for rate, cases in ((point[one], point[f"{one}_cases"]), (1 - point[other], point[f"{other}_cases"])):
        low, high = wilson_interval(rate, cases)
        with np.errstate(divide="ignore"):
            logarithms.append(tuple(np.log([max(rate, 0.5 / cases), low, high])))
    low, high = (float(expit(logit(share) + end)) for end in difference_interval(*logarithms)[1:])
    return {name: value, f"{name}_low": low, f"{name}_high": high}


def miss_range(miss: float) -> tuple[float, float, float]:
    """Threshold probabilities at which a miss costs twice as many false alarms as `miss`, as many, and half as many."""
    return 1 / (1 + 2 * miss), 1 / (1 + miss), 1 / (1 + miss / 2)


def net_benefit(abnormal: np.ndarray, probability: np.ndarray, groups: np.ndarray, miss: float) -> pd.DataFrame:
    """Net benefit in the range of `miss_range`, and by how much it exceeds the better of referring all and no one.

    Args:
        abnormal: bool, (n,), n ≥ 1.
        probability: float, (n,), of abnormal, calibrated.
        groups: (n,); equal values, same patient or photograph.
        miss: cost of a missed abnormal image in false alarms, > 0.

    Returns:
        Rows `at`: `range` (the mean over the range), `miss_cost`, then "" for each threshold of the range. Columns at,
        threshold (empty for the range), model, all, more (model less the better of all and 0), low, high (95 %; empty
        where the two do not differ for any image); true positives per image.
    """
    abnormal, probability = checked(abnormal, probability)
    lowest, own, highest = miss_range(miss)
    thresholds = np.array([own, *np.linspace(lowest, highest, STEPS)])
    odds = thresholds[:, None] / (1 - thresholds[:, None])
    everyone = abnormal - ~abnormal * odds  # (thresholds, n)
    model = (probability >= thresholds[:, None]) * everyone
    more = model - everyone * (everyone.mean(axis=1, keepdims=True) > 0)
    rows = [("range", np.nan, *(part[1:].mean(axis=0) for part in (model, everyone, more)))]
    rows += [
        ("" if i else "miss_cost", threshold, model[i], everyone[i], more[i]) for i, threshold in enumerate(thresholds)
    ]
    found = [(at, t, a.mean(), b.mean(), *clustered_mean(apart, groups)) for at, t, a, b, apart in rows]
    return pd.DataFrame(found, columns=["at", "threshold", "model", "all", "more", "low", "high"])


def precision(scores: pd.DataFrame, abnormal: int, normal: int, margin: float = MARGIN) -> pd.DataFrame:
    """How surely scores are known with these images, and how many would make it ± `margin`.

    Wilson's and Newcombe's intervals are solved for the number of cases that gives the interval at hand, and for the
    one that gives the wanted width; images count as they do here, so that patients with several keep their price.

    Args:
        scores: columns score, value, low, high; those of sensitivity, specificity and auroc are looked at.
        abnormal: distinct abnormal images.
        normal: distinct normal images.
        margin: half of the wanted width, 0 < x < 0.5.

    Returns:
        A row per score: score, value, half_width (of its interval), images, of (`abnormal`, `normal` or `all`), margin,
        needed (images of that kind, in the mix at hand); needed is empty where the score has no interval.
    """
    rows, table, share = [], scores.set_index("score"), abnormal / max(1, abnormal + normal)
    kinds = {
        "sensitivity": (abnormal, ABNORMAL),
        "specificity": (normal, NORMAL),
        "auroc": (abnormal + normal, "all"),
    }
    for name, (images, kind) in kinds.items():
        value, low, high = (float(table.at[name, column]) for column in ("value", "low", "high"))
        needed = np.nan
        if low == low and images:
            found = [_cases(name, value, share, width) for width in (2 * margin, high - low)]
            needed = float(np.ceil(images * found[0] / found[1]))
        rows.append((name, value, (high - low) / 2, images, kind, margin, needed))
    return pd.DataFrame(rows, columns=["score", "value", "half_width", "images", "of", "margin", "needed"])


def _cases(name: str, value: float, share: float, width: float) -> float:
    """The number of cases, 1 to 10⁸, with which the interval of a score is so wide; `share` of them are abnormal."""

    def apart(logarithm: float) -> float:
        n = float(np.exp(logarithm))
        if name == "auroc":
            low, high = auroc_interval(value, max(1.0, share * n), max(1.0, (1 - share) * n))
        else:
            low, high = wilson_interval(value, n)
        return (high - low) - width

    return float(np.exp(brentq(apart, 0.0, np.log(1e8), xtol=1e-6))) if apart(0.0) > 0 else 1.0
