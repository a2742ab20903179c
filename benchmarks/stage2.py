"""Stage 2, the published grid of 36 trials: the last 20 layers of the backbone and the head are trained.

The obvious way fits a model for each trial, with the frozen trunk in the graph. Ours runs the trunk once over all
images, trains the tail on its outputs, and trains trials that differ only in epochs as one run. Both are extrapolated:
the obvious way from seconds of setup and per image at each batch size; ours from four whole epochs with each optimizer
at each batch size, including snapshots and the trunk's pass. For both, the fastest epoch after the first counts. With
--full, ours is trained completely. Ours is measured in one process and, from another empty cache, with two workers
(GLAUCOMA_JOBS=2), counting epochs during which both are busy.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from measuring import ROOT, SEED, Row, Scale, equality, main, run_part

MEASURED = 4  # epochs; the first traces, the last has a snapshot
BESIDE = (1, MEASURED, MEASURED + 1)  # epochs with a snapshot, for two workers


def cut_end(whole: Any) -> Any:
    """Cut a network as in the published protocol."""
    from glaucoma.base.profiles import load_profile
    from glaucoma.model.cut import cut_last

    layers = load_profile(ROOT / "profiles/published.yaml").stage2.unfreeze_last
    return cut_last(whole, min(layers, len(whole.layers) - 8))  # so that a tiny network has a trunk too


def obvious(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the obvious way, on a part of the images."""
    from material import trials
    from obvious import measure_short, whole_grid

    grid = trials("stage2", scale)
    found = measure_short(cut_end, grid, folder, scale)
    return found | {"seconds": whole_grid(found["costs"], grid, scale)}


