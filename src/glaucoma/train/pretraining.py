"""Pretrain a backbone to predict known measures of rendered eyes: cup, disc, rim, notches, disc position."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma import synthetic
from glaucoma.base import paths
from glaucoma.base.backbone_table import BUNDLED_LICENCE
from glaucoma.base.files import atomic_path, hash_arrays, hash_json, read_csv, sha256_file, write_csv, write_json
from glaucoma.base.interrupts import held, released
from glaucoma.base.params import Params
from glaucoma.base.progress import Progress, say
from glaucoma.model.artifacts import save_model
from glaucoma.model.backbones import build_backbone, write_half
from glaucoma.model.batch_norm import one_kernel
from glaucoma.model.batches import Batches, Stoppable
from glaucoma.model.network import reseed
from glaucoma.model.optimizers import make_optimizer
from glaucoma.model.runtime import describe, fresh, keras, threads
from glaucoma.synthetic.eyes import TARGETS, write_eyes

__all__ = ["pretrain"]

HELD_OUT = 0.05  # share of the eyes held out from training
BOX = sum(name.startswith("disc_") for name in TARGETS)


@held()
def pretrain(params: Params, backbone: str) -> None:
    """Train a backbone to measure rendered eyes, and write the files of `paths.pretrain_files`.

    Finished eyes and epochs are kept in the state folder, so an interruption costs at most one epoch.

    Raises:
        ParamsError: unknown backbone, or images too small for it.
    """
    own, files = params.pretrain, paths.pretrain_files(backbone)
    fresh(params.seed)
    network, trunk = _measuring(backbone, own.image_size)
    pixels, table = _eyes(own.images, own.image_size, params.seed)
    first = max(1, round(HELD_OUT * len(table)))  # the eyes' order is random: the first are held out
    mean, deviation = table[first:].mean(), table[first:].std().clip(lower=1e-6)
    targets = ((table - mean) / deviation).to_numpy("float32")
    learnt = _Eyes(pixels, np.arange(first, len(table)), targets, own.batch_size, params.seed)
    held_out = _Eyes(pixels, np.arange(first), targets, own.batch_size, None)

    network.compile(optimizer=make_optimizer("adam", own.lr), loss="mse")
    network.optimizer.build(network.trainable_variables)
    code = [sha256_file(file) for file in (__file__, str(sys.modules[Batches.__module__].__file__))]
    setting = [own.model_dump(exclude={"backbones"}), backbone, params.seed, code, describe(), threads()]
    folder = paths.STATE / "pretrain" / hash_json([*setting, hash_arrays([pixels, targets])])[:16]
    begin = time.perf_counter()
    history = _fit(network, learnt, held_out, own.epochs, own.lr, folder)
    seconds = time.perf_counter() - begin

    error = network.predict(held_out, verbose=0, callbacks=[Stoppable()]) - targets[:first]
    explained = 1 - np.square(error).mean(axis=0)  # targets have a variance of 1
    result = {"images": len(table), "held_out": first, "epochs": own.epochs, "r2": float(explained.mean())}
    result |= {f"r2_{name}": float(value) for name, value in zip(TARGETS, explained, strict=True)}
    recipe = {"backbone": backbone, "pretrain": own.model_dump(exclude={"backbones"}), "seed": params.seed}
    recipe |= {"held_out": result, "licence": BUNDLED_LICENCE, "versions": describe()}
    save_model(trunk, files["model"], recipe)
    write_half(trunk, files["half"], recipe)
    write_csv(files["curves"], history)
    write_json(files["metrics"], result)
    write_json(files["timing"], {"seconds": seconds})
    say(f"pretrain: R² {result['r2']:.3f} on {first} held-out eyes; {files['half']} is the small file")


def _eyes(images: int, size: int, seed: int) -> tuple[np.ndarray, pd.DataFrame]:
    """Rendered eyes and their measures, from the state folder if they are there already."""
    code = [sha256_file(file) for file in sorted(Path(synthetic.__file__).parent.glob("*.py"))]
    base = paths.STATE / "pretrain" / f"eyes-{hash_json([images, size, seed, code])[:16]}"
    pixels, table = base.with_suffix(".npy"), base.with_suffix(".csv")
    if not (pixels.is_file() and table.is_file()):
        with released():
            write_eyes(pixels, table, images=images, size=size, seed=seed)
    return np.load(pixels, mmap_mode="r"), read_csv(table)[list(TARGETS)]


class _Eyes(Batches):
    """Batches of eyes and their standardised measures."""

    def __init__(self, pixels: np.ndarray, rows: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None):
        super().__init__([pixels], rows, None, batch_size=batch_size, seed=seed)
        self.labels = targets[rows]

    def begin(self, epoch: int) -> None:
        """Set the order of images for an epoch; a resumed training does not start at epoch 0."""
        self.epoch = epoch
        self.order = self._order()


def _measuring(name: str, size: int) -> tuple[keras.Model, keras.Model]:
    """A network that measures eyes, and its backbone.

    The global maxima predict rim and ratios, as they feed a classifier's head; the whole map predicts the box.
    """
    backbone = build_backbone(name, size, "none")
    maxima = keras.layers.GlobalMaxPooling2D(name="maxima")(backbone.output)
    flat = keras.layers.Flatten(name="map")(backbone.output)
    ratios = keras.layers.Dense(len(TARGETS) - BOX, name="ratios")(maxima)
    box = keras.layers.Dense(BOX, name="box")(flat)
    both = keras.layers.Concatenate(name="measures")([ratios, box])
    return keras.Model(backbone.inputs, both, name="measuring"), backbone


def _fit(network: keras.Model, learnt: _Eyes, held_out: _Eyes, epochs: int, lr: float, folder: Path) -> pd.DataFrame:
    """Train, resuming after the last complete epoch in `folder`; return a row per epoch."""
    falling = keras.optimizers.schedules.CosineDecay(lr, epochs, alpha=0.01)
    checkpoints, curves = sorted(folder.glob("epoch*.weights.h5")), folder / "curves.csv"
    rows, first = [], 0
    if checkpoints:
        network.load_weights(checkpoints[-1])
        first = int(checkpoints[-1].name.removeprefix("epoch").removesuffix(".weights.h5"))
        rows = read_csv(curves).head(first).to_dict("records")
        say(f"pretrain: resuming after epoch {first} of {epochs}")
    with Progress("pretrain", (epochs - first) * len(learnt), "step") as progress:

        def begin(epoch: int, logs: object) -> None:
            learnt.begin(epoch)
            reseed(network, (learnt.seed or 0) + epoch)  # saved weights do not include dropout generators

        def batch_end(batch: int, logs: dict[str, float]) -> None:
            progress.step(1, f"loss {logs['loss']:.4f}")

        def end(epoch: int, logs: dict[str, float]) -> None:
            rows.append({"epoch": epoch + 1, "loss": logs["loss"], "held_out_loss": logs["val_loss"]})
            write_csv(curves, pd.DataFrame(rows))
            # Keras' BackupAndRestore writes in place: after a kill at the wrong moment, training could not resume
            with atomic_path(folder / f"epoch{epoch + 1:04d}.weights.h5") as temporary:
                file = temporary.with_name(f"{temporary.stem}.weights.h5")  # Keras requires this suffix
                network.save_weights(file)
                file.replace(temporary)
            for older in sorted(folder.glob("epoch*.weights.h5"))[:-1]:
                older.unlink()
            say(f"pretrain: epoch {epoch + 1}, loss {logs['loss']:.4f}, held out {logs['val_loss']:.4f}")

        callbacks = [
            Stoppable(),
            keras.callbacks.LearningRateScheduler(lambda epoch: float(keras.ops.convert_to_numpy(falling(epoch)))),
            keras.callbacks.LambdaCallback(on_epoch_begin=begin, on_train_batch_end=batch_end, on_epoch_end=end),
        ]
        with one_kernel(network):
            network.fit(
                learnt,
                validation_data=held_out,
                initial_epoch=first,
                epochs=epochs,
                shuffle=False,  # _Eyes shuffles images
                verbose=0,
                callbacks=callbacks,
            )
    return pd.DataFrame(rows)
