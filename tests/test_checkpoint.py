"""A training that is stopped between two epochs and resumed ends as one that was not."""

from contextlib import nullcontext
from functools import cache

import numpy as np
import pytest
import small

from glaucoma.base.params import Augment
from glaucoma.train import checkpoint
from glaucoma.train.trainer import Follower, Trainer

PIXELS, ABNORMAL = small.images()
SPLITS = small.splits(ABNORMAL)
FEATURES = small.features(PIXELS)
STOPPED_AFTER = 4


class Told(list):
    """A run's snapshots; `resumed` is the number of epochs that were not trained again."""

    resumed = 0


@cache
def trainer(name: str, augment: Augment | None = None) -> Trainer:
    """One of two trainers, each compiled once."""
    network = small.tiny_network() if augment else small.tiny_head()
    return Trainer(network, network.variables, [PIXELS if augment else FEATURES], 7, augment)


def train(run, file=None, stop=0, augment=None) -> Told:
    """Train from the checkpoint in `file`, in another trainer than those without; Ctrl-C after `stop` epochs."""
    resumes = file is not None and file.exists()
    told = Told()

    def epoch(run, row):
        if row["epoch"] == stop + 1:
            raise KeyboardInterrupt

    follower = Follower(
        epoch=epoch if stop else lambda run, row: None,
        snapshot=lambda trial, reached: told.append(reached),
        failure=lambda run, error: pytest.fail(str(error)),
        checkpoint=lambda trial: file,
        resumed=lambda run, epochs: setattr(told, "resumed", epochs),
    )
    with pytest.raises(KeyboardInterrupt) if stop else nullcontext():
        trainer("second" if resumes else "first", augment).train([run], SPLITS, follower)
    return told


@pytest.fixture(autouse=True)
def _every_epoch(monkeypatch):
    monkeypatch.setattr(checkpoint, "INTERVAL", 0)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"schedule": "cosine", "warmup": 2},
        {"schedule": "plateau", "lr": 0.3},
        {"early_stopping": 4, "lr": 0.1},
        {"precise_bn": True},
    ],
    ids=lambda options: ", ".join(options) or "plain",
)
def test_a_stopped_training_ends_in_the_bytes_of_an_undisturbed_one(options, tmp_path):
    given = dict(options)
    run = small.run(given.pop("lr", 0.01), "adam", 8, (9,), **given)
    (undisturbed,) = train(run)
    assert not train(run, tmp_path / "checkpoint.npz", stop=STOPPED_AFTER)

    resumed = train(run, tmp_path / "checkpoint.npz")

    assert resumed.resumed == STOPPED_AFTER
    small.same(undisturbed, resumed[0])


def test_augmentation_continues_with_the_changes_that_were_next(tmp_path):
    run = small.run(0.01, "sgd", 16, (3,))
    augment = Augment(flip="both", rotation=0, zoom=0, brightness=0.2, contrast=0, colour=0)
    (undisturbed,) = train(run, augment=augment)
    train(run, tmp_path / "checkpoint.npz", stop=2, augment=augment)

    resumed = train(run, tmp_path / "checkpoint.npz", augment=augment)

    assert resumed.resumed == 2
    small.same(undisturbed, resumed[0])


def test_a_shorter_trial_that_is_still_missing_is_trained_from_the_start(tmp_path):
    run = small.run(0.01, "adam", 16, (3, 6))
    undisturbed = train(run)
    train(run, tmp_path / "checkpoint.npz", stop=STOPPED_AFTER)

    again = train(run, tmp_path / "checkpoint.npz")

    assert again.resumed == 0
    for one, other in zip(undisturbed, again, strict=True):
        small.same(one, other)


@pytest.mark.parametrize("kept", [0, 100, 0.5, -1])
def test_a_damaged_checkpoint_counts_as_none(kept, tmp_path):
    run, file = small.run(0.01, "adam", 16, (6,)), tmp_path / "checkpoint.npz"
    train(run, file, stop=STOPPED_AFTER)
    whole = file.read_bytes()
    file.write_bytes(whole[: kept if isinstance(kept, int) else int(len(whole) * kept)])

    again = train(run, file)

    assert again.resumed == 0
    small.same(train(run)[0], again[0])


def test_a_minute_of_training_is_between_two_checkpoints(monkeypatch, tmp_path):
    monkeypatch.setattr(checkpoint, "INTERVAL", np.inf)
    train(small.run(0.01, "adam", 16, (3,)), tmp_path / "checkpoint.npz")
    assert list(tmp_path.iterdir()) == []
