import numpy as np
import pandas as pd
import pytest

from glaucoma.base.errors import DataError
from glaucoma.base.params import Trial
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import SCORES
from glaucoma.train.ranking import best_of, rank, tied, timings
from glaucoma.train.trainer import Snapshot

ABNORMAL = np.array([True, True, True, False, False, False, False, False])
TEST = Split(tuple("abcdefgh"), np.arange(8), ABNORMAL)


def snapshot(wrong: list[int], epochs: int = 1, seconds: float = 1.0) -> Snapshot:
    """A trial with wrong predictions for some images."""
    log_odds = np.where(np.isin(np.arange(8), wrong) ^ ABNORMAL, 2.0, -2.0)
    return Snapshot(epochs, [], {"test": log_odds}, pd.DataFrame(), seconds)


def trial(lr: float, epochs: int = 1) -> Trial:
    return Trial(lr=lr, optimizer="adam", batch_size=16, epochs=epochs)


A, B, C, D = (trial(lr) for lr in (0.1, 0.2, 0.3, 0.4))


def test_the_best_score_comes_first_and_all_trials_are_there():
    table, best = rank([A, B, C], {A: snapshot([0, 3]), B: snapshot([]), C: snapshot([3])}, {}, TEST, "f1_macro")
    assert best == B
    assert table["param_lr"].tolist() == [0.2, 0.3, 0.1]
    assert table["rank_test_f1_macro"].tolist() == [1, 2, 3]
    assert table["mean_test_f1_macro"].is_monotonic_decreasing
    assert table["mean_test_accuracy"].tolist() == [1.0, 0.875, 0.75]


def test_columns_are_named_as_scikit_learn_names_them():
    table, _ = rank([A], {A: snapshot([0])}, {}, TEST, "auroc")
    assert list(table.columns)[:5] == [
        "rank_test_auroc",
        "param_lr",
        "param_optimizer",
        "param_batch_size",
        "param_epochs",
    ]
    followed = {*SCORES, "cost", "tp", "fp", "tn", "fn"}
    assert {f"mean_test_{name}" for name in followed} == {c for c in table.columns if c.startswith("mean_test_")}
    assert {"status", "error"} < set(table.columns)


@pytest.mark.parametrize(
    ("metric", "best"),
    [("sensitivity", C), ("specificity", A), ("f1_macro", A), ("accuracy", A), ("auroc", A), ("brier", A), ("cost", C)],
)
def test_the_metric_decides(metric, best):
    finished = {A: snapshot([0]), C: snapshot([3, 4, 5])}
    assert rank([A, C], finished, {}, TEST, metric, miss=5)[1] == best


def test_ties_share_a_rank_and_go_to_the_lower_log_loss():
    finished = {A: snapshot([3, 4]), B: snapshot([3]), C: snapshot([0])}  # sensitivity 1, 1 and 2/3
    table, best = rank([A, B, C], finished, {}, TEST, "sensitivity")
    assert best == B
    assert table["param_lr"].tolist() == [0.2, 0.1, 0.3]
    assert table["rank_test_sensitivity"].tolist() == [1, 1, 3]
    assert tied(table) == 2
    assert best_of(table) == "lowest log loss of the 2 of 3 trials that tie at sensitivity 1.000"
    table, _ = rank([A, B, C], finished, {}, TEST, "log_loss")
    assert best_of(table) == "fewest epochs of the 2 of 3 trials that tie at log loss 0.377"
    assert best_of(rank([A, B], finished, {}, TEST, "accuracy")[0]) == "best of 2 trials"


def test_further_ties_go_to_fewer_epochs_and_then_to_the_grids_order():
    long, short, last = trial(0.1, epochs=9), trial(0.2, epochs=3), trial(0.3, epochs=3)
    finished = {each: snapshot([3]) for each in (last, long, short)}
    table, best = rank([long, short, last], finished, {}, TEST, "f1_macro")
    assert best == short
    assert table["param_lr"].tolist() == [0.2, 0.3, 0.1]
    assert tied(table) == 3


def test_failed_trials_come_last_with_their_error():
    table, best = rank([A, B, C], {B: snapshot([0, 1, 2, 3])}, {A: "diverged", C: "no memory"}, TEST, "f1_macro")
    assert best == B
    assert table["status"].tolist() == ["ok", "failed", "failed"]
    assert table["error"].tolist() == ["", "diverged", "no memory"]
    assert table["param_lr"].tolist() == [0.2, 0.1, 0.3]
    assert table["mean_test_f1_macro"].isna().tolist() == [False, True, True]


def test_a_metric_that_the_test_images_cannot_tell_is_refused_by_name():
    healthy = Split(tuple("abcde"), np.arange(5), np.zeros(5, bool))
    finished = {A: Snapshot(1, [], {"test": np.full(5, -1.4)}, pd.DataFrame(), 1.0)}
    with pytest.raises(DataError, match=r"auroc is not defined.*all 5 are normal") as caught:
        rank([A], finished, {}, healthy, "auroc")
    assert "search.metric" in caught.value.remedy
    assert rank([A], finished, {}, healthy, "accuracy")[1] == A


def test_timings_are_a_row_for_each_finished_trial_in_the_grids_order():
    table = timings([A, B, C], {C: snapshot([], seconds=3.5), A: snapshot([], seconds=1.5)})
    assert table.to_dict("list") == {
        "lr": [0.1, 0.3],
        "optimizer": ["adam", "adam"],
        "batch_size": [16, 16],
        "epochs": [1, 1],
        "seconds": [1.5, 3.5],
    }
