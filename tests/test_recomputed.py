"""Every number of a finished run is recomputed from its predictions with scikit-learn."""

import numpy as np
import pandas as pd
import pytest
from sklearn import metrics

from glaucoma.base.files import read_csv

COLUMNS = ["image", "patient", "source", "split", "label", "predicted", "probability", "log_odds"]


def recomputed(table: pd.DataFrame) -> dict[str, float]:
    """All scores of a table of predictions, by scikit-learn; the calibration error by its definition."""
    y, p = (table["label"] == "abnormal").to_numpy(), table["probability"].to_numpy()
    x = table["log_odds"].to_numpy()
    inside = np.abs(x) < 10  # beyond, probabilities have too few digits left
    np.testing.assert_allclose(np.log(p / (1 - p))[inside], x[inside], rtol=1e-9, atol=1e-10)
    called = x >= 0
    tn, fp, fn, tp = metrics.confusion_matrix(y, called, labels=[False, True]).ravel()
    fpr, tpr, _ = metrics.roc_curve(y, x, drop_intermediate=False)
    bins = np.minimum(np.floor(p * 10), 9)
    gaps = [abs(p[bins == of].mean() - y[bins == of].mean()) * (bins == of).mean() for of in np.unique(bins)]
    return {
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
        "auroc": metrics.roc_auc_score(y, x),
        "partial_auroc": metrics.roc_auc_score(y, x, max_fpr=0.1),
        "sensitivity_at_95_specificity": tpr[1 - fpr >= 0.95 - 1e-12].max(),
        "average_precision": metrics.average_precision_score(y, x),
        "brier": metrics.brier_score_loss(y, p),
        "log_loss": metrics.log_loss(y, p),
        "ece": sum(gaps),
    }


@pytest.mark.parametrize("split", ["test", "valid"])
def test_a_folds_scores_are_recomputed_from_its_predictions_by_scikit_learn(finished, split):
    table = read_csv(finished / "reports/crossval/fold0/predictions.csv", dtype={"image": str})
    assert list(table.columns) == COLUMNS
    found = finished.json("metrics/crossval/fold0.json")[split]
    expected = recomputed(table[table["split"] == split])
    assert {name for name in found if not name.startswith("contaminat")} == set(expected)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-12), name


@pytest.mark.parametrize(("split", "file"), [("test", "predictions.csv"), ("valid", "predictions_valid.csv")])
def test_the_pooled_scores_and_their_intervals_are_of_the_pooled_predictions(finished, split, file):
    expected = recomputed(read_csv(finished / "reports/summary" / file, dtype={"image": str}))
    found = finished.json("metrics/intervals.json")["pooled_over_folds"][split]
    for name, told in found.items():
        assert told["value"] == pytest.approx(expected[name], abs=1e-12), name
        if told["low"] is not None and name != "ece":  # noise raises the estimate, so resamples are above it
            assert told["low"] - 1e-12 <= told["value"] <= told["high"] + 1e-12, name
    assert np.isfinite(list(found["auroc"].values())).all()


@pytest.mark.parametrize(("split", "file"), [("test", "predictions.csv"), ("valid", "predictions_valid.csv")])
def test_the_means_over_folds_are_those_of_each_folds_own_score_and_of_the_headline(finished, split, file):
    table = read_csv(finished / "reports/summary" / file, dtype={"image": str})
    expected = pd.DataFrame([recomputed(part) for _, part in table.groupby("fold")]).mean()
    headline = finished.json("metrics/summary.json")
    for name, told in finished.json("metrics/intervals.json")["mean_over_folds"][split].items():
        assert told["value"] == pytest.approx(expected[name], abs=1e-12), name
        if f"{split}_{name}" in headline:
            assert told["value"] == pytest.approx(headline[f"{split}_{name}"], abs=1e-12), name
