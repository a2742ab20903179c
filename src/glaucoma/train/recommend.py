"""Choose crop, image size, batch size, epochs, class weights and folds for a folder of photographs, with reasons.

The choice is based on a random sample of photographs (fixed by the seed). Each number has its source beside it. nnU-Net
(Isensee et al., Nature Methods 18, 2021) derives a configuration from a data set's "fingerprint" in the same way.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from glaucoma.base.backbone_table import BACKBONES
from glaucoma.base.errors import DataError, ParamsError, listed, many, shown
from glaucoma.base.index import CONDITIONS
from glaucoma.base.params import Params, views_of
from glaucoma.base.workers import in_threads
from glaucoma.dataset.folds import find_frozen, frozen_folds, groups_of
from glaucoma.dataset.layouts import scan
from glaucoma.photos.crop import AROUND, DARK, find_boxes
from glaucoma.photos.discs import find_disc
from glaucoma.photos.images import Unreadable, decode, read_header

__all__ = [
    "AUTO",
    "Choice",
    "Folder",
    "Photograph",
    "choose",
    "disc_crops",
    "look_at",
    "look_into",
    "take_auto_out",
    "value_for",
]

AUTO = "auto"  # in a profile: a value to be chosen for the photographs

LOOKED_AT = 60  # photographs, in seconds; estimates a share within ±13 points (95 % interval)
FEWEST = 20  # independent images per class: each of ten folds then has two of each in test

# Disc crop or whole retina, measured on ACRIMA (703 disc crops), half of EyePACS-AIROGS-light (387 whole retinas) and
# 300 rendered eyes: 0, 100 and 0 % have at least three black corners. Among images without them, the median radius of
# the detected discs is 0.295 shorter sides in ACRIMA and 0.207 in rendered eyes, 0.03 and 0.11 from the centre.
# 20 photographs drawn from one set are classified correctly in 99.9 % of 1 000 draws; a single one in 82, 100 and 82 %
CORNER = 0.09  # side of a corner's square, of the longer side
CORNERS = 3  # fewest dark corners that show the camera's round field
LARGE = 0.25  # disc radius in shorter sides: the disc's crop would take three quarters of the photograph's width
MEDIUM, CENTRED = 0.15, 0.06  # or a medium radius this close to the centre, as in a photograph cropped to the disc
MOST = 0.5  # share of whole retinas in which the disc must be found
DISC_FOUND = "disc+wide+retina"  # all three views together beat each alone (benchmarks/recipe.md)

LARGEST_SIZE, SMALLEST_SIZE, STEP = 224, 96, 32  # pixels per side; networks halve their input five times
BATCH, SMALL_BATCH, STEPS = 16, 8, 10  # images; fewest steps in an epoch
EPOCHS = ((1_000, 8), (5_000, 5), (math.inf, 3))  # (upper limit of images, epochs)
UNEQUAL = 0.4  # classes are weighted if the rarer one has a smaller share


@dataclass(frozen=True)
class Photograph:
    """Measurements of one photograph.

    Attributes:
        side: its shorter side, pixels.
        field: whether the camera's round field is visible, as black corners.
        disc: radius of the optic disc, in shorter sides; None if not found.
        away: distance of the disc's centre from the photograph's, in shorter sides; None if not found.
        retina: shorter side of the retina's bounding box, pixels.
    """

    side: int
    field: bool
    disc: float | None
    away: float | None
    retina: int


@dataclass(frozen=True)
class Folder:
    """Statistics of a folder of labelled photographs.

    Attributes:
        counts: images by class; an image repeated across folds counts once.
        independent: the same with all images of a patient counted once.
        folds: fold numbers, ascending.
        drawn: whether folds are yet to be drawn.
        looks: the examined photographs.
        unreadable: number of sampled photographs that could not be read.
        seconds: per examined photograph.
    """

    counts: dict[str, int]
    independent: dict[str, int]
    folds: tuple[int, ...]
    drawn: bool
    looks: tuple[Photograph, ...]
    unreadable: int
    seconds: float

    @property
    def images(self) -> int:
        """Images of both classes."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Choice:
    """A value for a key of params.yaml, and the reason."""

    key: str
    value: Any
    reason: str


