"""Scores of one split's predictions; the positive class is `abnormal`, and every score says how often it is found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn import metrics

from glaucoma.base.errors import TrainingError
from glaucoma.base.index import ABNORMAL, NORMAL, THRESHOLD

__all__ = [
    "ABNORMAL",
    "BINS",
    "COUNTS",
    "LOWER_IS_BETTER",
    "NORMAL",
    "SCORES",
    "THRESHOLD",
    "checked",
    "checked_log_odds",
    "classification_report",
    "confusion",
    "cost",
    "decided",
    "predictions_table",
    "probabilistic",
    "scores",
]

ROUNDING = 1e-6  # what a softmax in float32 may exceed 1 by
BINS = 10  # of the calibration error, of equal width

COUNTS = ("n", "tp", "fp", "tn", "fn")
DECIDED = ("sensitivity", "specificity", "accuracy", "f1_macro", "mcc")  # they depend on the threshold
RANKED = ("auroc", "partial_auroc", "sensitivity_at_95_specificity", "average_precision")  # on the order alone
PROBABILISTIC = ("brier", "log_loss", "ece")  # on the probabilities themselves
SCORES = (*DECIDED[:2], *RANKED, *DECIDED[2:], *PROBABILISTIC)  # what is to be looked at first stands first
LOWER_IS_BETTER = frozenset({*PROBABILISTIC, "cost"})


def scores(
    abnormal: np.ndarray, *, log_odds: np.ndarray, threshold: float = THRESHOLD
) -> dict[str, int | float | None]:
    """Score the predictions for n images; the order of the images changes no bit of the result.

    Predictions are log-odds, since probabilities lose the ranks of what is nearly sure. They are given by name, here
    and in what follows, because a probability would pass for one.

    A score that is not defined is there as None (`null` in JSON): sensitivity without abnormal images, specificity
    without normal ones, what tells the classes apart (`RANKED`, mcc) without both, the others without any image.

    Args:
        abnormal: bool, (n,); whether each image is abnormal.
        log_odds: float, (n,), finite; ln(p / (1 - p)) of the predicted probability p that it is.
        threshold: log-odds from which on an image is called abnormal.

    Returns:
        Plain numbers, `COUNTS` and `SCORES`. From the decisions, as `decided` gives them: sensitivity, specificity,
        accuracy, f1_macro, mcc. From the order: auroc (ties count half); partial_auroc over 90–100 % specificity,
        standardised so that chance is 0.5 and 1 the best (McClish, Med Decis Making 9:190, 1989) and
        sensitivity_at_95_specificity, the highest that a threshold with specificity ≥ 0.95 has, both as the AIROGS
        challenge measures them (de Vente et al., IEEE TMI 43:542, 2024); average_precision. From the probabilities:
        brier, the mean squared error; log_loss, natural logarithm, clipped as scikit-learn does; ece, the expected
        calibration error of the probability of abnormal over ten bins of equal width (Naeini et al., AAAI 2015).

    Raises:
        TrainingError: log-odds are not finite: the training has diverged.
        ValueError: wrong shapes or types.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    order = np.lexsort((abnormal, log_odds))
    abnormal, log_odds = abnormal[order], log_odds[order]
    found: dict[str, int | float | None] = dict.fromkeys((*COUNTS, *SCORES))
    found |= decided(abnormal, log_odds >= threshold)
    if abnormal.any() and not abnormal.all():
        found["auroc"] = float(metrics.roc_auc_score(abnormal, log_odds))
        found["partial_auroc"] = float(metrics.roc_auc_score(abnormal, log_odds, max_fpr=0.1))
        found["sensitivity_at_95_specificity"] = _sensitivity_at(abnormal, log_odds, specificity=0.95)
        found["average_precision"] = float(metrics.average_precision_score(abnormal, log_odds))
    return found | probabilistic(abnormal, expit(log_odds))


