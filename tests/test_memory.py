import numpy as np
import pytest
import small

from glaucoma.base.errors import TrainingError
from glaucoma.dataset.splits import Split
from glaucoma.model.runtime import keras
from glaucoma.train import memory
from glaucoma.train.memory import check_memory, least_memory, memory_there
from glaucoma.train.trainer import Trainer


@pytest.fixture(autouse=True)
def _without_a_gpu(monkeypatch):
    """This machine may have a GPU, whose memory is not checked."""
    monkeypatch.setattr(memory, "_has_gpu", lambda: False)


def test_a_training_that_fits_is_let_through():
    check_memory(small.tiny_network(), 64, "a trial")
    assert 1e8 < memory_there() < 1e15


def test_one_that_cannot_fit_is_refused_with_what_it_takes_and_what_there_is():
    with pytest.raises(
        TrainingError, match=r"a trial: 100000000 images a batch take at least \d+ GB, and there are \d+"
    ):
        check_memory(small.tiny_network(), 10**8, "a trial")


def test_a_gpu_is_left_to_its_backend(monkeypatch):
    monkeypatch.setattr(memory, "_has_gpu", lambda: True)
    check_memory(small.tiny_network(), 10**8, "a trial")


def test_memory_grows_with_the_batch_and_with_what_is_trained():
    network = small.tiny_network()
    one, two, three = (least_memory(network, images) for images in (1, 2, 3))
    assert three - two == two - one > 0
    network.trainable = False
    assert least_memory(network, 1) < one


def test_trials_too_large_for_memory_fail_one_by_one_before_they_start():
    inputs = keras.Input((2,))
    wide = keras.layers.Dense(10**6, use_bias=False)(inputs)
    network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(wide))
    count = int(memory_there() / 1e6)  # images of a million floats each, half of which count
    features = np.broadcast_to(np.float32(0.5), (count, 2))
    few = np.arange(4)
    split = Split(("",) * count, np.arange(count), np.arange(count) % 2 == 0)
    test = Split(("",) * 4, few, few % 2 == 0)
    large, larger = small.run(0.001, "sgd", count, (1,)), small.run(0.002, "sgd", count + 1, (1,))
    trainer = Trainer(network, network.variables, [features], 1)
    snapshots, failures = small.trained(trainer, [large, larger], {"train": split, "test": test})
    assert not snapshots
    assert all("GB" in str(failures[run]) for run in (large, larger))
