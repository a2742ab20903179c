"""A cross-validation fold, every layer trained with Adam in batches of 16, compared with plain Keras and a bare loop.

Plain Keras compiles and fits the network as the report did. The bare loop calls our compiled step on batches prepared
in memory, predicts the test images likewise, and does nothing else. An epoch followed by the computation of batch
statistics (`fit.precise_bn`) is compared with an epoch without it.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, equality, main, run_part

BATCH, EPOCHS = 16, 3


def plain(folder: Path, scale: Scale) -> dict[str, Any]:
    """Images per second, in training and testing, of the fastest epoch after the first."""
    import numpy as np
    from clock import steady
    from material import network, pixels, splits
    from obvious import train

    from glaucoma.base.params import Trial
    from glaucoma.model.cut import cut_all

    parts, trial = splits(scale, short=True), Trial(lr=0.0001, optimizer="adam", batch_size=BATCH, epochs=EPOCHS)
    ended = train(lambda: cut_all(network(scale)), pixels(folder, scale), parts, trial)
    np.savez(folder / "obvious.npz", *ended.weights, probability=ended.probability)
    return {"plain": (len(parts["train"]) + len(parts["test"])) / sum(steady(ended.epochs).values())}


def both(folder: Path, scale: Scale) -> dict[str, Any]:
    """Images per second in training and testing: our fastest epoch, with statistics, a later one and the bare loop."""
    import numpy as np
    from clock import Clock, clocked, steady
    from material import network, pixels, splits
    from obvious import difference

    from glaucoma.base.params import Trial
    from glaucoma.model.batch_norm import BatchStatistics
    from glaucoma.model.batches import Batches
    from glaucoma.model.cut import cut_all
    from glaucoma.model.runtime import keras
    from glaucoma.train.fitting import statistics_rows
    from glaucoma.train.search import Searcher

    images, parts = pixels(folder, scale), splits(scale, short=True)
    trial, whole = Trial(lr=0.0001, optimizer="adam", batch_size=BATCH, epochs=EPOCHS), cut_all(network(scale))
    searcher = Searcher(whole, images, parts, seed=SEED, state=folder / "state", title="fold")
    with clocked(Clock()) as clock:
        ended = searcher.train([trial])[trial]
    apart = difference(folder, ended.weights, ended.probability["test"])
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
    rows = statistics_rows(parts["train"], SEED, whole=False)
    statistics, passes = BatchStatistics(whole.network), []
    for _ in range(EPOCHS):
        begin = time.perf_counter()
        with statistics.of(Batches([images], rows, None, batch_size=BATCH)):
            passes.append(time.perf_counter() - begin)
    count = len(parts["train"]) + len(parts["test"])
    speeds = {"fastest": steady(clock.fits[0]), "ours": epoch, "bare": {"all": bare}}
    speeds["followed"] = speeds["fastest"] | {"statistics": min(passes)}
    return {name: count / sum(seconds.values()) for name, seconds in speeds.items()} | {"images": count, "apart": apart}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Plain Keras in a separate process, then ours and the bare loop in one, one after the other."""
    theirs, found = (run_part(part.__name__, part, folder, scale, alone=not scale.tiny) for part in (plain, both))
    what = f"every layer, batch {BATCH}, {scale.size} px, training and validation"
    how = f"the fastest epoch of {found['images']} images after the first, of {EPOCHS}"
    equal = f"{equality(found['apart'])} (rounding, as Adam enlarges it)"
    bare, same = f"one epoch of {found['images']} images each", "the same compiled step"
    passes = f"that epoch, and the fastest of {EPOCHS} passes over half of its train images"
    return [
        Row(f"a fold, {what}", "images/s", theirs["plain"], found["fastest"], how, equal),
        Row(f"with batch statistics, {what}", "images/s", found["fastest"], found["followed"], passes, "", 0.87),
        Row(f"a bare loop, {what}", "images/s", found["bare"], found["ours"], bare, same, 0.9),
    ]


if __name__ == "__main__":
    main(__doc__, measure, plain=plain, both=both)
