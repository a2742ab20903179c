"""Stage 1, the published grid of 32 trials: frozen backbone, only the head is trained.

The obvious way builds, compiles and fits a model for each trial, with the backbone in the graph. Ours runs the backbone
once over all images and trains trials together that differ only in epochs or share a batch size. Ours is measured
completely; the obvious way is extrapolated from seconds of setup and per image, measured for each batch size.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, equality, main, run_part, shown


def obvious(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the obvious way, on a part of the images."""
    from material import trials
    from obvious import measure_short, whole_grid

    from glaucoma.model.cut import cut_head

    grid = trials("stage1", scale)
    found = measure_short(cut_head, grid, folder, scale)
    return found | {"seconds": whole_grid(found["costs"], grid, scale)}


def ours(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the whole grid from an empty cache, and the difference of a short trial from the obvious way's."""
    from material import network, pixels, splits, trials
    from obvious import difference, short_trial

    from glaucoma.model.cut import cut_head
    from glaucoma.train.search import Searcher

    grid, images = trials("stage1", scale), pixels(folder, scale)
    whole = cut_head(network(scale))
    begin = time.perf_counter()
    Searcher(whole, images, splits(scale), seed=SEED, state=folder / "state", title="stage 1").train(grid)
    seconds = time.perf_counter() - begin

    trial, cut = short_trial(grid), cut_head(network(scale))
    searcher = Searcher(cut, images, splits(scale, short=True), seed=SEED, state=folder / "state", title="short trial")
    ended = searcher.train([trial])[trial]
    apart = difference(folder, ended.weights, ended.probability["test"])
    return {"seconds": seconds, "trials": len(grid), "apart": apart}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Both ways, each in a separate process."""
    theirs, mine = (run_part(part.__name__, part, folder, scale, alone=not scale.tiny) for part in (obvious, ours))
    how = (
        f"here whole, from an empty cache; the obvious way from {theirs['epochs']} epochs of {scale.short_train} + "
        f"{scale.short_test} images at each batch size, of which the fastest after the first counts, and "
        f"{_setups(theirs)} of building and tracing a trial"
    )
    what = f"stage 1, {mine['trials']} trials, {scale.train} + {scale.test} images, {scale.size} px"
    stored = f"{scale.images} images, mapped files included"
    return [
        Row(what, "s", theirs["seconds"], mine["seconds"], how, equality(mine["apart"]), 100, 240),
        Row("stage 1, peak memory", "GB", None, mine["peak"], stored, ours_aim=4),
    ]


def _setups(theirs: dict[str, Any]) -> str:
    seconds = [cost["setup"] for cost in theirs["costs"].values()]
    return shown(sum(seconds) / len(seconds), "s")


if __name__ == "__main__":
    main(__doc__, measure, obvious=obvious, ours=ours)