def look_into(root: Path, params: Params) -> Folder:
    """List a folder of labelled photographs and examine `LOOKED_AT` of them, drawn by the seed.

    Raises:
        DataError: the folder does not match its layout, has no readable photograph, or too few of a class.
    """
    listing = scan(root, params.data.layout, params.data.classes, params.data.patients)
    table = listing.table.sort_values("path", ignore_index=True)
    folds, drawn = _folds(root, table, params)
    if "fold" in table:  # each fold lists all images
        table = table[table["fold"] == table["fold"].value_counts().idxmax()].reset_index(drop=True)
    groups = groups_of(table.assign(image=table["path"]))
    counts = table["condition"].value_counts()
    independent = {name: len(set(groups[(table["condition"] == name).to_numpy()])) for name in CONDITIONS}
    few = {name: count for name, count in independent.items() if count < FEWEST}
    if few:
        problem = " and ".join(f"{count} {name}" for name, count in few.items())
        problem += " patients" if "patient" in table else " images"
        why = "with fewer, one of ten folds tests on one or none of them, and scores mean little"
        remedy = "add photographs, or choose the parameters yourself: `glaucoma profile shipped`, then edit params.yaml"
        raise DataError(f"{shown(root)} has only {problem}; {FEWEST} of each class are needed: {why}", remedy)

    rng = np.random.default_rng(params.seed)
    chosen = table["path"].iloc[np.sort(rng.permutation(len(table))[:LOOKED_AT])].tolist()
    begin = time.perf_counter()

    def look(name: str) -> Photograph | str:
        try:
            return look_at(root / name, params.data.max_megapixels)
        except Unreadable as fault:
            return f"{shown(name)}: {fault}"

    seen = list(in_threads(look, chosen, "examine photographs"))
    seconds = (time.perf_counter() - begin) / len(chosen)
    faults = [one for one in seen if isinstance(one, str)]
    if len(faults) == len(seen):
        problem = f"none of {many(len(seen), 'photograph')} from {shown(root)} can be read:{listed(faults, most=3)}"
        raise DataError(problem, "give a folder of photographs that can be opened")
    looks = tuple(one for one in seen if isinstance(one, Photograph))
    by_class = {name: int(counts[name]) for name in CONDITIONS}
    return Folder(by_class, independent, folds, drawn, looks, len(faults), seconds)


def look_at(path: Path, max_megapixels: float) -> Photograph:
    """Measure one photograph.

    Raises:
        Unreadable: with the reason.
    """
    width, height = read_header(path)
    image = decode(path, max_megapixels=max_megapixels, at_least=256)
    scale, side = width / image.width, min(width, height)
    disc, (box,) = find_disc(image), find_boxes(image, "retina")
    retina = round(min(box.width, box.height) * scale)
    if disc is None:
        return Photograph(side, _field(image), None, None, retina)
    away = np.hypot(disc.x - image.width / 2, disc.y - image.height / 2) / min(image.size)
    return Photograph(side, _field(image), disc.radius / min(image.size), float(away), retina)


def disc_crops(looks: Sequence[Photograph]) -> list[bool]:
    """Tell disc crops from whole retinas, photograph by photograph.

    Only whole retinas show the camera's round field. Photographs without it are judged together, by the median of their
    detected discs: in a single one, the cup or the whole picture is too often mistaken for the disc.
    """
    rimless = [one for one in looks if not one.field and one.disc is not None]
    if not rimless:
        return [False] * len(looks)
    disc, away = (float(np.median([getattr(one, name) for one in rimless])) for name in ("disc", "away"))
    close = disc >= LARGE or (disc >= MEDIUM and away <= CENTRED)
    return [close and not one.field for one in looks]


def choose(folder: Folder, params: Params) -> dict[str, Choice]:
    """Choose values for a folder, by key of params.yaml.

    Args:
        folder: from `look_into`.
        params: for the backbone.
    """
    chosen: dict[str, Choice] = {}
    for key, rule in RULES.items():
        chosen[key] = Choice(key, *rule(folder, params, {key: one.value for key, one in chosen.items()}))
    return chosen


def value_for(key: str, chosen: Mapping[str, Choice]) -> tuple[Any, str]:
    """The value and the reason for a key that `take_auto_out` returned; in a grid, a list of that value."""
    if key in RULES:
        return chosen[key].value, chosen[key].reason
    one = chosen[key.rpartition(".")[2]]
    return [one.value], f"as {one.key}"


def take_auto_out(change: Mapping[str, Any], name: str) -> tuple[dict[str, Any], list[str]]:
    """Split a profile into its fixed values and the dotted keys of its `auto` values.

    Raises:
        ParamsError: a key without a rule is `auto`; `name` is the profile in the message.
    """
    fixed, auto = _parted(change, "")
    strange = [key for key in auto if key not in RULES and not (".grid." in key and key.rpartition(".")[2] in RULES)]
    if strange:
        rules = ", ".join(RULES)
        raise ParamsError(f"{name}: {strange[0]} cannot be {AUTO}", f"give a value; keys that can be {AUTO}: {rules}")
    return fixed, sorted(auto, key=lambda key: list(RULES).index(key) if key in RULES else len(RULES))


def _parted(change: Mapping[str, Any], prefix: str) -> tuple[dict[str, Any], list[str]]:
    fixed, auto = {}, []
    for part, value in change.items():
        key = f"{prefix}{part}"
        if isinstance(value, Mapping):
            fixed[part], within = _parted(value, f"{key}.")
            auto += within
        elif value == AUTO and key not in ("data.layout", "data.patients"):  # `auto` is a value of params.yaml
            auto.append(key)
        else:
            fixed[part] = value
    return fixed, auto


