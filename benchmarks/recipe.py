"""Measure the effect of each lever of the recommended recipe on any folder of photographs: benchmarks/recipe.md.

Every lever is evaluated on the same folds, which keep a patient's images and copies together. The score is the mean
AUROC over folds: on `test`, which contains each image once, and on `valid`. The interval is that of the paired
difference to the recipe on `test`, by resampling groups of images. Networks are trained on the first folds only, and
compared with the recipe on these. Levers that do not help are listed too. Nothing is tuned within a fold, but the
recipe was chosen by this table: expect slightly less elsewhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import ROOT, SEED, machine

from glaucoma.base.files import atomic_path
from glaucoma.base.index import distinct
from glaucoma.base.params import Augment, Trial, load_params, views_of
from glaucoma.dataset.intake import build_index
from glaucoma.dataset.splits import Dataset
from glaucoma.evaluate.over_folds import mean_differences
from glaucoma.evaluate.scores import predictions_table
from glaucoma.model.backbones import build_backbone
from glaucoma.model.batch_norm import BatchStatistics
from glaucoma.model.batches import Batches
from glaucoma.model.cut import Cut, cut_all, cut_head, cut_last
from glaucoma.model.log_odds import averaged as mean_of
from glaucoma.model.log_odds import expit
from glaucoma.model.network import HEAD, build_network
from glaucoma.model.regression import feature_trunk
from glaucoma.model.runtime import fresh, keras
from glaucoma.model.scorer import log_odds as of_scores
from glaucoma.model.scorer import scorer
from glaucoma.photos.crop import load_cropped
from glaucoma.train.activations import activations
from glaucoma.train.logistic import fit_features
from glaucoma.train.search import Searcher

LITE, SPLITS = "EfficientNetLite0", ("test", "valid")
Predictions = dict[str, pd.DataFrame]  # by split


@dataclass
class Material:
    """A folder of photographs: its folds, and pixels and features on demand."""

    root: Path
    state: Path
    dataset: Dataset = field(init=False)

    def __post_init__(self) -> None:
        self.classes = load_params(ROOT / "params.yaml").data.classes
        self.index, _ = build_index(
            self.root, layout="auto", classes=self.classes, n_folds=10, held_out=0.09, seed=SEED
        )
        self.images = distinct(self.index).sort_values("image", ignore_index=True)
        self.dataset = self.folds_of(self.index)

    def folds_of(self, index: pd.DataFrame) -> Dataset:
        """Folds of an index of these photographs, or of some of them; rows are those of `pixels` and `features`."""
        table = index.drop_duplicates(["fold", "split", "image"]).copy()
        table["row"] = table["image"].map(dict(zip(self.images["image"], self.images.index, strict=True)))
        table["abnormal"] = table["condition"] == "abnormal"
        return Dataset(np.empty(0), table.sort_values(["fold", "split", "image"], ignore_index=True))

    def pixels(self, crop: str, size: int) -> np.ndarray:
        """uint8 (images, size, views · size, 3), cached in `state`."""
        file = self.state / f"{crop}-{size}.npy"
        if not file.is_file():
            loaded = [
                load_cropped(self.root / path, size, max_megapixels=100, crop=crop)[0] for path in self.images["path"]
            ]
            np.save(file, np.stack(loaded))
        return np.load(file, mmap_mode="r")

    def features(
        self, crop: str, size: int, flips: str, weights: str = "imagenet", backbone: str = LITE
    ) -> tuple[np.ndarray, int]:
        """Features of `feature_trunk`, (images, flips, views · features), and the number of a view's top features."""
        fresh(SEED)
        trunk = feature_trunk(build_backbone(backbone, size, weights, len(views_of(crop))), backbone, flips)
        (found,) = activations(trunk, self.pixels(crop, size), self.state / "activations")
        return np.asarray(found), 1280

    def regressions(self, features: np.ndarray, C: float) -> Predictions:  # noqa: N803 scikit-learn's name
        """Predictions of a regression on features in every fold."""
        return self.tables({fold: fit_features(features, self.dataset.fold(fold), C)[1] for fold in self.dataset.folds})

    def tables(self, found: Mapping[int, dict[str, np.ndarray]]) -> Predictions:
        """Predictions as tables, from the log-odds of some folds, by split."""
        parts: dict[str, list[pd.DataFrame]] = {split: [] for split in SPLITS}
        for fold, by_split in found.items():
            splits = self.dataset.fold(fold)
            for split, log_odds in by_split.items():
                if split in parts:
                    one = splits[split]
                    parts[split].append(
                        predictions_table(one.images, one.abnormal, log_odds=log_odds).assign(
                            fold=fold, patient=one.patients or ""
                        )
                    )
        return {split: pd.concat(found, ignore_index=True) for split, found in parts.items()}


