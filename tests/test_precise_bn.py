"""Recomputed batch statistics: their values, their layers, and that they do not affect training."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import small

from glaucoma.base.errors import TrainingError
from glaucoma.base.params import Augment, Trial, columns
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import scores
from glaucoma.model.batch_norm import BatchStatistics, one_kernel
from glaucoma.model.batches import Batches
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.model.network import values
from glaucoma.model.runtime import keras
from glaucoma.train.fitting import statistics_rows
from glaucoma.train.search import Searcher
from glaucoma.train.trainer import Trainer

PIXELS, ABNORMAL = small.images()
FEATURES = small.features(PIXELS)
SPLITS = small.splits(ABNORMAL)
PRECISE = {"precise_bn": True}
RUN = small.run(0.01, "adam", 8, (1, 3), **PRECISE)
TURNED = Augment(flip="both", rotation=0.0, zoom=0.0, brightness=0.1, contrast=0.0, colour=0.0)


def moving(network: keras.Model) -> dict[str, list[np.ndarray]]:
    """Moving mean and variance of each batch normalisation, by the layer's name."""
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    return {norm.name: values([norm.moving_mean, norm.moving_variance]) for norm in norms}


def head_trainer() -> Trainer:
    head = small.tiny_head()
    return Trainer(head, head.variables, [FEATURES], seed=7)


def searcher(state, cut=cut_all, **options) -> Searcher:
    return Searcher(cut(small.tiny_network()), PIXELS, SPLITS, seed=7, state=state, title="test", **options)


@pytest.fixture(scope="module")
def undisturbed() -> dict:
    """The snapshots of `RUN` by a new trainer."""
    return small.trained(head_trainer(), [RUN], SPLITS)[0]


# Values


def on_maps_and_vectors() -> keras.Model:
    """Batch normalisation of maps and of a vector, with layers in between that must be inactive in the pass."""
    keras.utils.set_random_seed(3)
    inputs = keras.Input((5, 4, 3))
    x = keras.layers.Conv2D(6, 1, use_bias=False, name="conv")(inputs)
    x = keras.layers.BatchNormalization(name="maps", beta_initializer="glorot_uniform")(x)
    x = keras.layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(keras.layers.Activation("relu")(x))
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Dropout(0.4)(x))
    x = keras.layers.BatchNormalization(name="vector", scale=False)(x)
    return keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))