def _folds(root: Path, table: pd.DataFrame, params: Params) -> tuple[tuple[int, ...], bool]:
    """The fold numbers of the future index, and whether folds are drawn."""
    if "fold" in table:
        return tuple(sorted(set(map(int, table["fold"])))), False
    frozen = find_frozen(root)
    if frozen is None:
        return tuple(range(params.crossval.n_folds)), True
    return tuple(frozen_folds(frozen)), False


def _field(image: Image.Image) -> bool:
    """Whether the corners are black, as around a camera's round field."""
    square = max(1, round(CORNER * max(image.size)))
    width, height = image.size
    corners = [(x, y) for x in (0, width - square) for y in (0, height - square)]
    parts = (np.asarray(image.crop((x, y, x + square, y + square))).max(axis=2) <= DARK for x, y in corners)
    return sum(part.mean() > 0.5 for part in parts) >= CORNERS


# The rules: each takes a folder, the parameters and the values chosen so far, and returns a value and its reason


def _crop(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[str, str]:
    crops = disc_crops(folder.looks)
    whole = [one for one, crop in zip(folder.looks, crops, strict=True) if not crop]
    total, cut = len(crops), sum(crops)
    if cut >= len(whole):
        rest = f"; the other {len(whole)} are whole retinas and stay whole" if whole else ""
        return "none", f"{cut} of {total} photographs examined are already cropped to the disc{rest}"
    found = sum(one.disc is not None and one.disc < LARGE for one in whole)
    other = f" (the other {cut} are disc crops)" if cut else ""
    what = f"the optic disc was found in {found} of {many(len(whole), 'whole retina')}{other}"
    if found >= MOST * len(whole):
        return DISC_FOUND, f"{what}; glaucoma shows there"
    if sum(one.field for one in whole) > len(whole) / 2:
        return "retina", f"{what} only; the camera's black border is trimmed"
    return "none", f"{what} only, and there is no black border to trim"


def _image_size(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[int, str]:
    sides = {view: _median_side(folder, view) for view in views_of(before["data.crop"])}
    view = max(sides, key=lambda view: sides[view])
    smallest = max(SMALLEST_SIZE, BACKBONES[params.backbone.name].smallest_size)
    size = int(max(smallest, min(LARGEST_SIZE, math.ceil(sides[view] / STEP) * STEP)))
    what = {"disc": "crops around the disc", "wide": "crops around the disc", "retina": "retinas"}.get(
        view, "photographs"
    )
    why = "more pixels would add no detail"
    if size == LARGEST_SIZE:
        why = "the usual size of pretraining"
    elif size == smallest:
        why = "smaller images do not show the rim"
    return size, f"the median side of the {what} is {sides[view]:.0f} px; {why}"


def _median_side(folder: Folder, view: str) -> float:
    """The median side of the photographs' crops, pixels."""
    if view in AROUND:
        found = [(one.disc, one.side) for one in folder.looks if one.disc is not None and one.disc < LARGE]
        return float(np.median([min(1.0, 2 * AROUND[view] * disc) * side for disc, side in found]))
    return float(np.median([one.retina if view == "retina" else one.side for one in folder.looks]))


def _batch_size(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[int, str]:
    images = many(folder.images, "image")
    if folder.images < STEPS * BATCH:
        return SMALL_BATCH, f"{images} in batches of {BATCH} are fewer than {STEPS} steps per epoch"
    return BATCH, f"{images} are at least {STEPS} steps per epoch"


def _epochs(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[int, str]:
    epochs = next(epochs for below, epochs in EPOCHS if folder.images < below)
    return epochs, f"{many(folder.images, 'image')}; more images need fewer passes"


def _class_weight(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[str, str]:
    rarer = min(folder.counts, key=lambda name: folder.counts[name])
    share = folder.counts[rarer] / folder.images
    if share < UNEQUAL:
        return "balanced", f"only {share:.0%} are {rarer}, less than {UNEQUAL:.0%}"
    return "none", f"{share:.0%} are {rarer}, at least {UNEQUAL:.0%}"


def _fold_numbers(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[list[int], str]:
    whose = "drawn here" if folder.drawn else "given with the photographs"
    return list(folder.folds), f"{many(len(folder.folds), 'fold')}, {whose}"


def _search_fold(folder: Folder, params: Params, before: Mapping[str, Any]) -> tuple[int, str]:
    return folder.folds[0], "the first fold"


Rule = Callable[[Folder, Params, Mapping[str, Any]], tuple[Any, str]]
RULES: dict[str, Rule] = {
    "data.crop": _crop,
    "data.image_size": _image_size,
    "batch_size": _batch_size,
    "epochs": _epochs,
    "fit.class_weight": _class_weight,
    "crossval.folds": _fold_numbers,
    "search.fold": _search_fold,
}
