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
from glaucoma.evaluate.scores import ABNORMAL, decided, probabilistic
from glaucoma.evaluate.thresholds import RULES, choose_threshold
from glaucoma.model.log_odds import expit

__all__ = ["METHODS", "calibrated", "calibration_table", "decisions", "fit", "thresholds_table"]

METHODS = ("none", "temperature", "isotonic")


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
