"""What each lever of the recommended recipe is worth, on any folder of photographs: benchmarks/recipe.md.

Every lever is judged on the same folds, with images of one patient and copies kept together. The score is the mean
over the folds of the fold's AUROC: on `test`, where each image stands once, and on `valid`. The interval is that of the
paired difference to the recipe on `test`, by resampled groups of images. Losers are in the table, too. Nothing is
tuned within a fold, but the recipe was chosen by this table: expect a little less elsewhere.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from measuring import ROOT, SEED, machine

from glaucoma.base.files import atomic_path
from glaucoma.base.index import distinct
from glaucoma.base.params import Trial, load_params, views_of
from glaucoma.dataset.intake import build_index
from glaucoma.dataset.splits import Dataset
from glaucoma.evaluate.over_folds import mean_differences
from glaucoma.evaluate.scores import predictions_table
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.model.log_odds import averaged as mean_of
from glaucoma.model.log_odds import expit
from glaucoma.model.network import build_network
from glaucoma.model.regression import feature_trunk
from glaucoma.model.runtime import fresh, keras
from glaucoma.photos.crop import load_cropped
from glaucoma.train.activations import activations
from glaucoma.train.logistic import fit_features
from glaucoma.train.search import Searcher

LITE, SPLITS = "EfficientNetLite0", ("test", "valid")
Predictions = dict[str, pd.DataFrame]  # by split


@dataclass
class Material:
    """A folder of photographs: its folds, and pixels and features as they are asked for."""

    root: Path
    state: Path
    dataset: Dataset = field(init=False)

    def __post_init__(self) -> None:
        self.classes = load_params(ROOT / "params.yaml").data.classes
        self.index, _ = build_index(
            self.root, layout="auto", classes=self.classes, n_folds=10, held_out=0.09, seed=SEED
        )
        images = distinct(self.index).sort_values("image", ignore_index=True)
        self.images = images
        table = self.index.drop_duplicates(["fold", "split", "image"]).copy()
        table["row"] = table["image"].map(dict(zip(images["image"], images.index, strict=True)))
        table["abnormal"] = table["condition"] == "abnormal"
        self.dataset = Dataset(np.empty(0), table.sort_values(["fold", "split", "image"], ignore_index=True))

    def pixels(self, crop: str, size: int) -> np.ndarray:
        """uint8 (images, size, views · size, 3), kept in `state`."""
        file = self.state / f"{crop}-{size}.npy"
        if not file.is_file():
            loaded = [
                load_cropped(self.root / path, size, max_megapixels=100, crop=crop)[0] for path in self.images["path"]
            ]
            np.save(file, np.stack(loaded))
        return np.load(file, mmap_mode="r")

    def features(self, crop: str, size: int, flips: str, weights: str = "imagenet") -> tuple[np.ndarray, int]:
        """As `feature_trunk` gives them, (images, flips, views · features); and how many of a view's are of the top."""
        fresh(SEED)
        trunk = feature_trunk(build_backbone(LITE, size, weights, len(views_of(crop))), LITE, flips)
        (found,) = activations(trunk, self.pixels(crop, size), self.state / "activations")
        return np.asarray(found), 1280

    def tables(self, of: Callable[[dict], dict[str, np.ndarray]]) -> Predictions:
        """Predictions of every fold by a function from its splits to log-odds by split."""
        parts: dict[str, list[pd.DataFrame]] = {split: [] for split in SPLITS}
        for fold in self.dataset.folds:
            splits = self.dataset.fold(fold)
            for split, log_odds in of(splits).items():
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
    """The recipe, or one that differs from it in a lever; `depths`: several | top (maxima) | average (of the top)."""
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
    return material.tables(lambda splits: fit_features(features, splits, C)[1])


def thumbnail(material: Material) -> Predictions:
    """A regression on 7 × 7 pixels of the whole picture."""
    small = material.pixels("none", 7).reshape(len(material.images), 1, -1).astype(float)
    return material.tables(lambda splits: fit_features(small, splits, 1.0)[1])


def networks(material: Material, crop: str, size: int, **fit: Any) -> Iterator[tuple[str, Predictions]]:
    """Linear probe, then the last 20 layers, then all of them, each from the one before; predictions after each."""
    plans = [
        ("head", cut_head, Trial(lr=1e-3, optimizer="adam", batch_size=16, epochs=20, **fit)),
        (
            "last 20 layers",
            lambda network: cut_last(network, 20),
            Trial(lr=1e-4, optimizer="adam", batch_size=16, epochs=10, **fit),
        ),
        ("every layer", cut_all, Trial(lr=1e-4, optimizer="adam", batch_size=16, epochs=3, **fit)),
    ]
    pixels = material.pixels(crop, size)
    found: dict[str, dict[int, dict]] = {name: {} for name, _, _ in plans}
    for fold in material.dataset.folds:
        fresh(SEED)
        splits = material.dataset.fold(fold)
        network = build_network(build_backbone(LITE, size, "imagenet", len(views_of(crop))), dropout=0.2, seed=SEED)
        for name, cut, trial in plans:
            searcher = Searcher(cut(network), pixels, splits, seed=SEED, state=material.state, title=f"fold {fold}")
            snapshot = searcher.train([trial])[trial]
            searcher.take(snapshot)
            found[name][fold] = snapshot.log_odds
    for name in found:
        turn = iter(found[name].values())
        yield name, material.tables(lambda _, turn=turn: next(turn))