def test_they_are_the_mean_over_images_and_the_variance_within_and_between_batches():
    given = np.random.default_rng(4).normal(50, 20, (38, 5, 4, 3)).astype("float32")
    network = on_maps_and_vectors()
    maps, vector = network.get_layer("maps"), network.get_layer("vector")
    kernel = values([network.get_layer("conv").kernel])[0][0, 0].astype("float64")
    shift = values([maps.beta])[0]
    sizes, found = [], {"maps": [], "vector": []}
    for start in range(0, len(given), 12):  # 12, 12, 12 and 2
        batch = given[start : start + 12] @ kernel
        sizes.append(len(batch))
        found["maps"].append((batch.mean(axis=(0, 1, 2)), batch.var(axis=(0, 1, 2))))
        normal = (batch - found["maps"][-1][0]) / np.sqrt(found["maps"][-1][1] + maps.epsilon) + shift
        pooled = np.maximum(normal, 0).mean(axis=(1, 2))
        found["vector"].append((pooled.mean(axis=0), pooled.var(axis=0)))

    before = values(network.variables)
    with BatchStatistics(network).of(Batches([given], np.arange(len(given)), None, batch_size=12)):
        within = moving(network)
        for variable, was in zip(network.variables, before, strict=True):
            assert np.array_equal(values([variable])[0], was) is ("moving" not in variable.name), variable.path
    small.same_arrays(values(network.variables), before)
    for layer in (maps, vector):
        mean = np.average([m for m, _ in found[layer.name]], axis=0, weights=sizes)
        square = np.average([v + m**2 for m, v in found[layer.name]], axis=0, weights=sizes)
        np.testing.assert_allclose(within[layer.name][0], mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(within[layer.name][1], square - mean**2, rtol=1e-4)
    everything = given @ kernel
    np.testing.assert_allclose(within["maps"][1], everything.var(axis=(0, 1, 2)), rtol=1e-4)


def test_a_layer_is_called_as_before_once_they_are_computed_also_while_it_is_one_kernel():
    network = on_maps_and_vectors()
    batches = Batches([np.ones((6, 5, 4, 3), "float32")], np.arange(6), None, batch_size=3)
    with one_kernel(network):
        own = [vars(layer).get("call") for layer in network.layers]
        with BatchStatistics(network).of(batches), pytest.raises(ZeroDivisionError):
            1 / 0  # noqa: B018
        assert [vars(layer).get("call") for layer in network.layers] == own
    assert not any("call" in vars(layer) for layer in network.layers)


def test_a_model_without_a_trained_batch_normalisation_is_left_alone():
    network = on_maps_and_vectors()
    network.trainable = False
    before = values(network.variables)
    with BatchStatistics(network).of(Batches([PIXELS], np.arange(3), None, batch_size=3)):
        small.same_arrays(values(network.variables), before)


def test_they_come_from_train_alone_from_half_of_it_or_all_and_from_2000_images_at_most():
    train = Split(tuple(f"{i}" for i in range(5_000)), np.arange(100, 5_100), np.arange(5_000) < 2_000)
    part, whole = (statistics_rows(train, 7, whole=whole) for whole in (False, True))
    assert len(part) == len(whole) == len(set(whole)) == 2_000
    assert set(whole) < set(train.rows)
    assert 0.3 < np.isin(whole, train.rows[train.abnormal]).mean() < 0.5
    few = replace(train, images=train.images[:77], rows=train.rows[:77], abnormal=train.abnormal[:77])
    part, whole = (statistics_rows(few, 7, whole=whole) for whole in (False, True))
    assert sorted(whole) == few.rows.tolist()
    assert part.tolist() == whole[:39].tolist()
    assert statistics_rows(few, 8, whole=True).tolist() != whole.tolist()


# Final states of trials


@pytest.mark.parametrize(
    ("cut", "options"),
    [
        (cut_head, {}),
        (lambda network: cut_last(network, 4), {}),
        (lambda network: cut_last(network, 4), {"cached": False, "augment": TURNED}),
        (cut_all, {"augment": TURNED}),
    ],
    ids=["stage 1", "stage 2", "stage 2 from pixels, augmented", "stage 3, augmented"],
)
def test_a_trial_ends_with_those_of_its_own_weights_and_plain_images_and_frozen_layers_keep_theirs(
    cut, options, tmp_path
):
    trial = Trial(lr=0.01, optimizer="adam", batch_size=8, epochs=2, **PRECISE)
    search = searcher(tmp_path, cut, **options)
    before = moving(search.cut.network)
    snapshot = search.train([trial])[trial]
    search.take(snapshot)
    ended = moving(search.cut.network)
    trained = [name for name in before if search.cut.network.get_layer(name).trainable]
    assert ("a_bn" in trained) is (cut is cut_all)
    assert "head_bn" in trained
    rows = statistics_rows(SPLITS["train"], 7, whole=True)
    with BatchStatistics(search.cut.network).of(Batches([PIXELS], rows, None, batch_size=8)):
        for name, found in moving(search.cut.network).items():
            if name in trained:
                for one, other in zip(ended[name], found, strict=True):
                    np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-6)
                assert not np.array_equal(ended[name][0], before[name][0])
            else:
                small.same_arrays(ended[name], before[name])
    for name, split in SPLITS.items():
        found = search.cut.network.predict(PIXELS[split.rows].astype("float32"), verbose=0)[:, 1]
        np.testing.assert_allclose(found, snapshot.probability[name], rtol=1e-4)


def test_training_itself_knows_nothing_of_them_and_does_not_depend_on_when_it_is_looked_at(undisturbed):
    trainer = head_trainer()
    plain, short = small.run(0.01, "adam", 8, (1, 3)), RUN[:1]
    (shorter,) = small.trained(trainer, [short], SPLITS)[0].values()
    small.same(shorter, undisturbed[RUN, short[0].epochs])
    snapshots, failures = small.trained(trainer, [plain, RUN], SPLITS)
    assert not failures
    for epochs in (trial.epochs for trial in RUN):
        precise, other = snapshots[RUN, epochs], snapshots[plain, epochs]
        for variable, one, two in zip(trainer.variables, precise.weights, other.weights, strict=True):
            assert np.array_equal(one, two) is ("moving" not in variable.name), variable.path
        assert precise.history["loss"].tolist() == other.history["loss"].tolist()
        small.same(precise, undisturbed[RUN, epochs])


