"""The scores of a split."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from sklearn import metrics

from glaucoma.base.errors import TrainingError
from glaucoma.evaluate.scores import (
    COUNTS,
    SCORES,
    classification_report,
    confusion,
    cost,
    predictions_table,
    probabilistic,
    scores,
)

# by hand: 3 of 4 abnormal found, 3 of 5 normal left alone; of 20 pairs 15 are in order and one is tied
ABNORMAL = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
PROBABILITY = np.array([0.9, 0.8, 0.6, 0.1, 0.7, 0.6, 0.3, 0.2, 0.05])
LOG_ODDS = logit(PROBABILITY)

BOTH = {"auroc", "partial_auroc", "sensitivity_at_95_specificity", "average_precision", "mcc"}

predictions = st.lists(st.tuples(st.booleans(), st.floats(-60, 60)), max_size=30)


def test_scores_are_those_worked_out_by_hand():
    found = scores(ABNORMAL, log_odds=LOG_ODDS)
    assert {name: found[name] for name in ("n", "tp", "fp", "tn", "fn")} == {"n": 9, "tp": 3, "fp": 2, "tn": 3, "fn": 1}
    assert found["accuracy"] == pytest.approx(6 / 9)
    assert found["sensitivity"] == pytest.approx(3 / 4)
    assert found["specificity"] == pytest.approx(3 / 5)
    # F1 of abnormal 2·3 / (2·3 + 2 + 1), of normal 2·3 / (2·3 + 1 + 2)
    assert found["f1_macro"] == pytest.approx((6 / 9 + 6 / 9) / 2)
    # pairs won: 0.9 and 0.8 five each, 0.6 three and a half, 0.1 one
    assert found["auroc"] == pytest.approx(14.5 / 20)
    # false alarms 0 of 5 where specificity ≥ 0.95 (0.9, 0.8 lie above 0.7); up to 0.1 the curve is flat at 2 of 4:
    # area 0.05, standardised (1 + (0.05 - 0.005) / (0.1 - 0.005)) / 2
    assert found["sensitivity_at_95_specificity"] == pytest.approx(2 / 4)
    assert found["partial_auroc"] == pytest.approx((1 + 0.045 / 0.095) / 2)
    # precision where each abnormal is found: 1/1, 2/2, 3/5 (tied with a normal), 4/8
    assert found["average_precision"] == pytest.approx((1 + 1 + 3 / 5 + 4 / 8) / 4)
    assert found["mcc"] == pytest.approx((3 * 3 - 2 * 1) / np.sqrt(5 * 4 * 5 * 4))
    # squares of 0.1 0.2 0.4 0.9 and of 0.7 0.6 0.3 0.2 0.05
    assert found["brier"] == pytest.approx((1.02 + 0.9825) / 9)
    of_label = np.array([0.9, 0.8, 0.6, 0.1, 0.3, 0.4, 0.7, 0.8, 0.95])
    assert found["log_loss"] == pytest.approx(-np.log(of_label).mean())
    # two share a bin: 0.6 abnormal and 0.6 normal, 1.2 against 1; the others stand alone
    assert found["ece"] == pytest.approx((0.1 + 0.2 + 0.2 + 0.9 + 0.7 + 0.3 + 0.2 + 0.05) / 9)
    assert cost(found, miss=5) == pytest.approx((5 * 1 + 2) / 9)
    assert set(found) == {*COUNTS, *SCORES}
    assert all(type(value) in (int, float) for value in found.values())


def test_a_tie_counts_as_abnormal():
    assert scores(np.array([True, False]), log_odds=np.zeros(2))["sensitivity"] == 1.0
    assert confusion(np.array([False]), log_odds=np.zeros(1)).loc["normal", "abnormal"] == 1


@pytest.mark.parametrize(
    ("abnormal", "lacking"),
    [([True, True], {*BOTH, "specificity"}), ([False, False], {*BOTH, "sensitivity"}), ([], set(SCORES))],
)
def test_what_is_not_defined_is_named_and_has_no_value(abnormal, lacking):
    found = scores(np.array(abnormal, dtype=bool), log_odds=np.full(len(abnormal), 2.0))
    assert {name for name, value in found.items() if value is None} == lacking


@given(predictions)
@settings(max_examples=60, deadline=None)
def test_no_score_leaves_its_range_and_macro_f1_is_scikit_learns(rows):
    abnormal = np.array([label for label, _ in rows], dtype=bool)
    log_odds = np.array([x for _, x in rows], dtype=float)
    found, probability = scores(abnormal, log_odds=log_odds), expit(log_odds)
    for name in SCORES:
        if found[name] is not None:
            lowest, highest = -1 if name == "mcc" else 0, np.inf if name == "log_loss" else 1
            assert lowest - 1e-12 <= found[name] <= highest + 1e-12, name
    assert found["tp"] + found["fp"] + found["tn"] + found["fn"] == found["n"] == len(rows)
    if rows:
        predicted = log_odds >= 0
        assert found["f1_macro"] == pytest.approx(
            metrics.f1_score(abnormal, predicted, average="macro", zero_division=0)
        )
        assert found["brier"] == pytest.approx(metrics.brier_score_loss(abnormal, probability, pos_label=True))
        if found["mcc"] is not None:
            assert found["mcc"] == pytest.approx(metrics.matthews_corrcoef(abnormal, predicted))


@given(predictions, st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_the_order_of_the_images_is_irrelevant(rows, random):
    shuffled = random.sample(rows, len(rows))
    first, second = (
        scores(np.array([label for label, _ in r], dtype=bool), log_odds=np.array([x for _, x in r], dtype=float))
        for r in (rows, shuffled)
    )
    assert first == second


def test_a_diverged_training_is_an_error_with_a_remedy():
    with pytest.raises(TrainingError, match=r"2 of 9 predicted log-odds are not finite(.|\n)*learning rate"):
        scores(ABNORMAL, log_odds=np.where(PROBABILITY > 0.75, np.nan, LOG_ODDS))


@pytest.mark.parametrize(
    ("abnormal", "log_odds"),
    [
        (ABNORMAL, LOG_ODDS[:-1]),
        (ABNORMAL, np.stack([-LOG_ODDS, LOG_ODDS], axis=1)),
        (ABNORMAL.astype(int), LOG_ODDS),
    ],
    ids=["lengths differ", "both classes' columns", "labels are numbers"],
)
def test_arrays_that_mean_something_else_are_refused(abnormal, log_odds):
    with pytest.raises(ValueError, match=r"labels|log-odds"):
        scores(abnormal, log_odds=log_odds)


def test_probabilities_pass_for_log_odds_nowhere_and_are_none_beyond_one():
    with pytest.raises(TypeError):
        scores(ABNORMAL, PROBABILITY)
    with pytest.raises(ValueError, match="expected 0 to 1"):
        probabilistic(ABNORMAL, LOG_ODDS)


def test_ranks_that_probabilities_have_lost_count():
    abnormal = np.repeat([False, True], 10)
    log_odds = np.where(abnormal, 42.0, 40.0) + np.linspace(-0.9, 0.9, 20)
    assert len(np.unique(expit(log_odds))) == 1
    found = scores(abnormal, log_odds=log_odds)
    assert (found["auroc"], found["sensitivity_at_95_specificity"], found["partial_auroc"]) == (1, 1, 1)
    assert found["specificity"] == 0


def test_tables_name_their_classes():
    matrix = confusion(ABNORMAL, log_odds=LOG_ODDS)
    assert matrix.loc["abnormal", "normal"] == 1
    assert matrix.loc["normal", "abnormal"] == 2
    table = predictions_table([f"i{k}" for k in range(9)], ABNORMAL, log_odds=LOG_ODDS)
    assert list(table.columns) == ["image", "label", "predicted", "probability", "log_odds"]
    assert table.iloc[3].tolist() == ["i3", "abnormal", "normal", pytest.approx(0.1), LOG_ODDS[3]]


@pytest.mark.parametrize("abnormal", [ABNORMAL, np.ones(9, dtype=bool), np.zeros(9, dtype=bool)])
def test_the_classification_report_has_the_reports_rows_whatever_occurs(abnormal):
    table = classification_report(abnormal, log_odds=LOG_ODDS)
    assert list(table.index) == ["normal", "abnormal", "accuracy", "macro avg", "weighted avg"]
    assert list(table.columns) == ["precision", "recall", "f1-score", "support"]
    assert table.loc["accuracy", "f1-score"] == pytest.approx(scores(abnormal, log_odds=LOG_ODDS)["accuracy"])
    assert table.loc["abnormal", "support"] == abnormal.sum()


def test_the_published_classification_report_comes_back_under_its_true_names():
    # stage 1's, as printed with two decimals; what it calls Normal are the 82 abnormal images
    abnormal = np.repeat([False, True], [92, 82])
    probability = np.repeat([0.1, 0.9, 0.1, 0.9], [70, 22, 8, 74])
    table = classification_report(abnormal, log_odds=logit(probability)).round(2)
    assert table.loc["abnormal"].tolist() == [0.77, 0.90, 0.83, 82]
    assert table.loc["normal"].tolist() == [0.90, 0.76, 0.82, 92]
    assert table.loc["macro avg"].tolist() == [0.83, 0.83, 0.83, 174]
    assert table.loc["weighted avg"].tolist() == [0.84, 0.83, 0.83, 174]
    assert table.loc["accuracy", "f1-score"] == 0.83
