"""What a backbone's weights know of eyes: its frozen features, judged on any folder of photographs: transfer.md.

Features are taken and fitted as the recommended regression does it (224 px, several depths, four flips, C 0.03), in ten
folds with images of one patient and copies together. The score is the mean over the folds of the fold's AUROC: on
`test`, where each image stands once, and on `valid`. The interval is that of the paired difference to the first
backbone on `test`, by resampled groups of images. `+` puts the features of several backbones side by side.

Where a thumbnail tells the classes apart, a good score says little. Of such a folder a part is judged, too, `matched`:
the largest number of pairs of a normal and an abnormal photograph that a regression on 7 × 7 pixels holds for equally
likely, so that such a regression, fitted anew on the part, scores 0.6 at most.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from measuring import ROOT, SEED, machine
from recipe import LITE, Material, Predictions, judged, thumbnail
from sklearn.metrics import roc_auc_score

from glaucoma.base.files import atomic_path
from glaucoma.dataset.folds import draw_folds
from glaucoma.photos.looks import clusters, look_at

SIZE, FLIPS, C = 224, "both", 0.03
MOST = 0.6  # AUROC of a thumbnail up to which a part counts as matched
FEWEST = 20  # pairs that are worth judging
REACH = np.geomspace(4.0, 0.02, 24)  # how far apart the log-odds of a pair may be, tried in this order


class Part(Material):
    """Some of a folder's photographs, in folds of their own."""

    def __init__(self, whole: Material, images: set[str], copies: Mapping[str, Any]):
        self.whole, self.root, self.state = whole, whole.root, whole.state
        self.rows = np.flatnonzero(whole.images["image"].isin(images))
        self.images = whole.images.iloc[self.rows].reset_index(drop=True)
        index = whole.index.drop_duplicates("path").drop(columns=["fold", "split"])
        index = index[index["image"].isin(images)].sort_values("path", ignore_index=True)
        together = index["image"].map(copies).to_numpy()
        self.index = draw_folds(index, n_folds=10, held_out=0.09, seed=SEED, clusters=together)
        self.dataset = self.folds_of(self.index)

    def pixels(self, crop: str, size: int) -> np.ndarray:
        """Those of the whole."""
        return np.asarray(self.whole.pixels(crop, size)[self.rows])


def predictions(material: Material, crop: str, backbones: Sequence[tuple[str, str]]) -> Predictions:
    """By a regression on the features of one or several backbones, (architecture, weights) each, side by side."""
    found = [material.features(crop, SIZE, FLIPS, weights, name)[0] for name, weights in backbones]
    features = np.concatenate(found, axis=-1)
    return material.regressions(features, C)


def matched(whole: Material, by_thumbnail: Predictions) -> tuple[Material, dict[str, float]] | None:
    """The largest part of a folder that a thumbnail does not tell apart, in folds of its own; and its figures.

    None where the whole is such a part already, or no part is large enough.
    """
    table = by_thumbnail["test"]
    odds, abnormal = table["log_odds"].to_numpy(), (table["label"] == "abnormal").to_numpy()
    if _auroc(by_thumbnail) <= MOST:
        return None
    copies = clusters(look_at(whole.index, whole.root, "look for copies", max_megapixels=100))[0]
    for reach in REACH:
        kept = table.loc[_pairs(odds, abnormal, reach)]
        apart = float(roc_auc_score(kept["label"] == "abnormal", kept["log_odds"]))
        if len(kept) < 2 * FEWEST or apart > MOST:
            continue
        part = Part(whole, set(kept["image"]), copies)
        anew = _auroc(thumbnail(part))
        if anew <= MOST:
            return part, {"images": len(kept), "thumbnail": anew, "thumbnail_of_whole": apart, "reach": float(reach)}
    return None


def _pairs(odds: np.ndarray, abnormal: np.ndarray, reach: float) -> list[int]:
    """As many pairs of one of each class as there can be with odds at most `reach` apart; none stands twice."""
    first, second = (list(np.flatnonzero(which)[np.argsort(odds[which])]) for which in (~abnormal, abnormal))
    kept, i, j = [], 0, 0
    while i < len(first) and j < len(second):
        apart = odds[second[j]] - odds[first[i]]
        if abs(apart) <= reach:
            kept += [first[i], second[j]]
        i, j = i + (apart >= -reach), j + (apart <= reach)
    return kept


