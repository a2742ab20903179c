"""Small real folders of photographs, in every layout that the project reads."""

from __future__ import annotations

import csv
import io
import os
import random
import string
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from glaucoma.base.params import Params, load_params
from glaucoma.synthetic.anatomy import draw_eyes
from glaucoma.synthetic.render import render_eye

CLASSES = {"normal": "normal", "abnormal": "abnormal", "glaucoma": "abnormal", "0": "normal", "1": "abnormal"}
CONDITIONS = ("normal", "abnormal")
ROOT = Path(__file__).resolve().parents[1]


def photograph(seed: int, *, size: int = 48, condition: str = "normal") -> Image.Image:
    """An RGB picture with a bright disc and a pale cup, large if abnormal; different for each seed."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size] / size - 0.5 - rng.uniform(-0.05, 0.05, (2, 1, 1))
    distance = np.hypot(x, y)
    cup = 0.24 if condition == "abnormal" else 0.12
    # Individual structure, like vessels; otherwise all would count as copies of one photograph
    texture = Image.fromarray(rng.normal(0, 25, (10, 10)).astype(np.float32)).resize((size, size))
    grey = 50 + 60 * (distance < 0.35) + 60 * (distance < cup) + rng.normal(0, 6, (size, size)) + np.asarray(texture)
    pixels = grey[..., None] * np.array([1.0, 0.6, 0.35])
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def picture(seed: int, size: int = 256) -> Image.Image:
    """Structure at all scales, like vessels on a retina; different for each seed."""
    rng = np.random.default_rng(seed)
    grey = sum(
        np.asarray(Image.fromarray(rng.normal(0, 30, (cells, cells)).astype(np.float32)).resize((size, size)))
        for cells in (4, 12, 32)
    )
    return Image.fromarray(((160 + grey[..., None]) * [1.0, 0.65, 0.4]).clip(0, 255).astype(np.uint8))


@cache
def retina(seed: int, size: int = 200) -> Image.Image:
    """A rendered whole retina: a round field on black, its disc at one side; a different eye for each seed."""
    rng = np.random.default_rng(seed)
    (eye,) = draw_eyes(rng, "normal", 1)
    aside, height = rng.uniform(0.18, 0.26), rng.uniform(0.42, 0.58)
    camera = replace(eye.camera, field_edge=0.0, blur=eye.camera.blur / 3)
    centre = {"centre_x": aside if eye.left else 1 - aside, "centre_y": height}
    pixels = render_eye(replace(eye, radius=0.055, camera=camera, **centre), size)
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    return Image.fromarray(pixels * (np.hypot(x, y) < 0.495)[..., None].astype(np.uint8))


def jpeg(seed: int, *, size: int = 48, condition: str = "normal", **options: object) -> bytes:
    """The bytes of a photograph's JPEG."""
    file = io.BytesIO()
    photograph(seed, size=size, condition=condition).save(file, "JPEG", **options)
    return file.getvalue()


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that claims to be huge."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(20))) + chunk(b"IEND", b"")


def fold_tree(root: Path, *, images: int = 12, folds: int = 3, size: int = 48, seed: int = 0) -> Path:
    """The report's tree: each of `images` distinct photographs (half of each class) once per fold, as hard links.

    Test sets are disjoint and cover all images; one image in eleven is `valid`. Names differ from fold to fold.
    """
    rng = random.Random(seed)
    for start, condition in enumerate(CONDITIONS):
        members = list(range(images // 2))
        first: dict[int, Path] = {}
        for fold in range(folds):
            test = members[fold::folds]
            rest = [member for member in members if member not in test]
            valid = rest[: max(1, round(0.09 * len(members)))]
            for member in members:
                split = "test" if member in test else "valid" if member in valid else "train"
                name = "".join(rng.choices(string.ascii_letters, k=10)) + ".jpg"
                path = root / f"Fold{fold}" / split / condition / name
                path.parent.mkdir(parents=True, exist_ok=True)
                if member in first:
                    os.link(first[member], path)
                else:
                    number = seed * 100_000 + start * 10_000 + member
                    path.write_bytes(jpeg(number, size=size, condition=condition))
                    first[member] = path
    return root


def class_tree(root: Path, *, images: int = 24, names: Iterable[str] = CONDITIONS, size: int = 48) -> Path:
    """A folder per class with half of the images each; the second has the abnormal ones."""
    for start, (name, condition) in enumerate(zip(names, CONDITIONS, strict=True)):
        (root / name).mkdir(parents=True)
        for member in range(images // 2):
            content = jpeg(start * 10_000 + member, size=size, condition=condition)
            (root / name / f"{condition}{member:03}.jpg").write_bytes(content)
    return root


def labels_tree(root: Path, rows: Iterable[Mapping[str, str]], *, delimiter: str = ",", size: int = 48) -> Path:
    """Write the images of the rows, and labels.csv with their cells."""
    rows = list(rows)
    root.mkdir(parents=True, exist_ok=True)
    for number, row in enumerate(rows):
        path = root / row["image"]
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(number, size=size, condition=CLASSES[row["label"]]))
    write_labels(root, rows, delimiter=delimiter)
    return root


def write_labels(root: Path, rows: Iterable[Mapping[str, str]], *, delimiter: str = ",") -> None:
    """Write only labels.csv, its columns in the order of the first row."""
    rows = list(rows)
    with (root / "labels.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def labelled(count: int = 24, **columns: object) -> list[dict[str, str]]:
    """Rows for `labels_tree`: `count` images, every second abnormal; other columns are functions of the number."""
    return [
        {
            "image": f"images/eye {number:03}.jpg",
            "label": str(number % 2),
            **{name: str(value(number)) for name, value in columns.items()},
        }
        for number in range(count)
    ]


def params_for(root: Path, *, waive: Iterable[str] = (), **data: object) -> Params:
    """The shipped parameters with another data.root and the changes in `data`."""
    params = load_params(ROOT / "params.yaml")
    changed = params.data.model_copy(update={"root": str(root), "image_size": 32, "crop": "none", **data})
    audit = params.audit.model_copy(update={"waive": list(waive)})
    return params.model_copy(update={"data": changed, "audit": audit})


def probes() -> pd.DataFrame:
    """reports/probes.csv of a small audit: two targets, and a skipped probe."""
    rows = [
        ("condition", "width", 1, 24, 24, 0.87, 0.84, 0.9, ""),
        ("condition", "thumbnail", 147, 24, 24, 0.95, 0.93, 0.97, ""),
        ("condition", "JPEG quality", 1, 24, 24, np.nan, np.nan, np.nan, "every image has the same"),
        ("source", "pixels", 147, 24, 24, 0.4, 0.3, 0.5, ""),
    ]
    return pd.DataFrame(rows, columns=["target", "probe", "features", "n", "groups", "auroc", "low", "high", "skipped"])
