"""Every number of a finished run follows from its predictions, as scikit-learn computes it."""

import numpy as np
import pytest
from sklearn import metrics

from glaucoma.files import read_csv

COLUMNS = ["image", "patient", "source", "split", "label", "predicted", "probability"]


@pytest.mark.parametrize("split", ["test", "valid"])
def test_a_folds_scores_are_recomputed_from_its_predictions_by_scikit_learn(finished, split):
    table = read_csv(finished / "reports/crossval/fold0/predictions.csv", dtype={"image": str})
    assert list(table.columns) == COLUMNS
    part = table[table["split"] == split]
    y, p = (part["label"] == "abnormal").to_numpy(), part["probability"].to_numpy()
    called = p >= 0.5
    tn, fp, fn, tp = metrics.confusion_matrix(y, called, labels=[False, True]).ravel()
    fpr, tpr, _ = metrics.roc_curve(y, p, drop_intermediate=False)
    expected = {
        "n": len(y),
        "tp": tp,
        "fp": fp,
        "tn": tn,
        "fn": fn,
        "sensitivity": metrics.recall_score(y, called),
        "specificity": metrics.recall_score(~y, ~called),
        "accuracy": metrics.accuracy_score(y, called),
        "f1_macro": metrics.f1_score(y, called, average="macro", zero_division=0),
        "mcc": metrics.matthews_corrcoef(y, called),
        "auroc": metrics.roc_auc_score(y, p),
        "partial_auroc": metrics.roc_auc_score(y, p, max_fpr=0.1),
        "sensitivity_at_95_specificity": tpr[1 - fpr >= 0.95 - 1e-12].max(),
        "average_precision": metrics.average_precision_score(y, p),
        "brier": metrics.brier_score_loss(y, p),
        "log_loss": metrics.log_loss(y, p),
    }
    found = finished.json("metrics/crossval/fold0.json")[split]
    assert set(found) - set(expected) >= {"ece", "contamination"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


def test_the_intervals_are_of_the_pooled_predictions(finished):
    pooled = read_csv(finished / "reports/summary/predictions.csv", dtype={"image": str})
    told = finished.json("metrics/intervals.json")["test"]["auroc"]
    assert told["value"] == pytest.approx(metrics.roc_auc_score(pooled["label"] == "abnormal", pooled["probability"]))
    assert told["low"] <= told["value"] <= told["high"]
    assert np.isfinite(list(told.values())).all()