def regression(
    material: Material,
    crop: str = "disc+wide+retina",
    size: int = 224,
    flips: str = "both",
    C: float = 0.03,  # noqa: N803 scikit-learn's name
    depths: str = "several",
    weights: str = "imagenet",
) -> Predictions:
    """The recipe or a variant of it; `depths`: several | top (maxima) | average (of the top)."""
    if depths == "average":
        fresh(SEED)
        backbone = build_backbone(LITE, size, weights, len(views_of(crop)))
        pooled = keras.layers.GlobalAveragePooling2D()(backbone.output)
        trunk = keras.Model(backbone.inputs, keras.layers.Reshape((1, -1))(pooled))
        (found,) = activations(trunk, material.pixels(crop, size), material.state / "activations")
        features = np.asarray(found)
    else:
        features, top = material.features(crop, size, flips, weights)
        if depths == "top":
            views = len(views_of(crop))
            parts = features.reshape(*features.shape[:2], views, -1)[..., -top:]
            features = parts.reshape(*features.shape[:2], -1)
    return material.regressions(features, C)


def thumbnail(material: Material) -> Predictions:
    """A regression on 7 × 7 pixels of the whole picture."""
    small = material.pixels("none", 7).reshape(len(material.images), 1, -1).astype(float)
    return material.regressions(small, 1.0)


Cutter = Callable[[keras.Model], Cut]
Lever = tuple[str, str, Callable[[], Predictions]]


class Networks:
    """Linear probe, then the last 20 layers, then all layers, each starting from the previous; one crop."""

    HEAD = Trial(lr=1e-3, optimizer="adam", batch_size=16, epochs=20, precise_bn=True)
    LAST = HEAD.model_copy(update={"lr": 1e-4, "epochs": 10})
    ALL = HEAD.model_copy(update={"lr": 1e-4, "epochs": 3})

    def __init__(self, material: Material, folds: int, crop: str = "wide", size: int = 160):
        self.material, self.crop, self.size = material, crop, size
        self.folds = material.dataset.folds[:folds]
        self.pixels = material.pixels(crop, size)

    def of(self, steps: Sequence[tuple[Cutter, Trial]], augment: Augment | None = None) -> Predictions:
        """Predictions after the last of several steps; `augment` applies to that step."""
        found = {}
        for fold in self.folds:
            network, splits = self._start(), self.material.dataset.fold(fold)
            for cut, trial in steps:
                last = trial is steps[-1][1]
                searcher = Searcher(
                    cut(network), self.pixels, splits, seed=SEED, state=self.material.state, title=f"fold {fold}",
                    cached=not (last and augment), augment=augment if last else None,
                )  # fmt: skip
                snapshot = searcher.train([trial])[trial]
                searcher.take(snapshot)
            found[fold] = snapshot.log_odds
        return self.material.tables(found)

    def by(self, make_optimizer: Callable[[], keras.optimizers.Optimizer]) -> Predictions:
        """Train every layer after the head, with an optimizer that the pipeline does not offer."""
        found = {}
        for fold in self.folds:
            network, splits = self._start(), self.material.dataset.fold(fold)
            searcher = Searcher(cut_head(network), self.pixels, splits, seed=SEED, state=self.material.state)
            searcher.take(searcher.train([self.HEAD])[self.HEAD])
            model, train = cut_all(network).network, splits["train"]
            model.compile(optimizer=make_optimizer(), loss=keras.losses.BinaryCrossentropy())
            size = self.ALL.batch_size
            batches = Batches([self.pixels], train.rows, train.abnormal, batch_size=size, seed=SEED)
            model.fit(batches, epochs=self.ALL.epochs, shuffle=False, verbose=0)
            with BatchStatistics(model).of(Batches([self.pixels], train.rows, None, batch_size=size)):
                found[fold] = {
                    name: of_scores(
                        scorer(model).predict(Batches([self.pixels], split.rows, None, batch_size=size), verbose=0)
                    )
                    for name, split in splits.items()
                }
        return self.material.tables(found)

    def _start(self) -> keras.Model:
        fresh(SEED)
        backbone = build_backbone(LITE, self.size, "imagenet", len(views_of(self.crop)))
        return build_network(backbone, dropout=0.2, seed=SEED)

    def levers(self) -> Iterator[tuple[str, Callable[[], Predictions]]]:
        """Pairs of a description and a function that returns the predictions."""
        head, last, whole = (cut_head, self.HEAD), (last_20, self.LAST), (cut_all, self.ALL)

        def other(**values: Any) -> Callable[[], Predictions]:
            return partial(self.of, [head, (cut_all, self.ALL.model_copy(update=values))])

        yield "head", partial(self.of, [head])
        yield "last 20 layers, after the head", partial(self.of, [head, last])
        yield "every layer, after the last 20", partial(self.of, [head, last, whole])
        yield "every layer, after the head", partial(self.of, [head, whole])
        yield "every layer at once, no linear probe", partial(self.of, [whole])
        yield "every layer but batch norm, after the head", partial(self.of, [head, (all_but_batch_norm, self.ALL)])
        yield "scale and shift of batch norm and the head", partial(self.of, [head, (scale_and_shift, self.ALL)])
        yield "every layer, moving averages of batch norm", other(precise_bn=False)
        yield "every layer, six epochs", other(epochs=6)
        yield "every layer, cosine with warm-up", other(schedule="cosine", warmup=1)
        yield "every layer, label smoothing 0.1", other(label_smoothing=0.1)
        yield "every layer, AdamW, weight decay 0.05", partial(self.by, weight_decay)
        yield "every layer, averaged weights (decay 0.95)", partial(self.by, averaged_weights)
        yield "every layer, flips, rotation 15°, zoom 0.1", partial(self.of, [head, whole], SHAPE)
        yield "every layer, these and colour", partial(self.of, [head, whole], COLOUR)