def test_the_last_row_of_a_history_is_what_the_snapshot_predicts(undisturbed):
    for snapshot in undisturbed.values():
        found, last = scores(SPLITS["test"].abnormal, log_odds=snapshot.log_odds["test"]), snapshot.history.iloc[-1]
        assert found["accuracy"] == pytest.approx(last["test_accuracy"])
        assert found["log_loss"] == pytest.approx(last["test_loss"], abs=1e-5)
    assert len(undisturbed) == 2


@pytest.mark.slow
def test_heads_side_by_side_end_as_each_alone_whatever_the_others_ask_for(tmp_path):
    kinds = ((0.01, 2, False), (0.01, 3, True), (0.1, 2, True), (0.1, 3, False))
    trials = [
        Trial(lr=lr, optimizer="adam", batch_size=8, epochs=epochs, precise_bn=precise) for lr, epochs, precise in kinds
    ]
    together = searcher(tmp_path, cut_head).train(trials)
    assert [row["precise_bn"] for row in columns(trials)] == [False, True, True, False]
    search = searcher(tmp_path / "alone", cut_head)
    trainer = Trainer(search.cut.tail, search.cut.tail.variables, search._arrays(), 7)
    for trial in trials:
        small.same(together[trial], small.trained(trainer, [(trial,)], SPLITS)[0][(trial,), trial.epochs])


def test_they_are_part_of_a_trials_identity_and_of_its_name_only_where_they_are_asked_for(tmp_path):
    trial, plain = (
        Trial(lr=0.01, optimizer="adam", batch_size=8, epochs=2, **PRECISE),
        Trial(lr=0.01, optimizer="adam", batch_size=8, epochs=2),
    )
    search = searcher(tmp_path)
    assert search.identity(trial) != search.identity(plain)
    assert trial.as_dict() == plain.as_dict() | {"precise_bn": True}
    assert Trial(**trial.as_dict()) == trial


def test_a_run_that_diverges_is_still_told_with_its_reason(undisturbed):
    exploding = small.run(1e38, "sgd", 16, (2, 3), **PRECISE)
    snapshots, failures = small.trained(head_trainer(), [exploding, RUN], SPLITS)
    assert list(failures) == [exploding]
    assert isinstance(failures[exploding], TrainingError)
    assert "diverged" in failures[exploding].found
    small.same(snapshots[RUN, 3], undisturbed[RUN, 3])


def test_a_network_that_ten_steps_leave_with_the_statistics_of_its_start_is_mended(tmp_path):
    """It separates the classes, but with moving averages it gives the same answer for every image."""
    trials = [
        Trial(lr=0.03, optimizer="adam", batch_size=8, epochs=2),
        Trial(lr=0.03, optimizer="adam", batch_size=8, epochs=2, **PRECISE),
    ]
    found = searcher(tmp_path).train(trials)
    broken, mended = ({name: found[trial].probability[name] >= 0.5 for name in SPLITS} for trial in trials)
    for name, split in SPLITS.items():
        assert len(set(broken[name])) == 1
        assert (mended[name] == split.abnormal).mean() >= 0.9
    followed = found[trials[1]].history["test_f1_macro"]
    assert followed.min() > 0.8
    assert found[trials[0]].history["test_f1_macro"].max() < 0.5


@pytest.mark.parametrize("backend", sorted({"tensorflow", "jax", "torch"} - {keras.backend.backend()}))
def test_other_backends_compute_the_same_and_train_as_well_with_them(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    ours = "they_are_the or called_as or knows_nothing or ten_steps"
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k", ours],
        env={**os.environ, "KERAS_BACKEND": backend},
        capture_output=True,
        text=True,
        timeout=800,
    )
    assert ran.returncode == 0, ran.stdout[-4000:]
