"""EfficientNetLite0 against EfficientNetB0 at 160 px in batches of 16: every layer trained with Adam, and prediction.

Both networks train in one process, in turns, and the fastest turn of each counts, so that other load on the machine
does not affect only one of them.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, main, run_part

SIZE, BATCH, TURNS, STEPS = 160, 16, 7, 6
NAMES = ("EfficientNetB0", "EfficientNetLite0")


def turns(folder: Path, scale: Scale) -> dict[str, Any]:
    """Images per second of each network's fastest turn, in training and prediction."""
    import numpy as np
    from clock import Clock, clocked
    from material import network, pixels, splits

    from glaucoma.base.params import Trial
    from glaucoma.model.batches import Batches
    from glaucoma.model.cut import cut_all
    from glaucoma.model.runtime import keras
    from glaucoma.train.search import Searcher

    images, parts = pixels(folder, scale), splits(scale, short=True)
    train = parts["train"]
    batches = Batches([images], train.rows, train.abnormal, batch_size=BATCH, seed=SEED)
    steps = min(STEPS, len(batches) - 1)  # the last one may be shorter
    ready = [tuple(map(keras.ops.convert_to_tensor, batches[i])) for i in range(steps)]

    def trained(model: keras.Model) -> None:
        left = iter(ready)
        for _ in ready:
            logs = model.train_function(left)
        float(np.asarray(logs["loss"]))  # waits for it

    def predicted(model: keras.Model) -> None:
        for inputs, *_ in ready:
            np.asarray(model.predict_function([(inputs,)]))

    models = {}
    for name in NAMES:
        whole = cut_all(network(scale, backbone=name))
        searcher = Searcher(whole, images, parts, seed=SEED, state=folder / name, title=name)
        with clocked(Clock()) as clock:  # times the model as a fold compiles it
            searcher.train([Trial(lr=0.0001, optimizer="adam", batch_size=BATCH, epochs=1)])
        models[name] = clock.model
        models[name].make_predict_function()
    took: dict[str, list[float]] = {f"{name} {what}": [] for name in NAMES for what in ("train", "predict")}
    for _ in range(TURNS + 1):
        for name, model in models.items():
            took[f"{name} train"].append(_seconds(trained, model))
            took[f"{name} predict"].append(_seconds(predicted, model))
    # the first turn traces
    return {key: steps * BATCH / min(seconds[1:]) for key, seconds in took.items()}


def _seconds(work: Callable[[Any], None], model: Any) -> float:
    begin = time.perf_counter()
    work(model)
    return time.perf_counter() - begin


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Two rows: training, prediction."""
    scale = scale if scale.tiny else replace(scale, images=600, train=400, size=SIZE, short_train=BATCH * (STEPS + 1))
    found = run_part("turns", turns, folder, scale, alone=not scale.tiny)
    b0, lite0 = NAMES
    how = f"the fastest of {TURNS} turns each, by turns in one process; B0 takes the obvious way's place"
    end = f"batch {BATCH}, {scale.size} px, EfficientNetLite0 against B0"
    return [
        Row(
            f"{what}, {end}",
            "images/s",
            found[f"{b0} {part}"],
            found[f"{lite0} {part}"],
            how,
            "another network",
        )
        for what, part in (("training every layer", "train"), ("prediction", "predict"))
    ]


if __name__ == "__main__":
    main(__doc__, measure, turns=turns)
