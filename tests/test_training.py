import numpy as np
import pytest
import small

from glaucoma.base.errors import TrainingError
from glaucoma.evaluate.scores import scores
from glaucoma.model.network import values
from glaucoma.train.trainer import Trainer

PIXELS, ABNORMAL = small.images()
FEATURES = small.features(PIXELS)
SPLITS = small.splits(ABNORMAL)

ADAM = small.run(0.01, "adam", 16, (1, 3))
SLOW = small.run(0.0005, "adam", 16, (2,))
LARGE = small.run(0.01, "adam", 38, (2,))
SGD = small.run(0.05, "sgd", 16, (1,))
EXPLODING = small.run(1e38, "sgd", 16, (2, 3))


def trainer() -> Trainer:
    """A new network in a new trainer."""
    network = small.tiny_head()
    return Trainer(network, network.variables, [FEATURES], seed=7)


def alone(run: tuple):
    snapshots, failures = small.trained(trainer(), [run], SPLITS)
    assert not failures
    return {epochs: snapshot for (_, epochs), snapshot in snapshots.items()}


@pytest.fixture(scope="module")
def fresh() -> dict:
    """The final state of each run when nothing was trained before it."""
    return {(run, n): snapshot for run in (ADAM, SLOW, LARGE, SGD) for n, snapshot in alone(run).items()}


def test_a_snapshot_on_the_way_is_what_a_short_run_ends_with(fresh):
    again = trainer()
    for trial in ADAM:
        snapshots, _ = small.trained(again, [(trial,)], SPLITS)
        small.same(fresh[ADAM, trial.epochs], snapshots[(trial,), trial.epochs])


def test_a_trainer_used_again_ends_as_a_new_one_whatever_it_trained_before(fresh):
    again = trainer()
    for run in (LARGE, ADAM, SGD, SLOW, ADAM):
        snapshots, failures = small.trained(again, [run], SPLITS)
        assert not failures
        for key, snapshot in snapshots.items():
            small.same(snapshot, fresh[key])


def test_a_run_that_diverges_is_told_with_its_reason_and_disturbs_no_other(fresh):
    again = trainer()
    snapshots, failures = small.trained(again, [EXPLODING, SGD, ADAM], SPLITS)
    assert list(failures) == [EXPLODING]
    error = failures[EXPLODING]
    assert isinstance(error, TrainingError)
    assert "sgd lr 1e+38 batch 16" in error.found
    assert "diverged" in error.found
    assert "learning rate" in error.remedy
    assert {run for run, _ in snapshots} == {ADAM, SGD}
    for key, snapshot in snapshots.items():
        small.same(snapshot, fresh[key])


def test_different_settings_give_different_weights(fresh):
    kernels = [snapshot.weights[0].tobytes() for snapshot in fresh.values()]
    assert len(set(kernels)) == len(kernels)


def test_a_snapshot_holds_history_predictions_and_weights_that_belong_together(fresh):
    snapshot = fresh[ADAM, 3]
    history = snapshot.history
    followed = {"loss", "accuracy", "f1_macro"}
    assert set(history.columns) == {"epoch", *followed, *(f"test_{name}" for name in followed)}
    assert history["epoch"].tolist() == [1, 2, 3]
    for name, split in SPLITS.items():
        assert snapshot.log_odds[name].dtype == np.float64
        assert snapshot.log_odds[name].shape == (len(split),)
    found = scores(SPLITS["test"].abnormal, log_odds=snapshot.log_odds["test"])
    assert found["accuracy"] == pytest.approx(history["test_accuracy"].iloc[-1])
    assert found["f1_macro"] == pytest.approx(history["test_f1_macro"].iloc[-1])

    again = trainer()
    assert [w.shape for w in snapshot.weights] == [v.shape for v in values(again.variables)]


def test_training_learns_what_can_be_learnt():
    snapshots, _ = small.trained(trainer(), [small.run(0.03, "adam", 8, (20,))], SPLITS)
    (snapshot,) = snapshots.values()
    assert snapshot.history["accuracy"].iloc[-5:].min() > 0.8
    assert snapshot.history["loss"].iloc[-1] < snapshot.history["loss"].iloc[0] / 2
