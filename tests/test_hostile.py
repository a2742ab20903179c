"""A hundred damaged or unusual files: each is reported or read correctly, and none stops the others."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import small
from conftest import run_glaucoma
from PIL import Image
from trees import bomb, jpeg, photograph

from glaucoma.model.artifacts import save_model

SIDE = 64


def saved(image: Image.Image, form: str, **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


def wholes() -> dict[str, bytes]:
    eye = photograph(1, size=SIDE)
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
    yield "float.tif", saved(Image.fromarray(np.zeros((SIDE, SIDE), np.float32)), "TIFF")
    yield "integers.tif", saved(Image.fromarray(np.zeros((SIDE, SIDE), np.int32)), "TIFF")


def odd() -> Iterator[tuple[str, bytes]]:
    """Unusual files that are photographs."""
    eye = photograph(1, size=SIDE)
    frames = [photograph(seed, size=SIDE) for seed in (2, 3)]
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
    yield "followed.jpg", jpeg(1, size=SIDE) + b"PK\x03\x04" * 500
    yield "a name;\n$(touch proof) 眼.jpg", jpeg(1, size=SIDE)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("network") / "one.keras"
    save_model(small.tiny_network(), path, {})
    return path


def test_each_of_a_hundred_hostile_files_is_named_and_none_is_fatal(network, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    bad, strange = dict(broken()), dict(odd())
    assert len(bad) + len(strange) >= 100
    (tmp_path / "files").mkdir()
    for name, content in {**bad, **strange, "good.jpg": jpeg(1, size=SIDE)}.items():
        (tmp_path / "files" / name).write_bytes(content)
    assert run_glaucoma("predict", network, "files", "--format", "json") == 3
    said = capsys.readouterr()
    rows = json.loads(said.out)
    assert len(rows) == len(bad) + len(strange) + 1
    faults = {row["image"] for row in rows if row["fault"]}
    assert faults == {f"files/{name}" for name in bad}
    assert all((row["probability"] is None) is bool(row["fault"]) for row in rows)
    assert f"{len(bad)} files of {len(rows)} cannot be read" in said.err
    assert "Traceback" not in said.err
    assert not (tmp_path / "proof").exists()