SHAPE = Augment(flip="both", rotation=15, zoom=0.1, brightness=0, contrast=0, colour=0)
COLOUR = Augment(flip="both", rotation=15, zoom=0.1, brightness=0.1, contrast=0.1, colour=0.05)


def weight_decay() -> keras.optimizers.Optimizer:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019)."""
    return keras.optimizers.AdamW(1e-4, weight_decay=0.05)


def averaged_weights() -> keras.optimizers.Optimizer:
    """Adam whose final weights are a moving average over the steps."""
    return keras.optimizers.Adam(1e-4, use_ema=True, ema_momentum=0.95)


def last_20(network: keras.Model) -> Cut:
    """The report's second stage."""
    return cut_last(network, 20)


def all_but_batch_norm(network: keras.Model) -> Cut:
    """Every layer, with the backbone's batch normalisation in inference mode."""
    cut = cut_all(network)
    for layer in _backbone(network):
        layer.trainable = not isinstance(layer, keras.layers.BatchNormalization)
    return cut


def scale_and_shift(network: keras.Model) -> Cut:
    """Run every layer in training mode; in the backbone, only batch normalisation is trained."""
    cut = cut_all(network)
    for layer in _backbone(network):
        layer.trainable = isinstance(layer, keras.layers.BatchNormalization)
    return cut


def _backbone(network: keras.Model) -> list[keras.Layer]:
    head = next(i for i, layer in enumerate(network.layers) if layer.name == HEAD[0])
    return network.layers[:head]


def averaged(first: Predictions, second: Predictions) -> Predictions:
    """The mean of two models' probabilities."""
    keys = ["fold", "image"]
    both = {}
    for split in SPLITS:
        one, two = (
            tables[split].sort_values(keys, ignore_index=True) for tables in (_same_folds(first, second), second)
        )
        log_odds = mean_of(np.stack([one["log_odds"], two["log_odds"]]))
        both[split] = one.assign(log_odds=log_odds, probability=expit(log_odds))
    return both


def _same_folds(predictions: Predictions, others: Predictions) -> Predictions:
    """Those of the folds that the others have."""
    return {split: table[table["fold"].isin(others[split]["fold"])] for split, table in predictions.items()}