def _auroc(found: Predictions) -> float:
    """The mean on `test` over the folds that hold both classes."""
    parts = [(part["label"] == "abnormal", part["log_odds"]) for _, part in found["test"].groupby("fold")]
    return float(np.mean([roc_auc_score(*part) for part in parts if part[0].nunique() > 1]))


def main() -> None:
    """Judge every backbone and write the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "data", nargs="+", metavar="FOLDER[:CROP]", help="photographs in a layout of docs/data.md, and data.crop (none)"
    )
    parser.add_argument(
        "--backbone", action="append", default=[], metavar="NAME=WEIGHTS[@ARCHITECTURE]",
        help="weights: imagenet, none or a file; to be judged beside ImageNet's and random ones",
    )  # fmt: skip
    parser.add_argument(
        "--beside", action="append", default=[], metavar="NAME+NAME", help="features of these side by side"
    )
    parser.add_argument("--about", default="", help="a sentence on how the given backbones were made")
    parser.add_argument("--state", type=Path, default=Path(".state/recipe"), help="where features are kept")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks", help="folder of transfer.md and .json")
    given = parser.parse_args()
    known = {"ImageNet": [(LITE, "imagenet")], "random": [(LITE, "none")]}
    for one in given.backbone:
        name, _, weights = one.partition("=")
        weights, _, architecture = weights.partition("@")
        known[name] = [(architecture or LITE, weights)]
    for one in given.beside:
        known[one] = [backbone for name in one.split("+") for backbone in known[name]]
    path = given.output / "transfer.json"
    told = json.loads(path.read_text()) if path.is_file() else {"backbones": {}, "judges": {}}
    told["backbones"] |= {one.partition("=")[0]: given.about for one in given.backbone if given.about}
    for one in given.data:
        folder, _, crop = one.partition(":")
        for judge, photographs, figures in judges(Path(folder), crop or "none", given.state):
            print(f"{judge}: {figures}", flush=True)
            rows = told["judges"].get(judge, {}).get("rows", {})
            against = predictions(photographs, crop or "none", known["ImageNet"])
            for name, backbones in known.items():
                first = name == "ImageNet"
                rows[name] = judged(against, against if first else predictions(photographs, crop or "none", backbones))
                print(f"{judge}: {name}: {rows[name]}", flush=True)
                told["judges"][judge] = figures | {"machine": machine(), "rows": rows}
                for file, text in ((path, json.dumps(told, indent=1) + "\n"), (path.with_suffix(".md"), shown(told))):
                    with atomic_path(file) as temporary:
                        temporary.write_text(text)


def judges(root: Path, crop: str, state: Path) -> Iterator[tuple[str, Material, dict[str, float]]]:
    """A matched part of a folder, where there is one, and the whole: name, photographs and figures of each."""
    (state / root.name).mkdir(parents=True, exist_ok=True)
    whole = Material(root, state / root.name)
    small = thumbnail(whole)
    if part := matched(whole, small):
        yield f"{root.name} matched, crop {crop}", *part
    yield f"{root.name}, crop {crop}", whole, {"images": len(whole.images), "thumbnail": _auroc(small)}


def shown(told: dict[str, Any]) -> str:
    """The table of every judge."""
    text = ["# What a backbone's weights know of eyes", "", *__doc__.splitlines()[2:], ""]
    text += ["Made by `python benchmarks/transfer.py FOLDER[:CROP] …`; the figures are in transfer.json.", ""]
    text += [f"- {name}: {about}" for name, about in told["backbones"].items()] + [""]
    for judge, part in told["judges"].items():
        text += [f"## {judge}", ""]
        text += [f"{part['images']} photographs; a thumbnail's regression reaches {part['thumbnail']:.3f}.", ""]
        text += ["| backbone | AUROC, test | AUROC, valid | difference to ImageNet, test |", "|---|---|---|---|"]
        for name, row in part["rows"].items():
            apart = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]" if "difference" in row else ""
            text.append(f"| {name} | {row['test']:.3f} | {row['valid']:.3f} | {apart} |")
        text.append("")
    return "\n".join(text)


if __name__ == "__main__":
    main()
