"""From the start of a process to the end of its first training step: every layer, Adam, batches of 16 at 96 px.

The obvious way imports Keras, builds the same network, compiles it with Keras' Adam and fits. Ours does what a fold's
stage does: imports, hashes of the training data, and a training whose optimizer updates all variables as one.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, main, run_part

BATCH = 16


def obvious(folder: Path, scale: Scale) -> dict[str, Any]:
    """Time at the end of the first step, the obvious way."""
    import keras
    from clock import Clock, clocked
    from material import network, pixels, splits
    from obvious import PLAIN

    scale = _small(scale)
    images, parts = pixels(folder, scale), splits(scale)
    model = network(scale)
    model.compile(optimizer=PLAIN["adam"](), loss=keras.losses.BinaryCrossentropy(), metrics=["accuracy"])
    with clocked(Clock(steps=True)) as clock:
        model.fit(images[: BATCH * 2].astype("float32"), _labels(parts), batch_size=BATCH, verbose=0)
    return {"ended": clock.first_step}


def ours(folder: Path, scale: Scale) -> dict[str, Any]:
    """Time at the end of the first step, in a fold's stage."""
    from clock import Clock, clocked
    from material import network, pixels, splits

    import glaucoma.train.fold_stage  # noqa: F401 - the stage's imports
    from glaucoma.base.params import Trial
    from glaucoma.model.cut import cut_all
    from glaucoma.train.search import Searcher

    scale = _small(scale)
    images, parts = pixels(folder, scale), splits(scale)
    searcher = Searcher(cut_all(network(scale)), images, parts, seed=SEED, state=folder / "state", title="first step")
    with clocked(Clock(steps=True)) as clock:
        searcher.train([Trial(lr=0.0001, optimizer="adam", batch_size=BATCH, epochs=1)])
    return {"ended": clock.first_step}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Both, each in a separate process, after a first one that fills the disk's cache."""
    seconds = {}
    for name, part in (("warm", ours), ("obvious", obvious), ("ours", ours)):
        begin = time.time()
        where = folder / f"start-{name}"
        where.mkdir()
        seconds[name] = run_part(part.__name__, part, where, scale, alone=not scale.tiny)["ended"] - begin
    what = f"process start to first trained step, every layer, Adam, {scale.start_size} px"
    how = f"one start each, after one to fill the disk's cache ({seconds['warm']:.1f} s)"
    return [Row(what, "s", seconds["obvious"], seconds["ours"], how, ours_aim=15)]


def _small(scale: Scale) -> Scale:
    return replace(scale, images=48, train=32, test=16, size=scale.start_size)


def _labels(parts: Any) -> Any:
    from glaucoma.model.batches import one_hot

    return one_hot(parts["train"].abnormal)


if __name__ == "__main__":
    main(__doc__, measure, obvious=obvious, ours=ours)
