"""The speed-up of each use of Keras' private API over stock Keras; uses below 1.2 × are removed.

Uses that only read a model's graph have no public alternative and are not compared.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, main, run_part

SIZE, BATCH, STEPS, TURNS = 160, 16, 6, 5


def one_kernel(folder: Path, scale: Scale) -> dict[str, Any]:
    """Training steps per second of whole networks, with stock batch normalisation and as one kernel, in turns."""
    from material import network, pixels, splits

    from glaucoma.model import batch_norm

    images, train = pixels(folder, scale), splits(scale)["train"]
    found: dict[str, float] = {}
    for name in ("EfficientNetB0", "EfficientNetLite0"):
        kinds = {"stock": nullcontext, "ours": batch_norm.one_kernel}
        ready = {kind: _steps(network(scale, backbone=name), images, train, kinds[kind]) for kind in kinds}
        took: dict[str, list[float]] = {kind: [] for kind in kinds}
        for _ in range(TURNS + 1):
            for kind, run in ready.items():
                took[kind].append(_seconds(run))
        found |= {f"{name} {kind}": len(train) / min(seconds[1:]) for kind, seconds in took.items()}
    return found


def one_vector(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds until the first step of a whole EfficientNetB0 is done, with Keras' Adam and ours in turns."""
    from material import network, pixels, splits
    from obvious import PLAIN

    from glaucoma.model.optimizers import make_optimizer

    images, train = pixels(folder, scale), splits(scale)["train"]
    kinds = {"stock": lambda: PLAIN["adam"](), "ours": lambda: make_optimizer("adam", 1e-3)}
    took: dict[str, list[float]] = {kind: [] for kind in kinds}
    for _ in range(3):
        for kind, optimizer in kinds.items():
            run = _steps(network(scale), images[:BATCH], replace(train, rows=train.rows[:BATCH]), optimizer=optimizer)
            took[kind].append(_seconds(run))
    return {kind: min(seconds[1:]) for kind, seconds in took.items()}


def _steps(
    model: Any,
    images: Any,
    train: Any,
    within: Callable[[Any], AbstractContextManager] = lambda _: nullcontext(),
    optimizer: Callable[[], Any] | None = None,
) -> Callable[[], None]:
    """A function that trains every layer of `model` for an epoch; the first call compiles."""
    from glaucoma.model.batches import Batches
    from glaucoma.model.optimizers import make_optimizer

    model.compile(optimizer=(optimizer or (lambda: make_optimizer("adam", 1e-4)))(), loss="binary_crossentropy")
    model.optimizer.build(model.trainable_variables)
    batches = Batches([images], train.rows, train.abnormal[: len(train.rows)], batch_size=BATCH, seed=SEED)

    def run() -> None:
        with within(model):
            model.fit(batches, epochs=1, shuffle=False, verbose=0)

    return run


def _seconds(work: Callable[[], None]) -> float:
    begin = time.perf_counter()
    work()
    return time.perf_counter() - begin


def measure(folder: Path, scale: Scale) -> list[Row]:
    """A row for each use that serves speed."""
    if not scale.tiny:
        scale = replace(scale, images=600, train=BATCH * STEPS, size=SIZE)
    parts = {part.__name__: part for part in (one_kernel, one_vector)}
    found = {name: run_part(name, part, folder, scale, alone=not scale.tiny) for name, part in parts.items()}
    how = (
        f"the fastest of {TURNS} epochs of {STEPS} steps each, by turns in one process; stock Keras is the obvious way"
    )
    rows = [
        Row(
            f"one kernel for batch normalisation, training every layer of {name}, batch {BATCH}, {scale.size} px",
            "images/s", found["one_kernel"][f"{name} stock"], found["one_kernel"][f"{name} ours"], how, ratio_aim=1.2,
        )
        for name in ("EfficientNetB0", "EfficientNetLite0")
    ]  # fmt: skip
    vector = found["one_vector"]
    how = "the faster of two, after one each, by turns in one process"
    rows.append(
        Row("all variables as one vector, EfficientNetB0's first step", "s", vector["stock"], vector["ours"], how,
            ratio_aim=1.2)
    )  # fmt: skip
    return rows


if __name__ == "__main__":
    main(__doc__, measure, one_kernel=one_kernel, one_vector=one_vector)