def ours(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the grid from an empty cache, of an epoch at each batch size, and the difference of a short trial."""
    from clock import Clock, clocked, steady
    from material import network, pixels, splits, trials
    from obvious import difference, short_trial

    from glaucoma.base.params import group
    from glaucoma.train.search import Searcher

    grid, images, state = trials("stage2", scale), pixels(folder, scale), folder / "state"
    runs, chosen = group(grid), _chosen(grid, scale)
    cut = cut_end(network(scale))
    begin = time.perf_counter()
    with clocked(Clock()) as clock:
        found = Searcher(cut, images, splits(scale), seed=SEED, state=state, title="stage 2").train(chosen)
    seconds = time.perf_counter() - begin
    epochs = {_unit(run[-1]): fit for run, fit in zip(group(chosen), clock.fits, strict=True)}
    if not scale.full:
        seconds += sum(_left(runs, *found) for found in epochs.items())
    tail = {str(unit[1]): scale.train / steady(fit)["train"] for unit, fit in epochs.items() if unit[0] == "adam"}

    trial, cut = short_trial(grid), cut_end(network(scale))
    searcher = Searcher(cut, images, splits(scale, short=True), seed=SEED, state=state, title="short trial")
    ended = searcher.train([trial])[trial]
    apart = difference(folder, ended.weights, ended.probability["test"])
    result = {"seconds": seconds, "trials": len(grid), "runs": len(runs), "tail": tail, "apart": apart}
    return result | {"weights": _weights(found)}


def two(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the grid with two workers, from an empty cache."""
    from material import network, pixels, splits, trials

    from glaucoma.base.params import group
    from glaucoma.train.pool import Processes
    from glaucoma.train.search import Searcher

    grid = trials("stage2", scale)
    chosen = _chosen(grid, scale)
    parts = {trial: [trial.model_copy(update={"epochs": epochs}) for epochs in BESIDE] for trial in chosen}
    asked = chosen if scale.full else [part for three in parts.values() for part in three]
    cut, images = cut_end(network(scale)), pixels(folder, scale)
    searcher = Searcher(
        cut, images, splits(scale), seed=SEED, state=folder / "two", title="two workers", pool=Processes(2)
    )
    begin = time.perf_counter()
    found = searcher.train(asked)
    seconds = time.perf_counter() - begin
    if not scale.full:
        took = {trial: [found[part].seconds for part in parts[trial]] for trial in chosen}
        units = {_unit(trial): _beyond(*told) for trial, told in took.items()}
        runs = [units[_unit(run[-1])]([trial.epochs for trial in run]) for run in group(grid)]
        seconds += _side_by_side(runs) - _side_by_side(told[-1] for told in took.values())
    return {"seconds": seconds, "weights": _weights({trial: found[trial] for trial in chosen})}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Both ways, each in a separate process."""
    parts = (obvious, ours, two)
    theirs, mine, pair = (run_part(part.__name__, part, folder, scale, alone=not scale.tiny) for part in parts)
    short = f"{scale.short_train} + {scale.short_test} images"
    epochs = f"{mine['runs']} runs, from {MEASURED} whole epochs with each optimizer and batch size"
    how = f"here {'whole' if scale.full else epochs}, from an empty cache; the obvious way from {theirs['epochs']} "
    how += f"epochs of {short} at each batch size; for both, the fastest after the first counts"
    what = f"stage 2, {mine['trials']} trials, {scale.train} + {scale.test} images, {scale.size} px"
    rows = [Row(what, "s", theirs["seconds"], mine["seconds"], how, equality(mine["apart"]), 12)]
    equal = "weights equal one process' bit for bit" if pair["weights"] == mine["weights"] else "weights differ"
    beside = f"{mine['runs']} runs, from {BESIDE[-1]} epochs of each kind beside another, the mean after the first"
    beside = f"here {'whole' if scale.full else beside}; otherwise as the row above"
    rows.append(Row(f"{what}, two workers", "s", theirs["seconds"], pair["seconds"], beside, equal, 12))
    for size, speed in mine["tail"].items():
        what, plain = f"stage 2, training steps with Adam, batch {size}", 1 / theirs["costs"][size]["train"]
        rows.append(Row(what, "images/s", plain, speed, "the tail alone against the full graph", ratio_aim=6))
    stored = f"{scale.images} images, mapped files included"
    return [*rows, Row("stage 2, peak memory", "GB", None, mine["peak"], stored, ours_aim=4)]


def _chosen(grid: list[Any], scale: Scale) -> list[Any]:
    """The trials to train: the whole grid, or one short trial per optimizer and batch size."""
    from glaucoma.base.params import group

    units = {_unit(run[-1]): run[-1] for run in group(grid)}  # a second learning rate compiles nothing new
    return grid if scale.full else [trial.model_copy(update={"epochs": MEASURED}) for trial in units.values()]


def _unit(trial: Any) -> tuple[str, int]:
    return trial.optimizer, trial.batch_size


def _weights(found: dict[Any, Any]) -> str:
    from glaucoma.base.files import hash_arrays

    return hash_arrays(array for one in found.values() for array in one.weights)


def _beyond(first: float, later: float, last: float) -> Callable[[list[int]], float]:
    """Extrapolate a run with snapshots at `epochs` from the measured seconds at snapshots.

    Between the first two are several epochs and a snapshot, between the last two one of each.
    """
    epoch = ((later - first) - (last - later)) / (BESIDE[1] - BESIDE[0] - 1)
    snapshot = (last - later) - epoch
    return lambda epochs: last + (epochs[-1] - BESIDE[-1]) * epoch + (len(epochs) - len(BESIDE)) * snapshot


def _side_by_side(seconds: Iterable[float]) -> float:
    """Seconds of two workers for runs that are assigned to the next free worker."""
    free = [0.0, 0.0]
    for one in seconds:
        heapq.heapreplace(free, free[0] + one)
    return max(free)


def _left(runs: list[Any], unit: tuple[str, int], fit: list[dict[str, float]]) -> float:
    """Seconds of the remaining runs of an optimizer and batch size, beyond the measured one."""
    from clock import steady

    those = [run for run in runs if _unit(run[-1]) == unit]
    epochs = sum(run[-1].epochs for run in those) - MEASURED
    snapshots = sum(len(run) for run in those) - 1
    *plain, last = fit  # only the last has a snapshot
    epoch = steady(plain) | {"train": steady(fit)["train"]}
    return epochs * sum(epoch.values()) + snapshots * max(0.0, last["rest"] - epoch["rest"])


if __name__ == "__main__":
    main(__doc__, measure, obvious=obvious, ours=ours, two=two)
