"""How long a run will take on this machine: a handful of its real steps are taken and timed.

What is timed: starting Keras and tracing a network, predictions, and training steps of the head, of stage 2's layers
and of every layer, of the backbone and at the size that params name, on noise. What is multiplied: images, epochs,
trials and folds. Left out is what takes seconds: audit, figures, the report.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from glaucoma.data.splits import Split
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import Cut, cut_all, cut_head, cut_last
from glaucoma.model.network import build_network
from glaucoma.model.regression import FLIPS
from glaucoma.model.runtime import fresh, keras, ready_to_predict
from glaucoma.params import Augment, Params, views_of
from glaucoma.pipeline.outputs import MEASURED
from glaucoma.search.grid import Run, Trial, expand, fit_of, group
from glaucoma.search.training import Follower, Snapshot, Trainer

__all__ = ["Speed", "estimate", "measure"]

BATCHES = 3  # that are timed; the first ones, which trace and allocate, are not
LONE = ("controls", "explain", "backbone")  # other stages that start Keras
TEST = 0.1  # share of all images that each drawn fold tests on


@dataclass(frozen=True)
class Speed:
    """What was measured, in seconds.

    Attributes:
        start: for a process to import Keras and to trace and take its first step on every layer.
        predict: for an image to pass through the whole network.
        head, last, all: for an image in a training step of what stage 1, 2 and 3 train.
    """

    start: float
    predict: float
    head: float
    last: float
    all: float


def measure(params: Params, started: float) -> Speed:
    """Take real steps with the network that params ask for, its weights random.

    Args:
        params: backbone, head, image size, optimizer, batch size and what else decides a step.
        started: `time.perf_counter()` before this module was imported.

    Raises:
        TrainingError: not even one batch fits into memory.
    """
    fresh(params.seed)
    size, batch, views = params.data.image_size, params.batch_size, len(views_of(params.data.crop))
    backbone = build_backbone(params.backbone.name, size, "none", views)
    network = build_network(backbone, dropout=params.head.dropout, blocks=params.head.blocks, seed=params.seed)
    images = BATCHES * batch
    pixels = np.random.default_rng(0).integers(0, 256, (images, size, views * size, 3), np.uint8)
    every = _step(cut_all(network), [pixels], params, params.augment)
    start = time.perf_counter() - started - 2 * every * images
    predict = _predict(network, pixels, batch)
    head, last = (
        _frozen(cut, pixels, params, predict)
        for cut in (cut_head(network), cut_last(network, params.stage2.unfreeze_last))
    )
    fresh(params.seed)
    return Speed(max(start, 0.0), predict, head, last, every)


def estimate(params: Params, speed: Speed, images: int, reading: float) -> float:
    """Seconds that `dvc repro` will take.

    Args:
        params: as `measure` got them.
        speed: what it measured.
        images: how many there are.
        reading: seconds to decode one and look for its disc.
    """
    valid, test = params.crossval.held_out * images, TEST * images
    train = images - valid - test

    def training(trials: Sequence[Trial], step: float) -> float:
        """Runs of a search, each as long as its longest trial, with the test split predicted after each epoch."""
        epochs = sum(run.epochs[-1] for run in group(trials))
        following = min(speed.predict, step) * test
        return epochs * (train * step + following)

    fit = fit_of(params)
    grids = {name: expand(getattr(params, name).grid, fit) for name in ("stage1", "stage2", "stage3")}
    steps = {"stage1": speed.head, "stage2": speed.last, "stage3": speed.all}
    searches = {name: training(trials, steps[name]) for name, trials in grids.items()}
    if params.crossval.model == "regression":  # one pass of all images, and a timed one of some in each fold
        turns = len(FLIPS[params.regression.flips])
        fold = turns * MEASURED * speed.predict
        once = turns * images * speed.predict
    else:
        fold, once = _network(params, speed, searches, grids, training, test + valid), 0.0
    folds = len(params.crossval.folds)
    starts = (len(searches) + folds + len(LONE)) * speed.start
    passes = (len(LONE) + 2) * images * speed.predict  # controls, heat maps, and activations where stages 1 and 2 end
    return starts + sum(searches.values()) + once + folds * fold + passes + 2 * images * reading  # the index reads, too


def _network(
    params: Params,
    speed: Speed,
    searches: dict[str, float],
    grids: dict[str, list[Trial]],
    training: Callable[[Sequence[Trial], float], float],
    held_out: float,
) -> float:
    """Seconds of a fold whose network is trained."""
    steps, fit = {"stage1": speed.head, "stage2": speed.last}, fit_of(params)
    final = training([Trial(params.lr, params.optimizer, params.batch_size, params.epochs, fit)], speed.all)
    fold = final + speed.predict * held_out
    if params.crossval.warm_start == "fold":
        for name in ("stage1", "stage2"):
            longest = max(grids[name], key=lambda trial: trial.epochs)
            fold += searches[name] if params.search.nested else training([longest], steps[name])
    return fold


def _step(cut: Cut, arrays: Sequence[np.ndarray], params: Params, augment: Augment | None) -> float:
    """Seconds an image of a training step, measured in the second of two epochs."""
    images, batch = len(arrays[0]), params.batch_size
    names = tuple(hashlib.sha256(bytes([i % 256, i // 256])).hexdigest() for i in range(images))
    whole = Split(names, np.arange(images), np.arange(images) % 2 == 0)
    splits = {"train": whole, "test": whole.take(range(min(2, images)))}
    ends: list[float] = []

    def epoch(run: Run, row: dict[str, float]) -> None:
        ends.append(time.perf_counter())

    def failure(run: Run, error: Exception) -> None:
        raise error

    def snapshot(run: Run, reached: Snapshot) -> None:
        pass

    fit = replace(fit_of(params), early_stopping=0)
    trainer = Trainer(cut.tail, cut.tail.variables, arrays, params.seed, augment)
    trainer.train([Run(params.lr, params.optimizer, batch, (2,), fit)], splits, Follower(epoch, snapshot, failure))
    return (ends[1] - ends[0]) / images


def _frozen(cut: Cut, pixels: np.ndarray, params: Params, predict: float) -> float:
    """The same where a trunk is frozen: on its outputs, or, where those are not kept, after its pass."""
    if cut.trunk is None:
        return _step(cut, [pixels], params, params.augment)
    found = cut.trunk.predict(pixels, batch_size=params.batch_size, verbose=0)
    step = _step(cut, found if isinstance(found, list) else [found], params, None)
    return step if params.search.cache else step + predict


def _predict(network: keras.Model, pixels: np.ndarray, batch: int) -> float:
    """Seconds an image of a prediction, measured on the second of two."""
    ready_to_predict(network)
    for _ in range(2):
        begin = time.perf_counter()
        network.predict(pixels.astype("float32"), batch_size=batch, verbose=0)
        taken = time.perf_counter() - begin
    return taken / len(pixels)
