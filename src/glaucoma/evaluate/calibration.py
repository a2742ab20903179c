"""Calibration: maps from predicted log-odds to a calibrated probability, fitted on one split and judged on another."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize_scalar
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from glaucoma.evaluate.scores import BINS, checked, checked_log_odds

__all__ = ["apply_isotonic", "apply_temperature", "fit_isotonic", "fit_temperature", "reliability"]

RANGE = (-4.0, 4.0)  # natural logarithm of the temperatures that are tried


def fit_temperature(abnormal: np.ndarray, *, log_odds: np.ndarray) -> float | None:
    """The temperature that divides the log-odds at the lowest log loss (Guo et al., ICML 2017).

    Args:
        abnormal: bool, (n,).
        log_odds: float, (n,), of abnormal.

    Returns:
        > 0, from exp(-4) to exp(4); above 1 the model was too sure. None where the images lack a class.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    if abnormal.all() or not abnormal.any():
        return None
    of_label = log_odds * np.where(abnormal, 1, -1)

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -of_label / np.exp(log_temperature)).mean())

    return float(np.exp(minimize_scalar(loss, bounds=RANGE, method="bounded", options={"xatol": 1e-6}).x))


def apply_temperature(log_odds: np.ndarray, temperature: float) -> np.ndarray:
    """Calibrated probabilities, (n,): the sigmoid of the log-odds divided by the temperature."""
    return expit(np.asarray(log_odds, dtype=float) / temperature)


def fit_isotonic(abnormal: np.ndarray, *, log_odds: np.ndarray) -> dict[str, list[float]] | None:
    """The rising step function of least squared error (Zadrozny & Elkan, KDD 2002), by scikit-learn.

    Returns:
        Knots `x` (rising log-odds) and `y` (calibrated), straight between them, constant beyond; None where the
        images lack a class.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    if abnormal.all() or not abnormal.any():
        return None
    fitted = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(log_odds, abnormal.astype(float))
    return {"x": fitted.X_thresholds_.tolist(), "y": fitted.y_thresholds_.tolist()}


def apply_isotonic(log_odds: np.ndarray, knots: Mapping[str, Any]) -> np.ndarray:
    """Calibrated probabilities, (n,), from the knots of `fit_isotonic`."""
    return np.interp(np.asarray(log_odds, dtype=float), knots["x"], knots["y"])


def reliability(abnormal: np.ndarray, probability: np.ndarray) -> pd.DataFrame:
    """The reliability diagram as a table.

    Returns:
        A row per bin of a tenth, empty ones too: low, high (edges), n, probability (mean), abnormal (share); the last
        two are empty where n is 0.
    """
    abnormal, probability = checked(abnormal, probability)
    of = np.minimum((probability * BINS).astype(int), BINS - 1)
    n = np.bincount(of, minlength=BINS)
    with np.errstate(invalid="ignore"):
        means = np.bincount(of, probability, BINS) / n
        shares = np.bincount(of, abnormal.astype(float), BINS) / n
    edges = np.arange(BINS + 1) / BINS
    return pd.DataFrame({"low": edges[:-1], "high": edges[1:], "n": n, "probability": means, "abnormal": shares})
