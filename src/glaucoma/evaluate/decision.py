"""Decision curve analysis: what a model is worth to those who act on it (Vickers & Elkin, Med Decis Making 26:565)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from glaucoma.evaluate.scores import checked

__all__ = ["decision_curve"]


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
