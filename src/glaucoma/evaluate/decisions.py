"""What turns a model's probability into a decision: thresholds and calibration, fitted on `test`, judged on `valid`.

`reports/summary/decision.json` holds them:

    {"fitted_on": "test", "judged_on": "valid", "positive": "abnormal", "miss_cost": 5,
     "pooled": ENTRY,                    all folds' predictions of their own test images (out of fold)
     "folds": {"0": ENTRY, "1": …}}      each fold's model on its own test images; keys are fold numbers as text

    ENTRY = {"thresholds": {"fixed": 0.0, "youden": t, "sensitivity_95": t, "specificity_95": t, "least_cost": t},
             "probabilities": {"fixed": 0.5, …},   the same as probabilities, to be read; near 0 and 1 they are rounded
             "temperature": T,           calibrated = sigmoid(log-odds / T)
             "isotonic": {"x": […], "y": […]},   knots in log-odds, straight between them, constant beyond
             "n": 12, "abnormal": 6}     images that it was fitted on

The per cent in a threshold's name are those that `thresholds` of params.yaml asks for.
Thresholds are log-odds, and apply to the uncalibrated ones: abnormal where log-odds ≥ t; ±1.8e308 calls nothing or
everything so. What cannot be fitted, because the images lack
a class, is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.evaluate.calibration import apply_isotonic, apply_temperature, fit_isotonic, fit_temperature
from glaucoma.evaluate.intervals import arrays
from glaucoma.evaluate.scores import ABNORMAL, THRESHOLD, checked, checked_log_odds, decided, probabilistic
from glaucoma.model.log_odds import ALL, expit

__all__ = [
    "METHODS",
    "RULES",
    "calibrated",
    "calibration_table",
    "choose_threshold",
    "decision_curve",
    "decisions",
    "fit",
    "rules",
    "thresholds_table",
]

METHODS = ("none", "temperature", "isotonic")


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


def decisions(predictions: pd.DataFrame, miss: float, rules: Sequence[str] = RULES) -> dict[str, Any]:
    """The content of decision.json.

    Args:
        predictions: columns fold, split, label, log_odds; only the split `test` is looked at.
        miss: what a missed abnormal image costs, in false alarms.
        rules: by which thresholds are chosen, as `choose_threshold` knows them.
    """
    test = predictions[predictions["split"] == "test"]
    return {
        "fitted_on": "test",
        "judged_on": "valid",
        "positive": ABNORMAL,
        "miss_cost": miss,
        "pooled": fit(test, miss, rules),
        "folds": {str(fold): fit(part, miss, rules) for fold, part in test.groupby("fold", sort=True)},
    }


def fit(predictions: pd.DataFrame, miss: float, rules: Sequence[str] = RULES) -> dict[str, Any]:
    """One ENTRY of decision.json, from columns label and log_odds."""
    abnormal, log_odds = arrays(predictions)
    thresholds = {rule: choose_threshold(rule, abnormal, log_odds=log_odds, miss=miss) for rule in rules}
    return {
        "thresholds": thresholds,
        "probabilities": {rule: None if t is None else float(expit(t)) for rule, t in thresholds.items()},
        "temperature": fit_temperature(abnormal, log_odds=log_odds),
        "isotonic": fit_isotonic(abnormal, log_odds=log_odds),
        "n": len(abnormal),
        "abnormal": int(abnormal.sum()),
    }


def calibrated(log_odds: np.ndarray, entry: dict[str, Any], method: str) -> np.ndarray:
    """Probabilities calibrated by an ENTRY; as predicted for method `none` and where it could not be fitted."""
    if method == "temperature" and entry["temperature"] is not None:
        return apply_temperature(log_odds, entry["temperature"])
    if method == "isotonic" and entry["isotonic"] is not None:
        return apply_isotonic(log_odds, entry["isotonic"])
    return expit(np.asarray(log_odds, dtype=float))


def thresholds_table(predictions: pd.DataFrame, found: dict[str, Any]) -> pd.DataFrame:
    """What each rule's thresholds, chosen fold by fold on `test`, do on `test` and, untouched, on `valid`.

    Returns:
        A row per rule and split: rule, split, lowest, highest (of the folds' thresholds, as probabilities), then n, tp,
        fp, tn, fn, sensitivity, specificity, accuracy, f1_macro, mcc of all folds' decisions pooled.
    """
    rows = []
    for rule in found["pooled"]["thresholds"]:
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
    """How well each fold's calibration, fitted on `test`, does on `valid`.

    Returns:
        A row per method (none, temperature, isotonic): method, n, brier, log_loss, ece on valid, pooled over folds;
        and the valid predictions with a column for each method.
    """
    valid = predictions[predictions["split"] == "valid"].reset_index(drop=True)
    for method in METHODS:
        column = pd.Series(np.nan, index=valid.index)
        for fold, part in valid.groupby("fold"):
            column[part.index] = calibrated(part["log_odds"].to_numpy(float), found["folds"][str(fold)], method)
        valid[method] = column
    abnormal = (valid["label"] == ABNORMAL).to_numpy()
    rows = [{"method": m, "n": len(valid), **probabilistic(abnormal, valid[m].to_numpy())} for m in METHODS]
    return pd.DataFrame(rows), valid


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
