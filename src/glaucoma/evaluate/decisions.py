"""What turns a model's probability into a decision: thresholds and calibration, fitted on `test`, judged on `valid`.

`reports/summary/decision.json` holds them:

    {"fitted_on": "test", "judged_on": "valid", "positive": "abnormal", "miss_cost": 5,
     "pooled": ENTRY,                    all folds' predictions of their own test images (out of fold)
     "folds": {"0": ENTRY, "1": …}}      each fold's model on its own test images; keys are fold numbers as text

    ENTRY = {"thresholds": {"fixed": 0.5, "youden": t, "sensitivity_95": t, "specificity_95": t, "least_cost": t},
             "temperature": T,           calibrated = sigmoid(logit(p) / T)
             "isotonic": {"x": […], "y": […]},   knots, straight between them, constant beyond
             "n": 12, "abnormal": 6}     images that it was fitted on

The per cent in a threshold's name are those that `thresholds` of params.yaml asks for.
Thresholds apply to the uncalibrated probability p: abnormal where p ≥ t. What cannot be fitted, because the images lack
a class, is null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.evaluate.calibration import apply_isotonic, apply_temperature, fit_isotonic, fit_temperature
from glaucoma.evaluate.scores import ABNORMAL, scores
from glaucoma.evaluate.thresholds import RULES, choose_threshold

__all__ = ["METHODS", "calibrated", "calibration_table", "decisions", "fit", "thresholds_table"]

METHODS = ("none", "temperature", "isotonic")


def decisions(predictions: pd.DataFrame, miss: float, rules: Sequence[str] = RULES) -> dict[str, Any]:
    """The content of decision.json.

    Args:
        predictions: columns fold, split, label, probability; only the split `test` is looked at.
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
    """One ENTRY of decision.json, from columns label and probability."""
    abnormal, probability = _arrays(predictions)
    return {
        "thresholds": {rule: choose_threshold(rule, abnormal, probability, miss) for rule in rules},
        "temperature": fit_temperature(abnormal, probability),
        "isotonic": fit_isotonic(abnormal, probability),
        "n": len(abnormal),
        "abnormal": int(abnormal.sum()),
    }


def calibrated(probability: np.ndarray, entry: dict[str, Any], method: str) -> np.ndarray:
    """Probabilities calibrated by an ENTRY; unchanged for method `none` and where it could not be fitted."""
    if method == "temperature" and entry["temperature"] is not None:
        return apply_temperature(probability, entry["temperature"])
    if method == "isotonic" and entry["isotonic"] is not None:
        return apply_isotonic(probability, entry["isotonic"])
    return np.asarray(probability, dtype=float)


def thresholds_table(predictions: pd.DataFrame, found: dict[str, Any]) -> pd.DataFrame:
    """What each rule's thresholds, chosen fold by fold on `test`, do on `test` and, untouched, on `valid`.

    Returns:
        A row per rule and split: rule, split, lowest, highest (of the folds' thresholds), then n, tp, fp, tn, fn,
        sensitivity, specificity, accuracy, f1_macro, mcc of all folds' decisions pooled.
    """
    rows = []
    for rule in found["pooled"]["thresholds"]:
        chosen = {int(fold): entry["thresholds"][rule] for fold, entry in found["folds"].items()}
        chosen = {fold: t for fold, t in chosen.items() if t is not None}
        for split, part in predictions.groupby("split", sort=True):
            part = part[part["fold"].isin(chosen)]
            abnormal, probability = _arrays(part)
            called = probability >= part["fold"].map(chosen).to_numpy(float)
            counted = scores(abnormal, called.astype(float))
            kept = ("n", "tp", "fp", "tn", "fn", "sensitivity", "specificity", "accuracy", "f1_macro", "mcc")
            limits = {"lowest": min(chosen.values(), default=None), "highest": max(chosen.values(), default=None)}
            rows.append({"rule": rule, "split": split, **limits, **{name: counted[name] for name in kept}})
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
            column[part.index] = calibrated(part["probability"].to_numpy(), found["folds"][str(fold)], method)
        valid[method] = column
    abnormal = (valid["label"] == ABNORMAL).to_numpy()
    judged = {method: scores(abnormal, valid[method].to_numpy()) for method in METHODS}
    rows = [{"method": m, **{k: s[k] for k in ("n", "brier", "log_loss", "ece")}} for m, s in judged.items()]
    return pd.DataFrame(rows), valid


def _arrays(predictions: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    return (predictions["label"] == ABNORMAL).to_numpy(), predictions["probability"].to_numpy(float)
