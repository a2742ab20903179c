"""Write pixels.npy: every distinct image decoded once, each view resized to a square, ready for training."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from glaucoma.base.errors import DataError, listed, many, shown
from glaucoma.base.files import atomic_path, write_csv
from glaucoma.base.index import distinct
from glaucoma.base.params import views_of
from glaucoma.base.progress import say
from glaucoma.base.workers import in_threads
from glaucoma.photos.content import read_content
from glaucoma.photos.crop import Box, load_cropped
from glaucoma.photos.images import Unreadable

__all__ = ["write_pixels"]


def write_pixels(
    index: pd.DataFrame,
    root: Path,
    array_file: Path,
    table_file: Path,
    *,
    size: int,
    max_megapixels: float,
    drop_unreadable: bool,
    crop: str = "none",
    boxes_file: Path | None = None,
) -> int:
    """Decode every distinct image of an index into one array.

    Writes `array_file`, uint8 (n, size, views · size, 3), C order, RGB, rows sorted by content id, and `table_file`,
    whose row i has the `image` and `path` of array row i. Both are written atomically; only a few images are in memory
    at a time.

    Args:
        index: from `read_index`.
        root: data.root.
        array_file: the .npy file.
        table_file: the .csv file.
        size: pixels per side.
        max_megapixels: larger images are unreadable.
        drop_unreadable: leave unreadable images out instead of failing.
        crop: views of each photograph; the whole photograph where a view is not found.
        boxes_file: a .csv file for the boxes in pixels, a row per image and view; no rows if nothing is cropped.

    Returns:
        Number of images left out.

    Raises:
        DataError: unreadable images (all are named), unless dropped; an image that changed since it was indexed.
    """
    images, views = distinct(index), len(views_of(crop))

    def load(row: tuple[str, str]) -> tuple[np.ndarray, tuple[Box, ...]] | str:
        try:
            return load_cropped(read_content(root, *row), size, max_megapixels=max_megapixels, crop=crop)
        except Unreadable as fault:
            return str(fault)

    faults, kept, boxes = [], [], []
    with atomic_path(array_file) as temporary, temporary.open("wb") as file:
        _header(file, len(images), size, views)
        rows = list(zip(images["path"], images["image"], strict=True))
        for (path, image), result in zip(rows, in_threads(load, rows, "decode"), strict=True):
            if isinstance(result, str):
                faults.append(f"{shown(path)}: {result}")
            else:
                kept.append((image, path))
                pixels, found = result
                file.write(np.ascontiguousarray(pixels).data)
                boxes += [{"image": image, "path": path, **asdict(box)} for box in found]
        if faults and not drop_unreadable:
            remedy = "replace or remove them, or leave them out by setting data.unreadable to drop"
            raise DataError(f"{many(len(faults), 'image')} cannot be read:{listed(faults, most=20)}", remedy)
        if not kept:
            raise DataError(f"not one image in {shown(root)} can be read:{listed(faults)}", "set another data.root")
        _header(file, len(kept), size, views)
        # Immediately one after the other, so that both files are of the same run even after a kill
        write_csv(table_file, pd.DataFrame(kept, columns=["image", "path"]))
        if boxes_file:
            write_csv(boxes_file, pd.DataFrame(boxes, columns=["image", "path", *Box.__dataclass_fields__]))
    for view in views_of(crop) if boxes else ():
        found = sum(box["found"] for box in boxes if box["view"] == view)
        say(f"{view} found in {found} of {many(len(kept), 'image')}; the others are taken whole")
    if faults:
        say(f"{many(len(faults), 'unreadable image')} left out:{listed(faults)}")
    return len(faults)


def _header(file: BinaryIO, count: int, size: int, views: int) -> None:
    """Write the header of a .npy file of `count` images at its start; its length does not depend on the count."""
    file.seek(0)
    shape = {"descr": "|u1", "fortran_order": False, "shape": (count, size, views * size, 3)}
    np.lib.format.write_array_header_1_0(file, shape)
