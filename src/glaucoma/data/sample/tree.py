"""The embedded sample on disk: the report's ten-fold tree of photographs, and their truth beside them."""

from __future__ import annotations

import hashlib
import os
import shutil
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.data.sample.anatomy import CONDITIONS, Eye, draw_eyes
from glaucoma.data.sample.camera import encode_jpeg
from glaucoma.data.sample.render import render_eye
from glaucoma.data.sample.truth import truth
from glaucoma.data.workers import in_threads
from glaucoma.errors import DataError, ParamsError
from glaucoma.files import write_csv

__all__ = ["TRUTH", "make_sample"]

TRUTH = "truth.csv"
ABNORMAL_SHARE = 0.45
HELD_OUT = 0.09  # share of all images that each fold holds out as `valid`


def make_sample(root: Path | str, *, images: int, size: int, seed: int, folds: int = 10) -> None:
    """Render the sample and lay it out as `FoldK/{train,test,valid}/{normal,abnormal}/<ten letters>.jpg`.

    Each image is in every fold once, under another name each time (hard links, copies where there are none). Splits
    are drawn by class alone: the test splits are disjoint and cover all images, the `valid` splits, each 9 % of them,
    are disjoint too, and `train` is what remains. `truth.csv` has a row per image: `image` (SHA-256 of the file) and
    the columns of `truth.truth`, sorted by `image`. The tree depends on the arguments only; it replaces an earlier one
    at once, and a run that is stopped leaves that one as it was.

    Args:
        root: folder to make.
        images: how many distinct images; 45 % are abnormal.
        size: pixels a side.
        seed: decides the images, folds and names.
        folds: how many folds.

    Raises:
        ParamsError: there are too few images for the folds.
        DataError: `root` holds something else than a sample.
    """
    root = Path(root)
    abnormal = round(ABNORMAL_SHARE * images)
    if abnormal < folds:
        raise ParamsError(
            f"{images} images are too few for {folds} folds: each needs one of either class to test on",
            f"ask for at least {int(np.ceil((folds + 0.5) / ABNORMAL_SHARE))} images (sample.images)",
        )
    if root.exists() and not (root / TRUTH).exists() and (not root.is_dir() or any(root.iterdir())):
        raise DataError(
            f"{root} exists and is no sample of ours ({TRUTH} is missing)",
            "move it elsewhere and let data.root point to it there",
        )
    # fixed names: what a killed run leaves is cleared by the next
    fresh, stale = (root.with_name(f".{root.name}-{state}") for state in ("new", "old"))
    for folder in (fresh, stale):
        shutil.rmtree(folder, ignore_errors=True)
    try:
        _fill(fresh, {"normal": images - abnormal, "abnormal": abnormal}, size, seed, folds)
        if root.exists():
            root.rename(stale)
        fresh.rename(root)
    finally:
        for folder in (fresh, stale):
            shutil.rmtree(folder, ignore_errors=True)


def _fill(root: Path, counts: dict[str, int], size: int, seed: int, folds: int) -> None:
    """Write the whole tree below `root`."""
    eyes: list[Eye] = []
    places: list[list[str]] = []
    names = _names(np.random.default_rng([seed, 0]))
    for number, condition in enumerate(CONDITIONS, start=1):
        count = counts[condition]
        eyes += draw_eyes(np.random.default_rng([seed, number]), condition, count)
        splits = _splits(np.random.default_rng([seed, number, 0]), count, folds)
        places += [
            [f"Fold{fold}/{split}/{condition}/{next(names)}.jpg" for fold, split in enumerate(row)] for row in splits
        ]
    for folder in sorted({str(Path(place).parent) for row in places for place in row}):
        (root / folder).mkdir(parents=True)
    rows = []

    def photograph(eye: Eye) -> bytes:
        return encode_jpeg(render_eye(eye, size), eye.camera.bits)

    files = in_threads(photograph, eyes, "rendering the sample")
    for eye, data, (first, *others) in zip(eyes, files, places, strict=True):
        (root / first).write_bytes(data)
        for other in others:
            _link(root / first, root / other)
        rows.append({"image": hashlib.sha256(data).hexdigest(), **truth(eye, size)})
    table = pd.DataFrame(rows).astype({"notch_hour": "Int64"})
    write_csv(root / TRUTH, table.sort_values("image"))


def _splits(rng: np.random.Generator, count: int, folds: int) -> list[list[str]]:
    """Which split each of `count` images of one class belongs to, fold by fold."""
    order = rng.permutation(count)
    tests = [order[fold::folds] for fold in range(folds)]
    splits = np.full((count, folds), "train", dtype=object)
    for fold, test in enumerate(tests):
        splits[test, fold] = "test"
        # part of the next fold's test set: over all folds, no image is held out twice
        splits[tests[(fold + 1) % folds][: max(1, round(HELD_OUT * count))], fold] = "valid"
    return splits.tolist()


def _names(rng: np.random.Generator) -> Iterator[str]:
    """Names of ten letters, none twice; lower case, as some file systems do not tell A from a."""
    letters, given = np.array(list(string.ascii_lowercase)), set()
    while True:
        name = "".join(rng.choice(letters, 10))
        if name not in given:
            given.add(name)
            yield name


def _link(source: Path, target: Path) -> None:
    """A hard link, or a copy where the file system knows none or has too many to one file."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