def levers(material: Material, *, deep: int) -> Iterator[Lever]:
    """Every lever: group, description and a function that returns the predictions; the recipe first."""

    def of(*args: Any, **values: Any) -> Callable[[], Predictions]:
        return partial(regression, material, *args, **values)

    yield "recipe", "Lite0 frozen, disc + wide + retina, several depths, four flips, C 0.03, 224 px", of()
    yield "floor", "a regression on 7 × 7 pixels", partial(thumbnail, material)
    plain = of("none", depths="average", flips="none", C=1.0)
    yield "floor", "frozen regression: whole picture, average of the last map, C 1", plain
    yield "weights", "random weights", of(weights="none")
    for crop in ("none", "retina", "disc", "wide", "disc+retina", "wide+retina"):
        yield "parts", f"crop {crop}", of(crop)
    yield "depths", "maximum of the last map alone", of(depths="top")
    yield "depths", "average of the last map alone, no flips", of(depths="average")
    yield "flips", "none", of(flips="none")
    yield "flips", "horizontal", of(flips="horizontal")
    for penalty in (1.0, 0.3, 0.1, 0.01, 0.003):
        yield "penalty", f"C {penalty:g}", of(C=penalty)
    for size in (160, 288):
        yield "size", f"{size} px", of(size=size)
    if deep:
        for lever, predict in Networks(material, deep).levers():
            predict = cache(predict)
            yield f"networks, {deep} folds", lever, predict
            if lever in ("head", "last 20 layers, after the head", "every layer, after the head"):
                both = lambda predict=predict: averaged(regression(material), predict())  # noqa: E731
                yield f"networks, {deep} folds", f"{lever}, averaged with the recipe", both


def main() -> None:
    """Judge every lever and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders of photographs, each in a layout of docs/data.md")
    parser.add_argument("--state", type=Path, default=Path(".state/recipe"), help="where features are kept")
    parser.add_argument(
        "--deep",
        type=int,
        default=0,
        metavar="N",
        help="train networks too, on the first N folds (10: an hour or more)",
    )
    parser.add_argument("--anew", action="store_true", help="judge again what recipe.json has")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="folder of recipe.md and recipe.json")
    given = parser.parse_args()
    told = json.loads(path.read_text()) if (path := given.output / "recipe.json").is_file() else {}
    for root in given.data:
        state = given.state / root.name
        state.mkdir(parents=True, exist_ok=True)
        material, rows = Material(root, state), []
        known = {} if given.anew else {row["lever"]: row for row in told.get(root.name, {}).get("rows", ())}
        recipe = cache(partial(regression, material))
        for group, lever, predict in levers(material, deep=given.deep):
            predict = recipe if group == "recipe" else predict
            rows.append(row := known.get(lever) or judged(recipe(), predict()) | {"group": group, "lever": lever})
            print(f"{root.name}: {group}: {lever}: {row}", flush=True)
            kept = [one for name, one in known.items() if name not in {row["lever"] for row in rows}]
            told[root.name] = {"images": len(material.images), "machine": machine(), "rows": rows + kept}
            with atomic_path(path) as file:
                file.write_text(json.dumps(told, indent=1) + "\n")
            with atomic_path(given.output / "recipe.md") as file:
                file.write_text(markdown(told))


def judged(recipe: Predictions, predictions: Predictions) -> dict[str, float]:
    """The mean over folds of each split, and the paired difference on `test` with its interval."""
    row = {}
    base = recipe if predictions is recipe else _same_folds(recipe, predictions)
    for split in SPLITS:
        found = mean_differences(base[split], predictions[split], seed=SEED, resamples=1000)
        auroc = found.set_index("score").loc["auroc"]
        row[split] = auroc["second"]
        if split == "test" and predictions is not recipe:
            # no interval where all resamples are equal
            told = {name: float(auroc[name]) for name in ("difference", "low", "high")}
            row |= {name: value if np.isfinite(value) else None for name, value in told.items()}
    return row


def markdown(told: dict[str, Any]) -> str:
    """The table of every folder."""
    text = ["# What each lever of the recommended recipe is worth", "", *__doc__.splitlines()[2:], ""]
    text += ["Made by `python benchmarks/recipe.py DATA … --deep N`; the figures are in recipe.json.", ""]
    for name, part in told.items():
        text += [f"## {name}: {part['images']} photographs", ""]
        text += ["| | lever | AUROC, test | AUROC, valid | difference to the recipe, test |", "|---|---|---|---|---|"]
        for row in part["rows"]:
            shown = ""
            if "difference" in row:
                shown = f"{row['difference']:+.3f}"
                shown += "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
            text.append(f"| {row['group']} | {row['lever']} | {row['test']:.3f} | {row['valid']:.3f} | {shown} |")
        text += ["", f"{part['machine']['cores']} cores of {part['machine']['processor']}.", ""]
    return "\n".join(text)


if __name__ == "__main__":
    main()
