import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small

from glaucoma.base.errors import ParamsError
from glaucoma.base.params import Trial
from glaucoma.dataset.splits import Split
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.model.network import reseed
from glaucoma.model.runtime import keras
from glaucoma.train import identity, journal
from glaucoma.train.identity import hash_model
from glaucoma.train.journal import Journal
from glaucoma.train.search import Searcher
from glaucoma.train.trainer import Snapshot

PIXELS, ABNORMAL = small.images()
SPLITS = small.splits(ABNORMAL)
TRIAL = Trial(lr=0.001, optimizer="adam", batch_size=16, epochs=10)


def snapshot(seed: int = 0, floats: int = 30) -> Snapshot:
    random = np.random.default_rng(seed)
    weights = [random.normal(size=(floats // 3, 3)).astype("float32"), np.array([1, 2], "uint32"), np.float32(0.5)]
    history = pd.DataFrame({"epoch": [1, 2], "loss": [0.7, 1 / 3], "accuracy": [0.1, 2e-17]})
    return Snapshot(2, [np.asarray(w) for w in weights], {"test": random.random(7)}, history, 1.25)


def test_what_was_written_is_read_bit_for_bit(tmp_path):
    kept = Journal(tmp_path / "trials")
    kept.write("one", snapshot())
    found = kept.read("one")
    small.same(found, snapshot())
    assert [w.dtype for w in found.weights] == [w.dtype for w in snapshot().weights]
    assert found.seconds == 1.25
    assert kept.read("other") is None


@pytest.mark.parametrize("file", ["weights.npz", "record.json"])
def test_a_trial_whose_file_is_missing_or_cut_short_counts_as_not_there(file, tmp_path):
    kept = Journal(tmp_path)
    kept.write("one", snapshot())
    path = tmp_path / "one" / file
    whole = path.read_bytes()
    for share in np.linspace(0, 0.99, 23):
        path.write_bytes(whole[: int(share * len(whole))])
        assert kept.read("one") is None, share
    path.unlink()
    assert kept.read("one") is None
    kept.write("one", snapshot())
    small.same(kept.read("one"), snapshot())


@pytest.mark.parametrize("text", ["null", "[]", "{}", '"text"', "\x00\xff", '{"epochs": 2}', '{"log_odds": [1, 2]}'])
def test_a_garbled_record_counts_as_not_there(text, tmp_path):
    kept = Journal(tmp_path)
    kept.write("one", snapshot())
    (tmp_path / "one" / "record.json").write_bytes(text.encode("latin-1"))
    assert kept.read("one") is None


def test_weights_without_their_record_count_as_not_there(tmp_path):
    """The record is written last: a process killed before leaves only weights."""
    kept = Journal(tmp_path)
    unwritable = snapshot()
    unwritable.history["loss"] = [0.7, float("nan")]  # writing the record fails
    with pytest.raises(ValueError, match="JSON"):
        kept.write("one", unwritable)
    assert [path.name for path in (tmp_path / "one").iterdir()] == ["weights.npz"]
    assert kept.read("one") is None


def age(folder: Path, seconds: float) -> None:
    then = folder.stat().st_mtime - seconds
    os.utime(folder, (then, then))


def test_pruning_deletes_what_was_used_longest_ago_and_never_what_is_kept(tmp_path, monkeypatch):
    kept = Journal(tmp_path)
    names = ["oldest", "older", "old", "young", "used"]
    for number, name in enumerate(names):
        kept.write(name, snapshot(floats=30_000))
        age(tmp_path / name, 1000 - number)
    age(tmp_path / "used", 5000)
    kept.read("used")
    size = sum(file.stat().st_size for file in (tmp_path / "oldest").iterdir())

    monkeypatch.setattr(journal, "GIGABYTES", 5.5 * size / 1e9)
    kept.prune(set())
    assert {path.name for path in tmp_path.iterdir()} == set(names)

    monkeypatch.setattr(journal, "GIGABYTES", 3.5 * size / 1e9)
    kept.prune({"oldest"})
    assert {path.name for path in tmp_path.iterdir()} == {"oldest", "young", "used"}

    monkeypatch.setattr(journal, "GIGABYTES", 0.0)
    kept.prune({"oldest", "young"})
    assert {path.name for path in tmp_path.iterdir()} == {"oldest", "young"}


def test_an_entry_that_another_process_is_writing_is_not_pruned(tmp_path, monkeypatch):
    monkeypatch.setattr(journal, "GIGABYTES", 0.0)
    made = tmp_path / "made"
    made.mkdir()
    (made / "weights.npz").write_bytes(b"half")
    Journal(tmp_path).prune(set())
    assert made.is_dir()
    os.utime(made, (0, 0))
    Journal(tmp_path).prune(set())
    assert not made.exists()


def test_pruning_a_journal_that_is_not_there_is_no_error(tmp_path):
    Journal(tmp_path / "trials").prune(set())


def searcher(tmp_path: Path, *, network=None, cut=cut_head, pixels=PIXELS, splits=SPLITS, seed=7, **options):
    return Searcher(
        cut(network or small.tiny_network()), pixels, splits, seed=seed, state=tmp_path, title="test", **options
    )


@pytest.fixture
def known(tmp_path) -> str:
    return searcher(tmp_path).identity(TRIAL)


def test_equal_circumstances_give_equal_identities(known, tmp_path):
    assert searcher(tmp_path / "elsewhere", cached=False).identity(TRIAL) == known
    assert searcher(tmp_path, pixels=PIXELS.copy()).identity(TRIAL) == known


@pytest.mark.parametrize(
    "other", [TRIAL.model_copy(update=change) for change in ({"lr": 0.01}, {"optimizer": "sgd"}, {"batch_size": 8})]
)
def test_every_hyperparameter_is_part_of_the_identity(other, known, tmp_path):
    assert searcher(tmp_path).identity(other) != known
    longer = TRIAL.model_copy(update={"epochs": 11})
    assert searcher(tmp_path).identity(longer) != known


def test_seed_pixels_labels_and_images_are_part_of_the_identity(known, tmp_path):
    assert searcher(tmp_path, seed=8).identity(TRIAL) != known

    for split in ("train", "test"):
        pixels = PIXELS.copy()
        pixels[SPLITS[split].rows[3], 4, 4, 1] ^= 1
        assert searcher(tmp_path, pixels=pixels).identity(TRIAL) != known

        was = SPLITS[split]
        label = was.abnormal.copy()
        label[2] = ~label[2]
        changed = {
            "label": Split(was.images, was.rows, label),
            "one image less": Split(was.images[1:], was.rows[1:], was.abnormal[1:]),
        }
        for what, part in changed.items():
            assert searcher(tmp_path, splits={**SPLITS, split: part}).identity(TRIAL) != known, what


def test_starting_weights_graph_and_what_is_frozen_are_part_of_the_identity(known, tmp_path):
    network = small.tiny_network()
    bias = network.get_layer("a_conv").bias
    bias.assign(bias + 1e-7)
    assert searcher(tmp_path, network=network).identity(TRIAL) != known
    assert searcher(tmp_path, network=small.tiny_network(seed=4)).identity(TRIAL) != known
    assert searcher(tmp_path, network=small.tiny_network(dropout=0.25)).identity(TRIAL) != known
    for cut in (lambda network: cut_last(network, 3), cut_all):
        assert searcher(tmp_path, cut=cut).identity(TRIAL) != known


@pytest.mark.parametrize(("part", "other"), [("training", json), ("describe", lambda: {"keras": "4.0"})])
def test_the_code_and_the_version_of_keras_are_part_of_the_identity(part, other, known, tmp_path, monkeypatch):
    monkeypatch.setattr(identity, part, other)
    identity.code_version.cache_clear()
    try:
        assert searcher(tmp_path).identity(TRIAL) != known
    finally:
        identity.code_version.cache_clear()


def test_a_network_that_was_saved_and_loaded_has_the_hash_of_the_one_that_was_built(tmp_path):
    network = small.efficientnet()
    path = tmp_path / "model.keras"
    save_model(network, path, {})
    loaded = load_model(path)
    reseed(network, 5)
    reseed(loaded, 5)
    hashes = set()
    for cut in (cut_head, cut_all, lambda network: cut_last(network, 20)):
        whole, tail = hash_model(cut(network).network), hash_model(cut(network).tail)
        assert [hash_model(cut(loaded).network), hash_model(cut(loaded).tail)] == [whole, tail]
        hashes |= {whole, tail}
    assert len(hashes) == 5  # if every layer is trained, the tail is the network


def test_a_models_hash_does_not_count_the_models_that_were_built_before():
    one = hash_model(small.tiny_network())
    keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2), keras.layers.Dropout(0.1)])
    assert hash_model(small.tiny_network()) == one


@pytest.mark.parametrize("given", ["abc", "-1", "nan"])
def test_a_bound_that_is_no_number_is_refused_before_anything_is_trained(given, monkeypatch, tmp_path):
    monkeypatch.setenv("GLAUCOMA_STATE_GB", given)
    with pytest.raises(ParamsError, match="GLAUCOMA_STATE_GB"):
        Journal(tmp_path)
