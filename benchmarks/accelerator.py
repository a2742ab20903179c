"""A published fold on any device and backend: 1379 + 174 images, 224 px, every layer, batches of 16 and 64.

python benchmarks/accelerator.py                                 a few epochs, extrapolated to 50
KERAS_BACKEND=jax python benchmarks/accelerator.py --jit         the same on JAX, compiled as a whole by XLA
python benchmarks/accelerator.py --precision bfloat16            layers compute in 16 bits, weights stay in 32
python benchmarks/accelerator.py --output benchmarks/h200.json   write the results to a file

The device's share is the time of an epoch on batches prepared as tensors, divided by that of the same epoch in the
pipeline, from 8-bit pixels on the host. The report took 530 s per fold.
"""

from __future__ import annotations

import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from clock import Clock, clocked
from material import network, pixels, splits
from measuring import SEED, Scale, arguments, shown

from glaucoma.base.files import write_json
from glaucoma.base.progress import say
from glaucoma.model.batches import Batches
from glaucoma.model.optimizers import make_optimizer
from glaucoma.model.runtime import describe, keras
from glaucoma.train.fitting import followed_metrics

EPOCHS, FOLDS = 50, 10
LR = 0.0001
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
COLUMNS = ("batch", "images/s", "device's share", "first step", "a fold", "ten folds")


class Ready(keras.utils.PyDataset):
    """The batches of another data set, converted to tensors once."""

    def __init__(self, batches: Batches):
        super().__init__(workers=1, use_multiprocessing=False)
        self.made = [tuple(map(keras.ops.convert_to_tensor, batches[i])) for i in range(len(batches))]

    def __len__(self) -> int:
        return len(self.made)

    def __getitem__(self, index: int) -> tuple:
        return self.made[index]


def device() -> str:
    """The name of the backend's device."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.devices()[0].device_kind
    if backend == "torch":
        import torch

        return torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    import tensorflow as tf

    found = tf.config.list_physical_devices("GPU")
    return tf.config.experimental.get_device_details(found[0]).get("device_name", "gpu") if found else "cpu"


def compiled(scale: Scale, precision: str, jit: bool) -> keras.Model:
    """The network with Adam; for float16, Keras scales the loss so that small gradients do not vanish."""
    whole = network(scale, policy=POLICIES[precision])
    model = keras.Model(whole.inputs, keras.ops.cast(whole.outputs[0], "float32"))
    optimizer = make_optimizer("adam", LR)
    if precision == "float16":
        optimizer = keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(LR))
    loss = keras.losses.BinaryCrossentropy()
    model.compile(optimizer=optimizer, loss=loss, metrics=followed_metrics(), jit_compile=jit)
    model.optimizer.build(model.trainable_variables)  # before tracing
    return model


def fold(folder: Path, scale: Scale, batch: int, epochs: int, precision: str, jit: bool) -> dict[str, Any]:
    """Seconds of a fold's epochs, including testing, and of the same training steps on prepared batches."""
    images, parts, model = pixels(folder, scale), splits(scale), compiled(scale, precision, jit)
    train = Batches([images], parts["train"].rows, parts["train"].abnormal, batch_size=batch, seed=SEED)
    test = Batches([images], parts["test"].rows, None, batch_size=batch)
    testing = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: model.predict(test, verbose=0))
    with clocked(Clock()) as clock:
        model.fit(train, epochs=epochs + 1, shuffle=False, verbose=0, callbacks=[testing])
        model.fit(Ready(train), epochs=epochs + 1, shuffle=False, verbose=0)
    ours, ready = clock.fits
    typical = {part: statistics.median(epoch[part] for epoch in ours[1:]) for part in ("train", "rest")}
    resident = statistics.median(epoch["train"] for epoch in ready[1:])
    epoch = sum(typical.values())
    start = max(sum(ours[0].values()) - epoch, 0.0)  # tracing and compiling
    return {
        "batch": batch,
        "images_per_second": len(parts["train"]) / typical["train"],
        "device_share": min(resident / typical["train"], 1.0),
        "start": start,
        "epoch": epoch,
        "fold": start + EPOCHS * epoch,
        "folds": FOLDS * (start + EPOCHS * epoch),
        "computes_in": model.layers[2].compute_dtype,
        "finite": bool(np.isfinite(model.predict(test, verbose=0)).all()),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """The results as Markdown."""
    lines = ["| " + " | ".join(COLUMNS) + " |", "|---" * len(COLUMNS) + "|"]
    for row in rows:
        seconds = [shown(row[name], "s") for name in ("start", "fold", "folds")]
        cells = [str(row["batch"]), f"{row['images_per_second']:.0f}", f"{row['device_share']:.0%}", *seconds]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def main() -> None:
    """Measure each batch size and print the table."""
    parser, scale_of = arguments(__doc__)
    parser.add_argument("--batch", type=int, nargs="+", default=[16, 64], metavar="N", help="images per batch")
    parser.add_argument("--epochs", type=int, default=3, metavar="N", help="epochs that are timed, after the first")
    parser.add_argument("--precision", choices=POLICIES, default="float32", help="what layers compute in")
    parser.add_argument("--jit", action="store_true", help="let XLA compile the whole step (JAX always does)")
    parser.add_argument("--output", type=Path, help="JSON file for what was found")
    given = parser.parse_args()
    scale, rows = scale_of(given), []
    with tempfile.TemporaryDirectory() as folder:
        for batch in given.batch:
            say(f"batch {batch}: {given.epochs + 1} epochs, twice")
            rows.append(fold(Path(folder), scale, batch, given.epochs, given.precision, given.jit))
    about = {"device": device(), "precision": given.precision, "jit": given.jit, **describe(), "size": scale.size}
    print(table(rows))
    print(f"\n{', '.join(f'{name} {value}' for name, value in about.items())}; {scale.train} + {scale.test} images,")
    print(f"{given.epochs} epochs timed, {EPOCHS} extrapolated; random weights and textures.")
    if given.output:
        write_json(given.output, {"about": about, "rows": rows})


if __name__ == "__main__":
    main()
