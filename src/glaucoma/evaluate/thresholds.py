"""Thresholds chosen on one set of predictions, to be applied untouched to another."""

from __future__ import annotations

import numpy as np

from glaucoma.evaluate.scores import THRESHOLD, checked_log_odds
from glaucoma.model.log_odds import ALL

__all__ = ["RULES", "choose_threshold", "rules"]


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