def probabilistic(abnormal: np.ndarray, probability: np.ndarray) -> dict[str, float | None]:
    """The scores of the probabilities themselves, brier, log_loss and ece; None without any image.

    Raises:
        TrainingError, ValueError: as `checked`.
    """
    abnormal, probability = checked(abnormal, probability)
    if not len(abnormal):
        return dict.fromkeys(PROBABILISTIC)
    return {
        "brier": float(np.mean((probability - abnormal) ** 2)),
        "log_loss": float(metrics.log_loss(abnormal, probability, labels=[False, True])),
        "ece": _calibration_error(abnormal, probability),
    }


def decided(abnormal: np.ndarray, called: np.ndarray) -> dict[str, int | float | None]:
    """The counts, and the scores that follow from them alone: cheap enough for every epoch of a training.

    Args:
        abnormal: bool, (n,).
        called: bool, (n,); whether an image is called abnormal.

    Returns:
        n, tp, fp, tn, fn; sensitivity tp / (tp + fn); specificity tn / (tn + fp); accuracy; f1_macro (scikit-learn's:
        the mean over the classes that occur among labels or predictions); mcc, Matthews' correlation, -1 to 1, 0 where
        all images are called the same. None where not defined.
    """
    tp, fp = int(np.sum(called & abnormal)), int(np.sum(called & ~abnormal))
    fn, tn = int(np.sum(~called & abnormal)), int(np.sum(~called & ~abnormal))
    n = tp + fp + tn + fn
    f1 = [2 * hit / (2 * hit + fp + fn) for hit in (tn, tp) if hit + fp + fn]
    both = (tp + fn) * (tn + fp)
    spread = both * (tp + fp) * (tn + fn)
    mcc = (tp * tn - fp * fn) / float(spread) ** 0.5 if spread else 0.0
    return {
        "n": n,
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "sensitivity": tp / (tp + fn) if tp + fn else None,
        "specificity": tn / (tn + fp) if tn + fp else None,
        "accuracy": (tp + tn) / n if n else None,
        "f1_macro": sum(f1) / len(f1) if f1 else None,
        "mcc": mcc if both else None,
    }


def cost(counts: Mapping[str, Any], miss: float) -> float | None:
    """Mean cost of a decision in false alarms per image, where a missed abnormal image costs as much as `miss` of them.

    Args:
        counts: n, fp and fn, as `scores` gives them.
        miss: ≥ 0.

    Returns:
        (miss · fn + fp) / n, 0 at best; None without images.
    """
    return (miss * counts["fn"] + counts["fp"]) / counts["n"] if counts["n"] else None


def predictions_table(
    images: Sequence[str], abnormal: np.ndarray, *, log_odds: np.ndarray, threshold: float = THRESHOLD
) -> pd.DataFrame:
    """Each image's label and prediction, in the order given.

    Returns:
        Columns image, label and predicted (`normal` or `abnormal`), probability and log_odds (of abnormal).

    Raises:
        TrainingError, ValueError: as `scores`; ValueError also where the number of images differs.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    if len(images) != len(abnormal):
        raise ValueError(f"{len(images)} images, but {len(abnormal)} labels")
    return pd.DataFrame(
        {
            "image": list(images),
            "label": _names(abnormal),
            "predicted": _names(log_odds >= threshold),
            "probability": expit(log_odds),
            "log_odds": log_odds,
        }
    )


def classification_report(abnormal: np.ndarray, *, log_odds: np.ndarray, threshold: float = THRESHOLD) -> pd.DataFrame:
    """scikit-learn's classification report.

    Returns:
        Rows normal, abnormal, accuracy, macro avg, weighted avg; columns precision, recall, f1-score, support. As
        printed by scikit-learn, the accuracy stands under f1-score and its precision and recall are empty (NaN).

    Raises:
        TrainingError, ValueError: as `scores`.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    report: dict[str, Any] = metrics.classification_report(
        _names(abnormal),
        _names(log_odds >= threshold),
        labels=[NORMAL, ABNORMAL],
        output_dict=True,
        zero_division=0,
    )
    # with both labels named and both present scikit-learn says "accuracy", else "micro avg"; here they are the same
    accuracy = np.mean((log_odds >= threshold) == abnormal) if len(abnormal) else 0.0
    report["accuracy"] = {"f1-score": float(accuracy), "support": len(abnormal)}
    table = pd.DataFrame(report).T.loc[[NORMAL, ABNORMAL, "accuracy", "macro avg", "weighted avg"]]
    return table[["precision", "recall", "f1-score", "support"]].astype({"support": int})