def averaged(first: Predictions, second: Predictions) -> Predictions:
    """The mean of two models' probabilities."""
    keys = ["fold", "image"]
    both = {}
    for split in SPLITS:
        one, two = (tables[split].sort_values(keys, ignore_index=True) for tables in (first, second))
        log_odds = mean_of(np.stack([one["log_odds"], two["log_odds"]]))
        both[split] = one.assign(log_odds=log_odds, probability=expit(log_odds))
    return both


def levers(material: Material, *, deep: bool) -> Iterator[tuple[str, str, Predictions]]:
    """Every lever: its group, what it is, its predictions; the recipe first."""
    recipe = regression(material)
    yield "recipe", "Lite0 frozen, disc + wide + retina, several depths, four flips, C 0.03, 224 px", recipe
    yield "floor", "a regression on 7 × 7 pixels", thumbnail(material)
    plain = regression(material, "none", depths="average", flips="none", C=1.0)
    yield "floor", "frozen regression: whole picture, average of the last map, C 1", plain
    yield "weights", "random weights", regression(material, weights="none")
    for crop in ("none", "retina", "disc", "wide", "disc+retina", "wide+retina"):
        yield "parts", f"crop {crop}", regression(material, crop)
    yield "depths", "maximum of the last map alone", regression(material, depths="top")
    yield "depths", "average of the last map alone, no flips", regression(material, depths="average")
    yield "flips", "none", regression(material, flips="none")
    yield "flips", "horizontal", regression(material, flips="horizontal")
    for penalty in (1.0, 0.3, 0.1, 0.01, 0.003):
        yield "penalty", f"C {penalty:g}", regression(material, C=penalty)
    for size in (160, 288):
        yield "size", f"{size} px", regression(material, size=size)
    if deep:
        for name, fit in (
            ("precise batch norm", {"precise_bn": True}),
            ("moving averages", {}),
            ("precise batch norm, label smoothing 0.1, cosine with warm-up",
             {"precise_bn": True, "label_smoothing": 0.1, "schedule": "cosine", "warmup": 1}),
        ):  # fmt: skip
            for layers, predictions in networks(material, "wide", 160, **fit):
                yield "networks", f"crop wide, 160 px, {layers} trained; {name}", predictions
                if "batch norm" in name and "label" not in name:
                    yield "networks", f"the same, averaged with the recipe ({layers})", averaged(recipe, predictions)


def main() -> None:
    """Judge every lever and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("data", type=Path, nargs="+", help="folders of photographs, each in a layout of docs/data.md")
    parser.add_argument("--state", type=Path, default=Path(".state/recipe"), help="where features are kept")
    parser.add_argument("--deep", action="store_true", help="train networks too (an hour or more for 400 photographs)")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="folder of recipe.md and recipe.json")
    given = parser.parse_args()
    told = json.loads(path.read_text()) if (path := given.output / "recipe.json").is_file() else {}
    for root in given.data:
        state = given.state / root.name
        state.mkdir(parents=True, exist_ok=True)
        material, rows, recipe = Material(root, state), [], None
        for group, lever, predictions in levers(material, deep=given.deep):
            recipe = predictions if recipe is None else recipe
            row = {"group": group, "lever": lever}
            for split in SPLITS:
                found = mean_differences(recipe[split], predictions[split], seed=SEED, resamples=1000)
                auroc = found.set_index("score").loc["auroc"]
                row[split] = auroc["second"]
                if split == "test" and group != "recipe":
                    row |= {name: float(auroc[name]) for name in ("difference", "low", "high")}
            rows.append(row)
            print(f"{root.name}: {group}: {lever}: {row}", flush=True)
            told[root.name] = {"images": len(material.images), "machine": machine(), "rows": rows}
            with atomic_path(path) as file:
                file.write_text(json.dumps(told, indent=1) + "\n")
            with atomic_path(given.output / "recipe.md") as file:
                file.write_text(markdown(told))


def markdown(told: dict[str, Any]) -> str:
    """The table of every folder."""
    text = ["# What each lever of the recommended recipe is worth", "", *__doc__.splitlines()[2:], ""]
    text += ["Made by `python benchmarks/recipe.py DATA … --deep`; the figures are in recipe.json.", ""]
    for name, part in told.items():
        text += [f"## {name}: {part['images']} photographs", ""]
        text += ["| | lever | AUROC, test | AUROC, valid | difference to the recipe, test |", "|---|---|---|---|---|"]
        for row in part["rows"]:
            shown = ""
            if "difference" in row:
                shown = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
            text.append(f"| {row['group']} | {row['lever']} | {row['test']:.3f} | {row['valid']:.3f} | {shown} |")
        text += ["", f"{part['machine']['cores']} cores of {part['machine']['processor']}.", ""]
    return "\n".join(text)


if __name__ == "__main__":
    main()
