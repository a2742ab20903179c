"""Pretrain a backbone to measure rendered eyes and to map disc and cup, without losing what it knew before."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma import synthetic
from glaucoma.base import paths
from glaucoma.base.backbone_table import BACKBONES, BUNDLED_LICENCE
from glaucoma.base.files import atomic_path, hash_arrays, hash_json, read_csv, sha256_file, write_csv, write_json
from glaucoma.base.interrupts import held, released
from glaucoma.base.params import Params
from glaucoma.base.progress import Progress, say
from glaucoma.model.artifacts import save_model
from glaucoma.model.backbones import build_backbone, write_half
from glaucoma.model.batch_norm import BatchStatistics, one_kernel
from glaucoma.model.batches import Batches, Stoppable
from glaucoma.model.cut import Cut, cut_all, split_at
from glaucoma.model.network import reseed
from glaucoma.model.optimizers import make_optimizer
from glaucoma.model.regression import FEATURES, feature_trunk
from glaucoma.model.runtime import describe, fresh, keras, threads
from glaucoma.synthetic.eyes import TARGETS, eyes
from glaucoma.train.activations import activations

__all__ = ["pretrain"]

HELD_OUT = 0.05  # share of the photographs held out from training: the first, and so whole eyes
WORN = 2  # photographs of each eye
FROZEN = 3  # stages of a pretrained backbone that are not trained
FINER = 2  # cells of the map of disc and cup, per side of a cell of the last feature map


@held()
def pretrain(params: Params, backbone: str) -> None:
    """Train a backbone to measure rendered eyes, and write the files of `paths.pretrain_files`.

    From `pretrain.weights` other than `none`, the first stages are frozen, and the regression's features are also to
    stay what they were on the same photographs (distillation). Finished eyes and epochs are kept in the state folder,
    so an interruption costs at most one epoch.

    Raises:
        ParamsError: unknown backbone, or images too small for it.
    """
    own, files, state = params.pretrain, paths.pretrain_files(backbone), paths.STATE / "pretrain"
    fresh(params.seed)
    trunk = build_backbone(backbone, own.image_size, own.weights)
    features = feature_trunk(trunk, backbone, "none").get_layer(FEATURES)
    cells = FINER * trunk.output_shape[1]
    pixels, measures, maps = _eyes(own.images, own.image_size, cells, params.seed)
    first = WORN * max(1, round(HELD_OUT * own.images))
    known = [] if own.weights == "none" else [activations(features, pixels, state / "activations")[0]]
    goals = [_standard(values, first) for values in (measures, maps, *known)]
    targets = np.concatenate([(values - mean) / deviation for values, mean, deviation in goals], axis=1)
    weights = np.concatenate([np.full(len(mean), len(mean) ** -0.5, "f4") for _, mean, _ in goals])
    weights *= (len(weights) / len(goals)) ** 0.5  # every goal counts the same
    cut = _measuring(trunk, features, len(TARGETS), maps.shape[1], goals[2:], weights, backbone)
    inputs = pixels if cut.trunk is None else activations(cut.trunk, pixels, state / "activations")[0]
    learnt = _Eyes(inputs, np.arange(first, len(inputs)), targets * weights, own.batch_size, params.seed)
    held_out = _Eyes(inputs, np.arange(first), targets * weights, own.batch_size, None)

    network = cut.tail
    network.compile(optimizer=make_optimizer("adam", own.lr), loss="mse")
    network.optimizer.build(network.trainable_variables)
    code = [sha256_file(file) for file in (__file__, str(sys.modules[Batches.__module__].__file__))]
    setting = [own.model_dump(exclude={"backbones"}), backbone, params.seed, code, describe(), threads()]
    begin = time.perf_counter()
    history = _fit(network, learnt, held_out, own.epochs, own.lr, state / hash_json([*setting, hash_arrays([targets])])[:16])
    seconds = time.perf_counter() - begin
    plain = Batches([inputs], learnt.rows, None, batch_size=own.batch_size)
    with BatchStatistics(network).of(plain, [Stoppable()]):
        error = network.predict(held_out, verbose=0, callbacks=[Stoppable()]) / weights - targets[:first]
        explained = 1 - np.square(error).mean(axis=0)  # targets have a variance of 1
        ends = np.cumsum([len(mean) for _, mean, _ in goals])
        result = {"images": len(pixels), "held_out": first, "epochs": own.epochs}
        names = ("r2", "r2_map", "r2_features")
        result |= {f"{name}": float(part.mean()) for name, part in zip(names, np.split(explained, ends[:-1]))}
        result |= {f"r2_{name}": float(value) for name, value in zip(TARGETS, explained)}
        recipe = {"backbone": backbone, "pretrain": own.model_dump(exclude={"backbones"}), "seed": params.seed}
        recipe |= {"held_out": result, "licence": BUNDLED_LICENCE, "versions": describe()}
        save_model(trunk, files["model"], recipe)
        write_half(trunk, files["half"], recipe)
    write_csv(files["curves"], history)
    write_json(files["metrics"], result)
    write_json(files["timing"], {"seconds": seconds})
    say(f"pretrain: R² {result['r2']:.3f} on {first} held-out photographs; {files['half']} is the small file")


def _eyes(images: int, size: int, cells: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Photographs, measures and maps (images, cells² · 2), from the state folder if they are there already."""
    code = [sha256_file(file) for file in sorted(Path(synthetic.__file__).parent.glob("*.py"))]
    file = paths.STATE / "pretrain" / f"eyes-{hash_json([images, size, cells, seed, WORN, code])[:16]}.npz"
    if not file.is_file():
        with released():
            made = eyes(images, size, cells, WORN, seed)
        with atomic_path(file) as temporary, temporary.open("wb") as opened:
            np.savez(opened, *made)
    with np.load(file) as held_in:
        pixels, measures, maps = (held_in[name] for name in held_in.files)
    # the network's map has FINER² cells per place, so cells are ordered by place
    places = maps.reshape(len(maps), cells // FINER, FINER, cells // FINER, FINER, 2).transpose(0, 1, 3, 2, 4, 5)
    return pixels, measures, places.reshape(len(maps), -1)


def _standard(values: np.ndarray, first: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The values, and mean and deviation of those that are learnt; what hardly varies is not to weigh more."""
    deviation = values[first:].std(axis=0)
    return values, values[first:].mean(axis=0), deviation.clip(min=0.25 * np.square(deviation).mean() ** 0.5)


class _Eyes(Batches):
    """Batches of photographs or activations and their targets."""

    def __init__(self, inputs: np.ndarray, rows: np.ndarray, targets: np.ndarray, batch_size: int, seed: int | None):
        super().__init__([inputs], rows, None, batch_size=batch_size, seed=seed)
        self.labels = targets[rows]

    def begin(self, epoch: int) -> None:
        """Set the order of images for an epoch; a resumed training does not start at epoch 0."""
        self.epoch = epoch
        self.order = self._order()


def _measuring(
    backbone: keras.Model, features: keras.Model, measures: int, cells: int, known: list, weights: np.ndarray, name: str
) -> Cut:
    """A network that measures eyes by the regression's features, maps disc and cup, and tells the features."""
    layers = keras.layers
    pooled, last = features.output, backbone.output
    scaled = layers.BatchNormalization(name="scaled")(pooled)
    per_place = cells // (last.shape[1] * last.shape[2])
    parts = [
        layers.Dense(measures, name="measures")(scaled),
        layers.Flatten(name="map")(layers.Conv2D(per_place, 1, name="places")(last)),
        *(layers.Rescaling(1 / deviation, -mean / deviation, name="features")(pooled) for _, mean, deviation in known),
    ]
    told = layers.Rescaling(weights.tolist(), name="told")(layers.Concatenate()(parts))
    network = keras.Model(backbone.inputs, told, name="measuring")
    if not known:
        return cut_all(network)
    stages = list(dict.fromkeys(block.rstrip("abcdefghij") for block in BACKBONES[name].blocks[1:]))
    return split_at(network, f"{stages[FROZEN]}a")


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