def confusion(abnormal: np.ndarray, *, log_odds: np.ndarray, threshold: float = THRESHOLD) -> pd.DataFrame:
    """Count images by true class (rows `normal`, `abnormal`) and predicted class (columns, same names).

    Raises:
        TrainingError, ValueError: as `scores`.
    """
    abnormal, log_odds = checked_log_odds(abnormal, log_odds)
    counts = metrics.confusion_matrix(abnormal, log_odds >= threshold, labels=[False, True])
    names = [NORMAL, ABNORMAL]
    return pd.DataFrame(counts, index=pd.Index(names, name="true"), columns=pd.Index(names, name="predicted"))


def _sensitivity_at(abnormal: np.ndarray, log_odds: np.ndarray, specificity: float) -> float:
    """The highest sensitivity of a threshold that has at least this specificity; both classes occur."""
    normal = np.sort(log_odds[~abnormal])[::-1]
    allowed = int(np.floor((1 - specificity) * len(normal) + 1e-9))  # false alarms
    return float(np.mean(log_odds[abnormal] > normal[allowed]))


def _calibration_error(abnormal: np.ndarray, probability: np.ndarray) -> float:
    """Mean over the images of |mean probability - share of abnormal| in their bin: [0, 0.1), … [0.9, 1]."""
    of = np.minimum((probability * BINS).astype(int), BINS - 1)
    return float(np.abs(np.bincount(of, probability - abnormal, minlength=BINS)).sum() / len(abnormal))


def _names(abnormal: np.ndarray) -> np.ndarray:
    return np.where(abnormal, ABNORMAL, NORMAL)


def checked(abnormal: np.ndarray, probability: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Bool and float64 vectors of one length, probabilities within 0 to 1; or TrainingError or ValueError."""
    abnormal, probability = checked_log_odds(abnormal, probability, "probabilities")
    if np.any((probability < -ROUNDING) | (probability > 1 + ROUNDING)):
        raise ValueError(f"probabilities reach from {probability.min()} to {probability.max()}, expected 0 to 1")
    return abnormal, np.clip(probability, 0.0, 1.0)


def checked_log_odds(
    abnormal: np.ndarray, log_odds: np.ndarray, name: str = "log-odds"
) -> tuple[np.ndarray, np.ndarray]:
    """Bool and float64 vectors of one length, all finite; or TrainingError or ValueError."""
    abnormal, log_odds = np.asarray(abnormal), np.asarray(log_odds, dtype=np.float64)
    if abnormal.ndim != 1 or abnormal.shape != log_odds.shape:
        raise ValueError(f"labels {abnormal.shape} and {name} {log_odds.shape} are no two vectors of a length")
    if len(abnormal) and abnormal.dtype != bool:
        raise ValueError(f"labels are {abnormal.dtype}, expected bool: whether each image is abnormal")
    if not np.isfinite(log_odds).all():
        lost = int(np.sum(~np.isfinite(log_odds)))
        raise TrainingError(
            f"{lost} of {len(log_odds)} predicted {name} are not finite: the training has diverged",
            "lower the learning rate (lr), or look at the history for the epoch where the loss leaves the scale",
        )
    return abnormal.astype(bool), log_odds
