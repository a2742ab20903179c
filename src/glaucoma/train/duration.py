"""Estimate how long a run takes on this machine by timing a few of its real steps.

It times process start with a fold's imports, network tracing, prediction, and training steps of stages 1 to 3, on noise
at the configured backbone and image size, and multiplies by images, epochs, trials and folds. Steps that take seconds
(audit, figures, the report) are left out.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from glaucoma.base.params import Augment, Params, Trial, group, views_of
from glaucoma.dataset.splits import Split
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import Cut, cut_of
from glaucoma.model.network import build_network
from glaucoma.model.regression import FLIPS
from glaucoma.model.runtime import fresh, keras, ready_to_predict
from glaucoma.train.outputs import MEASURED
from glaucoma.train.trainer import Follower, Run, Snapshot, Trainer

__all__ = ["Speed", "estimate", "measure"]

BATCHES = 3  # timed; the warm-up before them traces and allocates
LONE = ("controls", "explain", "backbone")  # other stages that start Keras
TEST = 0.1  # share of all images in the test split of a drawn fold


@dataclass(frozen=True)
class Speed:
    """Measured times, in seconds.

    Attributes:
        start: to start a process, import a fold's modules, and build and trace the network.
        predict: per image, prediction by the whole network.
        head, last, all: per image, a training step of stage 1, 2 and 3.
    """

    start: float
    predict: float
    head: float
    last: float
    all: float


def measure(params: Params) -> Speed:
    """Time real steps of the configured network, with random weights.

    Args:
        params: backbone, head, image size, optimizer, batch size and the other settings of a step.

    Raises:
        TrainingError: a batch does not fit into memory.
    """
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import glaucoma.train.fold_stage"], check=True)
    fresh(params.seed)
    size, batch, views = params.data.image_size, params.batch_size, len(views_of(params.data.crop))
    backbone = build_backbone(params.backbone.name, size, "none", views)
    network = build_network(backbone, dropout=params.head.dropout, blocks=params.head.blocks, seed=params.seed)
    images = BATCHES * batch
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, views * size, 3), np.uint8)
    every = _step(cut_of("stage3", network, params), [pixels], params, params.augment)
    start = time.perf_counter() - begin - 2 * every * images
    predict = _predict(network, pixels, batch)
    head, last = (_frozen(cut_of(stage, network, params), pixels, params, predict) for stage in ("stage1", "stage2"))
    fresh(params.seed)
    return Speed(max(start, 0.0), predict, head, last, every)


def estimate(params: Params, speed: Speed, images: int, reading: float) -> float:
    """Estimate how many seconds `dvc repro` takes.

    Args:
        params: as given to `measure`.
        speed: the result of `measure`.
        images: number of images.
        reading: seconds to decode an image and search for its disc.
    """
    valid, test = params.crossval.held_out * images, TEST * images
    train = images - valid - test

    def training(trials: Sequence[Trial], step: float) -> float:
        """Seconds of a search: each run is as long as its longest trial and predicts the test split every epoch."""
        epochs = sum(run[-1].epochs for run in group(trials))
        following = min(speed.predict, step) * test
        return epochs * (train * step + following)

    grids = {name: params.trials(name) for name in ("stage1", "stage2", "stage3")}
    steps = {"stage1": speed.head, "stage2": speed.last, "stage3": speed.all}
    searches = {name: training(trials, steps[name]) for name, trials in grids.items()}
    if params.crossval.model == "regression":  # one pass over all images, and in each fold a timed one over a few
        turns = len(FLIPS[params.regression.flips])
        fold = turns * MEASURED * speed.predict
        once = turns * images * speed.predict
    else:
        fold, once = _network(params, speed, searches, grids, training, test + valid), 0.0
    folds = len(params.crossval.folds)
    starts = (len(searches) + folds + len(LONE)) * speed.start
    passes = (len(LONE) + 2) * images * speed.predict  # controls, heat maps, activations for stages 1 and 2
    return starts + sum(searches.values()) + once + folds * fold + passes + 2 * images * reading  # the index reads too


def _network(
    params: Params,
    speed: Speed,
    searches: dict[str, float],
    grids: dict[str, list[Trial]],
    training: Callable[[Sequence[Trial], float], float],
    held_out: float,
) -> float:
    """Seconds per fold when the network is trained."""
    steps = {"stage1": speed.head, "stage2": speed.last}
    final = training([params.final()], speed.all)
    fold = final + speed.predict * held_out
    if params.crossval.warm_start == "fold":
        for name in ("stage1", "stage2"):
            longest = max(grids[name], key=lambda trial: trial.epochs)
            fold += searches[name] if params.search.nested else training([longest], steps[name])
    return fold


def _step(cut: Cut, arrays: Sequence[np.ndarray], params: Params, augment: Augment | None) -> float:
    """Seconds per image of a training step, measured on the second of two epochs."""
    images = len(arrays[0])
    names = tuple(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(images))
    whole = Split(names, np.arange(images), np.arange(images) % 2 == 0)
    splits = {"train": whole, "test": whole.take(range(min(2, images)))}
    ends: list[float] = []

    def epoch(run: Run, row: dict[str, float]) -> None:
        ends.append(time.perf_counter())

    def failure(run: Run, error: Exception) -> None:
        raise error

    def snapshot(trial: Trial, reached: Snapshot) -> None:
        pass

    trial = params.final().model_copy(update={"epochs": 2, "early_stopping": 0})
    trainer = Trainer(cut.tail, cut.tail.variables, arrays, params.seed, augment)
    trainer.train([(trial,)], splits, Follower(epoch, snapshot, failure))
    return (ends[1] - ends[0]) / images


def _frozen(cut: Cut, pixels: np.ndarray, params: Params, predict: float) -> float:
    """The same with a frozen trunk: on its cached outputs, or including its forward pass if they are not cached."""
    if cut.trunk is None:
        return _step(cut, [pixels], params, params.augment)
    found = cut.trunk.predict(pixels, batch_size=params.batch_size, verbose=0)
    step = _step(cut, found if isinstance(found, list) else [found], params, None)
    return step + predict if params.augment.is_on() else step


def _predict(network: keras.Model, pixels: np.ndarray, batch: int) -> float:
    """Seconds per image of a prediction, measured on the second of two passes."""
    ready_to_predict(network)
    for _ in range(2):
        begin = time.perf_counter()
        network.predict(pixels.astype("float32"), batch_size=batch, verbose=0)
        taken = time.perf_counter() - begin
    return taken / len(pixels)
