"""Calibration: maps of one or two numbers from predicted log-odds to a calibrated probability.

More of them, as a step function has, want more images than a fold's test split holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.optimize import minimize, minimize_scalar
from scipy.special import expit

from glaucoma.evaluate.scores import BINS, checked, checked_log_odds

__all__ = ["apply_platt", "apply_temperature", "at_bound", "fit_platt", "fit_temperature", "reliability"]

RANGE = (-4.0, 4.0)  # natural logarithm of the temperatures and slopes that are tried


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


def fit_platt(abnormal: np.ndarray, *, log_odds: np.ndarray) -> dict[str, float] | None:
    """The slope and intercept of log-odds at the lowest log loss (Platt, Advances in Large Margin Classifiers, 1999).

    Labels are his: (n + 1) / (n + 2) of n abnormal images and 1 / (n + 2) of n normal ones, so that predictions which
    part the classes do not ask for an endless slope.

    Args:
        abnormal: bool, (n,).
        log_odds: float, (n,), of abnormal.

    Returns:
        slope, from exp(-4) to exp(4): never negative, which would turn the ranks round; intercept. None where the
        images lack a class.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    if abnormal.all() or not abnormal.any():
        return None
    positive, negative = int(abnormal.sum()), int((~abnormal).sum())
    target = np.where(abnormal, (positive + 1) / (positive + 2), 1 / (negative + 2))
    centre, spread = float(log_odds.mean()), float(log_odds.std()) or 1.0
    x = (log_odds - centre) / spread

    def loss(given: np.ndarray) -> tuple[float, np.ndarray]:
        z = given[0] * x + given[1]
        error = expit(z) - target
        return float((np.logaddexp(0, z) - target * z).mean()), np.array([(error * x).mean(), error.mean()])

    slopes = np.exp(RANGE) * spread
    start = np.array([np.clip(1.0, *slopes), 0.0])
    options = {"ftol": 1e-14, "gtol": 1e-9, "maxiter": 1000}
    found = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[tuple(slopes), (None, None)], options=options).x
    slope = float(found[0] / spread)
    return {"slope": slope, "intercept": float(found[1] - slope * centre)}


def apply_platt(log_odds: np.ndarray, fitted: Mapping[str, Any]) -> np.ndarray:
    """Calibrated probabilities, (n,): the sigmoid of slope · log-odds + intercept."""
    return expit(fitted["slope"] * np.asarray(log_odds, dtype=float) + fitted["intercept"])


def at_bound(value: float) -> bool:
    """Whether a temperature or a slope is at the end of the range: the images asked for more, and do not tell it."""
    return abs(np.log(value)) > RANGE[1] - 0.01


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
