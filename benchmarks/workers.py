"""Equal trials of stage 2 on two workers, each with half of the cores, against one worker with half of the cores.

One process with all cores is measured too: its threads split each step as far as possible. All three include starting
the workers and tracing the first step, but not computing the trunk's outputs.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, main, run_part

from stage2 import cut_end

TRIALS, EPOCHS = 8, 8


def half(folder: Path, scale: Scale) -> dict[str, Any]:
    """One worker on half of the cores."""
    from glaucoma.base.environment import threads
    from glaucoma.train.pool import share

    threads()  # counted first: a worker uses as many threads, on fewer cores
    os.sched_setaffinity(0, share(0, 2, sorted(os.sched_getaffinity(0))))
    return _seconds(folder, scale, 1, "half")


def two(folder: Path, scale: Scale) -> dict[str, Any]:
    """Two workers, each on half of the cores."""
    return _seconds(folder, scale, 2, "two")


def whole(folder: Path, scale: Scale) -> dict[str, Any]:
    """One process on all cores."""
    return _seconds(folder, scale, 1, "whole")


def _seconds(folder: Path, scale: Scale, jobs: int, name: str) -> dict[str, Any]:
    from material import network, pixels, splits

    from glaucoma.base.files import hash_arrays
    from glaucoma.base.params import Trial
    from glaucoma.train.activations import activations
    from glaucoma.train.pool import Processes
    from glaucoma.train.search import Searcher

    images, cut = pixels(folder, scale), cut_end(network(scale))
    state = folder / name
    state.mkdir()
    (folder / "activations").mkdir(exist_ok=True)
    (state / "activations").symlink_to(folder / "activations")
    activations(cut.trunk, images, state / "activations")
    trials = [
        Trial(lr=1e-3 / 2**i, optimizer="adam", batch_size=16, epochs=2 if scale.tiny else EPOCHS)
        for i in range(2 if scale.tiny else TRIALS)
    ]
    given = splits(scale, short=True)
    searcher = Searcher(cut, images, given, seed=SEED, state=state, title=name, pool=Processes(jobs))
    begin = time.perf_counter()
    found = searcher.train(trials)
    return {
        "seconds": time.perf_counter() - begin,
        "weights": hash_arrays(array for one in found.values() for array in one.weights),
    }


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Both comparisons."""
    parts = {"half": half, "two": two, "whole": whole}
    took = {name: run_part(name, part, folder, scale) for name, part in parts.items()}
    equal = len({found["weights"] for found in took.values()}) == 1
    results = "weights equal bit for bit" if equal else "weights differ"
    how = f"measured: {TRIALS} trials of stage 2, {EPOCHS} epochs on {scale.short_train} images"
    pair = took["two"]["seconds"]
    what = "equal trials: two workers on half of the cores each"
    return [
        Row(f"{what}, against one such worker", "s", took["half"]["seconds"], pair, how, results, ratio_aim=1.6),
        Row(f"{what}, against one process on all", "s", took["whole"]["seconds"], pair, how, results),
    ]


if __name__ == "__main__":
    main(__doc__, measure, half=half, two=two, whole=whole)
