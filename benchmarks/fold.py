"""A cross-validation fold, every layer trained with Adam in batches of 16: our epochs against a bare loop.

The bare loop calls the same compiled step on batches that lie ready in memory, predicts the test images as plainly, and
does nothing else.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, main, run_part

BATCH = 16


def both(folder: Path, scale: Scale) -> dict[str, Any]:
    """Images per second, trained and tested, of a later epoch and of the bare loop after it."""
    import numpy as np
    from clock import Clock, clocked
    from material import network, pixels, splits

    from glaucoma.model.cut import cut_all
    from glaucoma.model.runtime import keras
    from glaucoma.search.batches import Batches
    from glaucoma.search.grid import Trial
    from glaucoma.search.search import Searcher

    images, parts = pixels(folder, scale), splits(scale, short=True)
    trial, whole = Trial(0.0001, "adam", BATCH, 3), cut_all(network(scale))
    searcher = Searcher(whole, images, parts, seed=SEED, state=folder / "state", title="fold")
    with clocked(Clock()) as clock:
        searcher.train([trial])
    model, epoch = clock.model, clock.fits[0][1]

    def ready(part: str) -> list[Any]:
        split = parts[part]
        batches = Batches(
            [images], split.rows, split.abnormal, batch_size=BATCH, seed=SEED if part == "train" else None
        )
        return [tuple(map(keras.ops.convert_to_tensor, batches[i])) for i in range(len(batches))]

    train, test = ready("train"), ready("test")

    def epoch_of(train: list[Any], test: list[Any]) -> None:
        left = iter(train)
        for _ in train:
            logs = model.train_function(left)
        float(np.asarray(logs["loss"]))  # waits for it
        for inputs, _ in test:
            np.asarray(model.predict_function([(inputs,)]))

    model.make_predict_function()
    epoch_of(train[:2], test[:1])  # traces
    begin = time.perf_counter()
    epoch_of(train, test)
    bare = time.perf_counter() - begin
    count = len(parts["train"]) + len(parts["test"])
    return {"ours": count / sum(epoch.values()), "bare": count / bare, "images": count}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Both in one process, one after the other."""
    found = run_part("both", both, folder, scale, alone=not scale.tiny)
    what = f"a fold, every layer, batch {BATCH}, {scale.size} px, training and validation"
    how = f"one epoch of {found['images']} images each"
    return [Row(what, "images/s", found["bare"], found["ours"], how, "the same compiled step", 0.9)]


if __name__ == "__main__":
    main(__doc__, measure, both=both)
