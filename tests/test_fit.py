"""Class weights, label smoothing, early stopping and schedules: what each changes and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
import small
from test_training import SPLITS, trainer

from glaucoma.base.params import Augment, Fit, Grid, Trial, columns, expand, group
from glaucoma.dataset.splits import Split
from glaucoma.model.cut import cut_all, cut_head
from glaucoma.train.fitting import class_weights, learning_rate
from glaucoma.train.pool import Processes
from glaucoma.train.ranking import rank
from glaucoma.train.search import Searcher

PIXELS, _ = small.images()
TRIAL = Trial(lr=0.01, optimizer="adam", batch_size=16, epochs=4)
TURNED = Augment(flip="both", rotation=20.0, zoom=0.1, brightness=0.1, contrast=0.1, colour=0.1)


def but(**options: object) -> tuple[Trial]:
    """A run of TRIAL with other options."""
    return (TRIAL.model_copy(update=options),)


def ended(**options: object):
    snapshots, failures = small.trained(trainer(), [but(**options)], SPLITS)
    assert not failures
    return snapshots[but(**options), 4]


@pytest.fixture(scope="module")
def plain():
    return ended()


def test_what_a_trial_is_called_and_hashed_by_does_not_change_where_it_is_the_reports():
    trial = Trial(lr=0.1, optimizer="sgd", batch_size=8, epochs=5)
    assert trial.as_dict() == {"lr": 0.1, "optimizer": "sgd", "batch_size": 8, "epochs": 5}
    other = trial.model_copy(update={"schedule": "cosine"})
    assert other.as_dict() == trial.as_dict() | {"schedule": "cosine"}
    assert (Trial(**trial.as_dict()), Trial(**other.as_dict())) == (trial, other)
    assert str(other) == "sgd lr 0.1 batch 8 epochs 5 schedule cosine"


def test_a_grid_lists_values_of_its_own_and_takes_the_rest_from_fit():
    grid = Grid(lr=[0.1], optimizer=["sgd"], batch_size=[8], epochs=[1, 3], label_smoothing=[0.0, 0.1])
    plain = {"class_weight": "none", "early_stopping": 0, "schedule": "constant", "precise_bn": False}
    trials = expand(grid, Fit(warmup=2, label_smoothing=0.5, **plain))
    assert [(trial.label_smoothing, trial.epochs) for trial in trials] == [(0.0, 1), (0.0, 3), (0.1, 1), (0.1, 3)]
    assert {trial.warmup for trial in trials} == {2}
    assert [row["label_smoothing"] for row in columns(trials)] == [0.0, 0.0, 0.1, 0.1]


@pytest.mark.parametrize(
    ("fit", "runs"),
    [
        ({}, 1),
        ({"label_smoothing": 0.1}, 1),
        ({"schedule": "plateau", "warmup": 1}, 1),
        ({"schedule": "cosine"}, 2),
        ({"early_stopping": 2}, 2),
    ],
)
def test_a_training_that_knows_its_end_shares_no_snapshots(fit: dict, runs: int):
    assert len(group(Trial(lr=0.1, optimizer="sgd", batch_size=8, epochs=epochs, **fit) for epochs in (2, 5))) == runs


def test_a_learning_rate_rises_and_falls_as_it_is_asked_to():
    def rates(**fit: object) -> list[float]:
        return [learning_rate(*small.run(1.0, "sgd", 8, (6,), **fit), epoch, 0.25) for epoch in range(6)]

    assert rates(warmup=3) == [0.25, 0.5, 0.75, 1.0, 0.25, 0.25]  # then it stays at its current value
    assert rates(schedule="cosine") == pytest.approx([(1 + np.cos(np.pi * e / 6)) / 2 for e in range(6)], abs=1e-6)
    falling = rates(schedule="cosine", warmup=2)
    assert falling[:3] == pytest.approx([1 / 3, 2 / 3, 1])
    assert falling[3:] == pytest.approx([(1 + np.cos(np.pi * e / 4)) / 2 for e in (1, 2, 3)], abs=1e-6)


@pytest.mark.parametrize(
    "fit",
    [{"class_weight": "balanced"}, {"label_smoothing": 0.3}, {"schedule": "cosine"}, {"warmup": 2}],
    ids=str,
)
def test_each_changes_what_is_learnt(fit: dict, plain):
    found = ended(**fit)
    assert not np.array_equal(found.weights[0], plain.weights[0])
    assert len(found.history) == 4


@pytest.mark.slow
def test_a_trainer_that_went_another_way_before_ends_as_a_new_one(plain):
    again = trainer()
    others = [but(class_weight="balanced", early_stopping=1), but(label_smoothing=0.2)]
    snapshots, _ = small.trained(again, [*others, but()], SPLITS)
    small.same(snapshots[but(), 4], plain)


def test_balanced_classes_weigh_as_much_as_all_their_images_do():
    train = SPLITS["train"]
    weights = class_weights(*but(class_weight="balanced"), train)
    counts = [int((~train.abnormal).sum()), int(train.abnormal.sum())]
    assert weights[0] * counts[0] == pytest.approx(weights[1] * counts[1]) == pytest.approx(len(train) / 2)
    only = Split(train.images[:3], train.rows[:3], np.array([True] * 3))
    assert class_weights(*but(class_weight="balanced"), only) == {0: 1.0, 1: 1.0}
    assert class_weights(TRIAL, train) is None


@pytest.mark.parametrize("precise", [False, True])
def test_training_that_stops_early_ends_with_the_weights_of_its_best_epoch(precise: bool):
    run = small.run(0.3, "adam", 8, (40,), early_stopping=2, precise_bn=precise)
    snapshots, _ = small.trained(trainer(), [run], SPLITS)
    found = snapshots[run, 40]
    losses = found.history["test_loss"].to_numpy()
    best = int(losses.argmin())
    assert len(losses) == best + 3 < 40
    short = small.run(0.3, "adam", 8, (best + 1,), precise_bn=precise)
    there = small.trained(trainer(), [short], SPLITS)[0][short, best + 1]
    floats = [[w for w in snapshot.weights if w.dtype.kind == "f"] for snapshot in (found, there)]
    small.same_arrays(*floats)  # dropout's generators advanced to the last epoch
    for name, log_odds in found.log_odds.items():
        np.testing.assert_array_equal(log_odds, there.log_odds[name])


def test_a_plateau_lowers_the_learning_rate():
    steady, lowered = small.run(0.3, "adam", 8, (12,)), small.run(0.3, "adam", 8, (12,), schedule="plateau")
    snapshots, _ = small.trained(trainer(), [steady, lowered], SPLITS)
    one, other = snapshots[steady, 12].history["loss"], snapshots[lowered, 12].history["loss"]
    assert one.iloc[0] == other.iloc[0]
    assert one.iloc[-1] != other.iloc[-1]


def searcher(state, cut=cut_head, **options) -> Searcher:
    return Searcher(cut(small.tiny_network()), PIXELS, SPLITS, seed=7, state=state, title="test", **options)


@pytest.mark.slow
def test_heads_are_trained_alone_where_one_is_not_the_reports_and_in_processes_end_the_same(tmp_path):
    trials = [
        Trial(lr=0.01, optimizer="adam", batch_size=16, epochs=2, schedule=name) for name in ("constant", "cosine")
    ]
    one = searcher(tmp_path / "one").train(trials)
    other = searcher(tmp_path / "other", pool=Processes(2)).train(trials)
    together = searcher(tmp_path / "together").train(trials[:1])
    for trial in trials:
        small.same(one[trial], other[trial])
    small.same(one[trials[0]], together[trials[0]])
    table, _ = rank(trials, one, {}, SPLITS["test"], "accuracy")
    assert sorted(table["param_schedule"]) == ["constant", "cosine"]
    assert "param_warmup" not in table


@pytest.mark.workflow
@pytest.mark.slow
def test_augmentation_changes_training_repeats_itself_and_is_no_part_of_the_network(tmp_path):
    trial = Trial(lr=0.01, optimizer="adam", batch_size=16, epochs=2)
    finished = {}
    for name, options in {"plain": {}, "one": {"augment": TURNED}, "other": {"augment": TURNED}}.items():
        search = searcher(tmp_path / name, cut_all, **options)
        finished[name] = search.train([trial])[trial]
        search.take(finished[name])
        found = search.cut.network.predict(PIXELS[SPLITS["test"].rows].astype("float32"), batch_size=16, verbose=0)
        np.testing.assert_allclose(found[:, 1], finished[name].probability["test"], rtol=1e-5)
        assert not any(layer.__class__.__name__.startswith("Random") for layer in search.cut.network.layers)
    small.same(finished["one"], finished["other"])
    assert not np.array_equal(finished["one"].weights[0], finished["plain"].weights[0])


def test_augmentation_that_changes_nothing_is_none_and_one_that_does_has_an_identity_of_its_own(tmp_path):
    off = Augment(flip="none", rotation=0.0, zoom=0.0, brightness=0.0, contrast=0.0, colour=0.0)
    trial, plain = Trial(lr=0.01, optimizer="adam", batch_size=16, epochs=2), searcher(tmp_path, cut_all)
    assert searcher(tmp_path, cut_all, augment=off).identity(trial) == plain.identity(trial)
    assert searcher(tmp_path, cut_all, augment=TURNED).identity(trial) != plain.identity(trial)


def test_augmentation_with_frozen_layers_trains_from_changed_pixels_not_from_cached_activations(tmp_path):
    trial = Trial(lr=0.01, optimizer="adam", batch_size=16, epochs=1)
    plain = searcher(tmp_path / "plain").train([trial])[trial]
    found = searcher(tmp_path / "turned", augment=TURNED).train([trial])[trial]
    assert not np.array_equal(found.weights[0], plain.weights[0])
    assert (tmp_path / "plain/activations").exists()
    assert not (tmp_path / "turned/activations").exists()
