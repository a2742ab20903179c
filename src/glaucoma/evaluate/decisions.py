"""What turns a model's log-odds into a decision: thresholds and calibration, fitted on `test`, judged on `valid`.

`reports/summary/decision.json` holds them:

    {"fitted_on": "test", "judged_on": "valid", "positive": "abnormal", "miss_cost": 5,
     "folds": {"0": ENTRY, "1": …}}      each fold's model; keys are fold numbers as text
     "ensemble": ENTRY or null,          the mean of all folds' models
     "ensemble_of": "…"}                 what that was fitted on, or why there is none; a sentence

    ENTRY = {"thresholds": {"fixed": 0.0, "youden": t, "sensitivity_95": t, "specificity_95": t, "least_cost": t},
             "probabilities": {"fixed": 0.5, …},   the same as probabilities, to be read; near 0 and 1 they are rounded
             "n": 12, "abnormal": 6,     images that the thresholds were chosen on
             "temperature": T,           calibrated = sigmoid(log-odds / T)
             "platt": {"slope": a, "intercept": b},   calibrated = sigmoid(a · log-odds + b)
             "at_bound": ["temperature"],   those that ended where their range does, and so are not known
             "calibrated_on": 110}       images that both were fitted on

The per cent in a threshold's name are those that `thresholds` of params.yaml asks for.
Thresholds are log-odds, and apply to the uncalibrated ones: abnormal where log-odds ≥ t; ±1.8e308 calls nothing or
everything so. What cannot be fitted, because the images lack a class, is null.

A fold's thresholds are chosen on its own test images. They are too few for a calibration: that is fitted on all folds'
test predictions but those of images that the fold holds out, so that it can be judged there (cross-fitting).
A mean of several models is not as sure as each of them, so theirs do not fit it: the ensemble's are fitted on means of
the predictions of those models that have not trained on an image, where there are two or more of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.base.errors import many
from glaucoma.evaluate.calibration import apply_platt, apply_temperature, at_bound, fit_platt, fit_temperature
from glaucoma.evaluate.intervals import arrays, independent
from glaucoma.evaluate.scores import ABNORMAL, THRESHOLD, checked, checked_log_odds, decided, probabilistic
from glaucoma.model.log_odds import ALL, averaged_by, expit

__all__ = [
    "METHODS",
    "RULES",
    "bound_note",
    "calibrated",
    "calibration_table",
    "choose_threshold",
    "decision_curve",
    "decisions",
    "out_of_fold",
    "rules",
    "thresholds_table",
]

METHODS = ("none", "temperature", "platt")
FEWEST = 20  # images of each class that the ensemble's thresholds and calibration take


def rules(sensitivity: float = 0.95, specificity: float = 0.95) -> tuple[str, ...]:
    """Names of the rules by which thresholds are chosen; that of a wanted score bears its per cent (`sensitivity_95`).

    Args:
        sensitivity: wanted share of abnormal images found, 0 < x ≤ 1.
        specificity: wanted share of normal images left alone, 0 < x ≤ 1.
    """
    wanted = f"sensitivity_{100 * sensitivity:.10g}", f"specificity_{100 * specificity:.10g}"
    return ("fixed", "youden", *wanted, "least_cost")


RULES = rules()


def choose_threshold(rule: str, abnormal: np.ndarray, *, log_odds: np.ndarray, miss: float = 1.0) -> float | None:
    """The threshold that a rule takes from these predictions.

    Thresholds lie in the middle between neighbouring log-odds, so that they carry over to other images as well as
    they can. Of equally good ones the lowest is taken: it misses the fewest abnormal images.

    Args:
        rule: `fixed` (0, which is probability 0.5, as published); `youden` (highest sensitivity + specificity - 1;
            Youden, Cancer 3:32, 1950); `sensitivity_95` (highest specificity with sensitivity ≥ 0.95, or any other per
            cent); `specificity_95` (highest sensitivity with specificity ≥ 0.95, or any other); `least_cost` (lowest
            miss · false negatives + false positives).
        abnormal: bool, (n,).
        log_odds: float, (n,), of abnormal.
        miss: what a missed abnormal image costs, in false alarms.

    Returns:
        From these log-odds on an image is called abnormal, `-ALL` to `ALL`; None where the images lack a class.
    """
    if rule == "fixed":
        return THRESHOLD
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    if abnormal.all() or not abnormal.any():
        return None
    values = np.unique(log_odds)
    cuts = np.concatenate([[-ALL], (values[:-1] + values[1:]) / 2, [ALL]])
    positives, negatives = np.sort(log_odds[abnormal]), np.sort(log_odds[~abnormal])
    fn, tn = np.searchsorted(positives, cuts), np.searchsorted(negatives, cuts)
    sensitivity, specificity = 1 - fn / len(positives), tn / len(negatives)
    kind, _, percent = rule.partition("_")
    if kind in ("sensitivity", "specificity"):
        held, free = (sensitivity, specificity) if kind == "sensitivity" else (specificity, sensitivity)
        goodness = np.where(held >= float(percent) / 100 - 1e-12, free, -1)
    else:
        goodness = {"youden": sensitivity + specificity, "least_cost": -(miss * fn + len(negatives) - tn)}[rule]
    return float(cuts[np.flatnonzero(goodness >= goodness.max() - 1e-12)[0]])


def decisions(
    predictions: pd.DataFrame, miss: float, rules: Sequence[str] = RULES, clusters: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """The content of decision.json.

    Args:
        predictions: columns fold, split (test, valid), image, label, log_odds and perhaps patient.
        miss: what a missed abnormal image costs, in false alarms.
        rules: by which thresholds are chosen, as `choose_threshold` knows them.
        clusters: the photograph of each image that has copies, by content id.
    """
    group = pd.Series(independent(predictions, clusters), index=predictions.index)
    tested = predictions["split"] == "test"
    folds = {}
    for fold, rows in predictions.groupby("fold", sort=True):
        held_out = set(group[rows.index[rows["split"] == "valid"]])
        elsewhere = predictions[tested & ~group.isin(held_out)]
        folds[str(fold)] = _entry(rows[rows["split"] == "test"], elsewhere, miss, rules)
    several = out_of_fold(predictions)
    counts = several["label"].value_counts().reindex(["normal", "abnormal"], fill_value=0)
    on = f"{many(len(several), 'photograph')} that two or more of the models have not trained on"
    on += f" ({counts['abnormal']} abnormal, {counts['normal']} normal)"
    few = bool((counts < FEWEST).any())
    return {
        "fitted_on": "test",
        "judged_on": "valid",
        "positive": ABNORMAL,
        "miss_cost": miss,
        "folds": folds,
        "ensemble": None if few else _entry(several, several, miss, rules),
        "ensemble_of": f"there are only {on}; it takes {FEWEST} of each"
        if few
        else f"the mean of those models for {on}",
    }


def out_of_fold(predictions: pd.DataFrame) -> pd.DataFrame:
    """For each image that two models or more have not trained on, the mean of their predictions: a small ensemble.

    Args:
        predictions: of all folds' `test` and `valid`; columns fold, image, label, log_odds.

    Returns:
        Columns image, label, log_odds (of the mean probability), models (how many); sorted by image.
    """
    once = predictions.drop_duplicates(["image", "fold"])
    table = once.groupby("image").agg(label=("label", "first"), models=("fold", "size"))
    table["log_odds"] = averaged_by(once["log_odds"], once["image"])
    return table[table["models"] >= 2].reset_index()[["image", "label", "log_odds", "models"]]


def _entry(chosen_on: pd.DataFrame, fitted_on: pd.DataFrame, miss: float, rules: Sequence[str]) -> dict[str, Any]:
    """One ENTRY of decision.json: thresholds of the one table, calibration of the other; columns label and log_odds."""
    abnormal, log_odds = arrays(chosen_on)
    thresholds = {rule: choose_threshold(rule, abnormal, log_odds=log_odds, miss=miss) for rule in rules}
    labels, predicted = arrays(fitted_on)
    temperature, platt = fit_temperature(labels, log_odds=predicted), fit_platt(labels, log_odds=predicted)
    ends = {"temperature": temperature, "platt": platt and platt["slope"]}
    return {
        "thresholds": thresholds,
        "probabilities": {rule: None if t is None else float(expit(t)) for rule, t in thresholds.items()},
        "n": len(abnormal),
        "abnormal": int(abnormal.sum()),
        "temperature": temperature,
        "platt": platt,
        "at_bound": [name for name, value in ends.items() if isinstance(value, float) and at_bound(value)],
        "calibrated_on": len(labels),
    }


def calibrated(log_odds: np.ndarray, entry: dict[str, Any], method: str) -> np.ndarray:
    """Probabilities calibrated by an ENTRY; as predicted for method `none` and where it could not be fitted."""
    if method == "temperature" and entry["temperature"] is not None:
        return apply_temperature(log_odds, entry["temperature"])
    if method == "platt" and entry["platt"] is not None:
        return apply_platt(log_odds, entry["platt"])
    return expit(np.asarray(log_odds, dtype=float))


def thresholds_table(predictions: pd.DataFrame, found: dict[str, Any]) -> pd.DataFrame:
    """What each rule's thresholds, chosen fold by fold on `test`, do on `test` and, untouched, on `valid`.

    Returns:
        A row per rule and split: rule, split, lowest, highest (of the folds' thresholds, as probabilities), then n, tp,
        fp, tn, fn, sensitivity, specificity, accuracy, f1_macro, mcc of all folds' decisions pooled.
    """
    rows = []
    for rule in next(iter(found["folds"].values()))["thresholds"]:
        chosen = {int(fold): entry["thresholds"][rule] for fold, entry in found["folds"].items()}
        chosen = {fold: t for fold, t in chosen.items() if t is not None}
        for split, part in predictions.groupby("split", sort=True):
            part = part[part["fold"].isin(chosen)]
            abnormal, log_odds = arrays(part)
            counted = decided(abnormal, log_odds >= part["fold"].map(chosen).to_numpy(float))
            ends = {"lowest": min(chosen.values(), default=None), "highest": max(chosen.values(), default=None)}
            limits = {end: None if t is None else float(expit(t)) for end, t in ends.items()}
            rows.append({"rule": rule, "split": split, **limits, **counted})
    return pd.DataFrame(rows)


def calibration_table(predictions: pd.DataFrame, found: dict[str, Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How well the folds' calibrations, fitted on `test` predictions of other images, do on `valid`.

    Returns:
        A row per method (none, temperature, platt): method, n, brier, log_loss, ece on valid, pooled over folds;
        fitted_on (images, the fewest of a fold), folds_at_bound (whose fit is not known: see `at_bound`); and the valid
        predictions with a column for each method.
    """
    valid = predictions[predictions["split"] == "valid"].reset_index(drop=True)
    for method in METHODS:
        column = pd.Series(np.nan, index=valid.index)
        for fold, part in valid.groupby("fold"):
            column[part.index] = calibrated(part["log_odds"].to_numpy(float), found["folds"][str(fold)], method)
        valid[method] = column
    abnormal = (valid["label"] == ABNORMAL).to_numpy()
    entries = found["folds"].values()
    rows = [{"method": m, "n": len(valid), **probabilistic(abnormal, valid[m].to_numpy())} for m in METHODS]
    table = pd.DataFrame(rows)
    fitted = table["method"] != "none"
    table["fitted_on"] = (
        pd.Series(min(one["calibrated_on"] for one in entries), table.index).where(fitted).astype("Int64")
    )
    table["folds_at_bound"] = [sum(m in one["at_bound"] for one in entries) for m in METHODS]
    return table, valid


def bound_note(entry: Mapping[str, Any]) -> str:
    """A sentence on calibrations of an ENTRY that ended where their range does; "" where none did."""
    if not entry["at_bound"]:
        return ""
    which = " and ".join(entry["at_bound"])
    return f"calibration by {which} is at the end of its range: take its probabilities for ranks, not for shares"


def decision_curve(abnormal: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """Net benefit by threshold probability, of the model and of referring everyone; referring no one is 0.

    Args:
        abnormal: bool, (n,), n ≥ 1.
        probability: float, (n,), 0 to 1; calibrated, or a threshold does not mean what it says.

    Returns:
        Rows for thresholds 0.01 … 0.99: threshold t, model (tp / n - fp / n · t / (1 - t), in true positives per
        image, 2006), all (the same if every image is called abnormal).
    """
    abnormal, probability = checked(abnormal, probability)
    thresholds = np.arange(1, 100) / 100
    called = probability >= thresholds[:, None]
    odds = thresholds / (1 - thresholds)
    share = abnormal.mean()
    model = (called & abnormal).mean(1) - (called & ~abnormal).mean(1) * odds
    return pd.DataFrame({"threshold": thresholds, "model": model, "all": share - (1 - share) * odds})
