"""Small real folders of photographs, in every layout that the project reads."""

from __future__ import annotations

import csv
import io
import json
import os
import random
import string
import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from glaucoma.base.files import sha256_file
from glaucoma.base.params import Params, load_params
from glaucoma.model.sidecar import sidecar_of, write_sidecar
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


HOSTILE_SIDE = 64  # pixels of the pictures that are spoilt


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def wholes() -> dict[str, bytes]:
    eye = photograph(1, size=HOSTILE_SIDE)
    return {
        "jpg": saved(eye, "JPEG", quality=90),
        "png": saved(eye, "PNG"),
        "tif": saved(eye, "TIFF"),
        "webp": saved(eye, "WEBP"),
        "bmp": saved(eye, "BMP"),
    }


def broken() -> Iterator[tuple[str, bytes]]:
    """Files that cannot be read."""
    for form, whole in wholes().items():
        shares = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
        yield from ((f"cut-{share}.{form}", whole[: int(share * len(whole))]) for share in shares)
        yield f"empty.{form}", b""
        yield f"zeros.{form}", bytes(2000)
        yield f"noise.{form}", np.random.default_rng(3).bytes(2000)
    for form in ("jpg", "png", "tif"):
        for name, start in {
            "pdf": b"%PDF-1.7\n",
            "zip": b"PK\x03\x04",
            "page": b"<!DOCTYPE html>",
            "program": b"\x7fELF\x02",
            "postscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\n(%pipe%touch proof) (r) file\n",
            "script": b"#!/bin/sh\ntouch proof\n",
        }.items():
            yield f"renamed-{name}.{form}", start + bytes(500)
    for width, height in ((20_000, 20_000), (2**31 - 1, 2**31 - 1), (1, 2**31 - 1), (400, 31), (1, 1), (0, 64)):
        yield f"{width}x{height}.png", bomb(width, height)
    yield "float.tif", saved(Image.fromarray(np.zeros((HOSTILE_SIDE, HOSTILE_SIDE), np.float32)), "TIFF")
    yield "integers.tif", saved(Image.fromarray(np.zeros((HOSTILE_SIDE, HOSTILE_SIDE), np.int32)), "TIFF")


def odd() -> Iterator[tuple[str, bytes]]:
    """Files that are unusual and yet photographs."""
    eye = photograph(1, size=HOSTILE_SIDE)
    frames = [photograph(seed, size=HOSTILE_SIDE) for seed in (2, 3)]
    for form in ("GIF", "WEBP", "PNG", "TIFF"):
        yield f"animated-{form}.png", saved(eye, form, save_all=True, append_images=frames)
    for mode in ("CMYK", "L", "1", "P", "RGBA", "LA", "I;16"):
        if mode == "I;16":
            image = Image.fromarray(np.asarray(eye.convert("L")).astype(np.uint16) * 257)
        else:
            image = eye.convert(mode)
        yield f"mode-{mode.replace(';', '')}.tif", saved(image, "TIFF")
    for form in ("JPEG", "PNG", "TIFF", "WEBP"):
        yield f"profile-{form}.jpg", saved(eye, form, icc_profile=b"no profile of colours" * 9)
    yield "exif.jpg", saved(eye, "JPEG", exif=b"Exif\x00\x00MM\x00*" + b"\xff" * 40)
    yield "comment.jpg", saved(eye, "JPEG", comment=b"<script>" * 5000)
    yield "followed.jpg", jpeg(1, size=HOSTILE_SIDE) + b"PK\x03\x04" * 500
    yield "a name;\n$(touch proof) 眼.jpg", jpeg(1, size=HOSTILE_SIDE)


def onnx_model(path: Path, seed: int, **card: object) -> Path:
    """A classifier of 32 px as ONNX, with its sidecar: a regression on how far each colour is from grey, no network."""
    import onnx
    from onnx import helper

    random = np.random.default_rng(seed)
    constants = {
        "middle": np.array(128, np.float32),
        "weights": random.normal(0, 0.05, (3, 2)).astype(np.float32),
        "bias": random.normal(0, 1, 2).astype(np.float32),
        "difference": np.array([[-1], [1]], np.float32),
        "axes": np.array([1, 2]),
    }
    nodes = [
        helper.make_node("Sub", ["pixels", "middle"], ["centred"]),
        helper.make_node("Abs", ["centred"], ["apart"]),
        helper.make_node("ReduceMean", ["apart", "axes"], ["means"], keepdims=0),
        helper.make_node("Gemm", ["means", "weights", "bias"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probability"]),
        helper.make_node("MatMul", ["logits", "difference"], ["log_odds"]),
    ]
    kind = onnx.TensorProto.FLOAT
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("pixels", kind, ["n", 32, 32, 3])],
        [
            helper.make_tensor_value_info(name, kind, ["n", wide])
            for name, wide in (("probability", 2), ("log_odds", 1))
        ],
        [onnx.numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    card = {"classes": list(CONDITIONS), "threshold": 0.5, "input": {"size": 32, "crop": "none"}, **card}
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    helper.set_model_props(model, {name: json.dumps(value) for name, value in card.items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    write_sidecar(sidecar_of(path), card, sha256_file(path))
    return path
