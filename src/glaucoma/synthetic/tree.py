"""Write the synthetic sample to disk: photographs in the report's ten-fold tree, and their ground truth."""

from __future__ import annotations

import hashlib
import os
import shutil
import string
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError
from glaucoma.base.files import write_csv
from glaucoma.base.workers import in_threads
from glaucoma.synthetic.anatomy import CONDITIONS, Eye, draw_eyes
from glaucoma.synthetic.camera import encode_jpeg
from glaucoma.synthetic.render import render_eye
from glaucoma.synthetic.truth import truth

__all__ = ["make_sample"]

TRUTH = paths.TRUTH
ABNORMAL_SHARE = 0.45
HELD_OUT = 0.09  # share of all images that each fold holds out as `valid`


def make_sample(root: Path | str, *, images: int, size: int, seed: int, folds: int = 10) -> None:
    """Render the sample and lay it out as `FoldK/{train,test,valid}/{normal,abnormal}/<ten letters>.jpg`.

    Each image is in every fold once, each time under a different name (hard links, or copies if not supported). Splits
    are stratified by class only: the test splits are disjoint and cover all images, the `valid` splits, 9 % each, are
    disjoint too, and `train` is the rest. `truth.csv` has a row per image: `image` (SHA-256 of the file) and the
    columns of `truth.truth`, sorted by `image`. The tree depends only on the arguments; it replaces an earlier one
    atomically, and an interrupted run leaves the earlier one unchanged.

    Args:
        root: folder to create.
        images: number of distinct images; 45 % are abnormal.
        size: pixels per side.
        seed: determines images, folds and names.
        folds: number of folds.

    Raises:
        ParamsError: there are too few images for the folds.
        DataError: `root` contains something other than a sample.
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
    # fixed names, so that the next run removes the remains of a killed one
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
    """The split of each of `count` images of a class, fold by fold."""
    order = rng.permutation(count)
    tests = [order[fold::folds] for fold in range(folds)]
    splits = np.full((count, folds), "train", dtype=object)
    for fold, test in enumerate(tests):
        splits[test, fold] = "test"
        # part of the next fold's test set, so that no image is held out in two folds
        splits[tests[(fold + 1) % folds][: max(1, round(HELD_OUT * count))], fold] = "valid"
    return splits.tolist()


def _names(rng: np.random.Generator) -> Iterator[str]:
    """Unique names of ten letters; lower case, because some file systems ignore case."""
    letters, given = np.array(list(string.ascii_lowercase)), set()
    while True:
        name = "".join(rng.choice(letters, 10))
        if name not in given:
            given.add(name)
            yield name


def _link(source: Path, target: Path) -> None:
    """Create a hard link, or a copy if the file system does not support more links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
