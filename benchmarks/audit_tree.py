"""The audit: recall on planted faults, and time and memory on trees of the report's size, smaller and larger.

Faults are planted among distinct textures, and among rendered whole retinas with the same frame: copies (exact, at half
the size, recompressed at quality 60, mirrored; of retinas also upside down, rotated and cropped to 70 %), files under
both labels, patients in two splits and truncated files. The highest correlation of different retinas is reported beside
the lowest of copies. Time and memory are those of a process that audits a listed tree with each image ten times as hard
links; the largest tree has each image once.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from measuring import ROOT, SEED, Row, Scale, main, run_part

FOLDS = 10
SIDE = 256  # side of the textures, pixels
RETINA = 160  # side of the whole retinas, pixels
MANY = 20000  # images of the largest tree
# Orientation of a copy: whether it is mirrored, and the rotation, as the audit should report them
COPIES = {"resized": (False, 0), "recompressed": (False, 0), "mirrored": (True, 0)}
TURNED = {"upside_down": (True, 180), "turned": (False, 180), "quarter": (False, 270), "cropped": (False, 0)}
LOOSE = 0.32  # share of differing bits below which different photographs are compared, to measure their similarity
OTHERS = ("exact", "conflict", "patient", "corrupt")


@dataclass(frozen=True)
class Ground:
    """The setup of planted faults: number of images, images per fault of each kind, kinds of copies."""

    images: int
    each: int
    copies: dict[str, tuple[bool, int]]


GROUNDS = {"textures": Ground(1000, 50, COPIES), "retinas": Ground(320, 16, COPIES | TURNED)}


def textures(folder: Path, scale: Scale) -> dict[str, Any]:
    """Faults planted among textures."""
    return _planted(folder / "textures", GROUNDS["textures"], _texture, tiny=scale.tiny)


def retinas(folder: Path, scale: Scale) -> dict[str, Any]:
    """Faults planted among whole retinas."""
    return _planted(folder / "retinas", GROUNDS["retinas"], _retina, tiny=scale.tiny)


def _planted(root: Path, ground: Ground, draw: Callable[[int], Any], *, tiny: bool) -> dict[str, Any]:
    """Seconds of the audit, faults planted and found, false duplicates, and similarity of pairs."""
    import pandas as pd

    from glaucoma.audit.gate import audit
    from glaucoma.base.params import load_params
    from glaucoma.dataset.intake import build_index

    params = load_params(ROOT / "params.yaml")
    count = 2 * ground.each if tiny else ground.images
    rows, faults = _plant(root, count, ground, draw)
    pd.DataFrame(rows)[["image", "label", "patient"]].to_csv(root / "labels.csv", index=False)
    index, _ = build_index(root, layout="labels", classes=params.data.classes, n_folds=None, held_out=0, seed=SEED)
    index["split"] = index["path"].map({row["image"]: row["split"] for row in rows})
    begin = time.perf_counter()
    findings = audit(index, root, params)
    seconds = time.perf_counter() - begin

    told = {
        (frozenset((pair.first_path, pair.second_path)), (bool(pair.mirrored), _way(pair)))
        for pair in findings.duplicates.itertuples()
    }
    copies = {(frozenset(pair), way) for kind, way in ground.copies.items() for pair in faults[kind]}
    said = {(one.finding, f"{one.where} {one.message}") for one in findings.found}
    names = {"exact": "split_leak", "conflict": "label_conflict", "patient": "patient_leak", "corrupt": "unreadable"}
    found = len(copies & told)
    for kind, name in names.items():
        texts = [text for finding, text in said if finding == name]
        found += sum(any(all(path in text for path in paths) for text in texts) for paths in faults[kind])
    total = sum(map(len, faults.values()))
    counts = {"planted": total, "found": found, "false": len(told - copies), "images": count}
    return {"seconds": seconds, **counts, **_alike(root, rows, faults, ground)}


def _way(pair: Any) -> int:
    """The copy's rotation; inverted if the audit lists the copy first, because it reports the second's rotation."""
    return pair.turned if pair.mirrored or "-" in pair.second_path else -pair.turned % 360


def _alike(root: Path, rows: list[dict[str, str]], faults: dict[str, list], ground: Ground) -> dict[str, float]:
    """The lowest correlation of copies, and the highest of the most similar different photographs."""
    from glaucoma.photos import duplicates
    from glaucoma.photos.images import decode

    def prints(names: Iterable[str]) -> list[Any]:
        return [
            duplicates.fingerprint(decode(root / name, max_megapixels=1, at_least=duplicates.DECODED)) for name in names
        ]

    pairs = [pair for kind in ground.copies for pair in faults[kind]]
    same = [duplicates.link(prints(pair))["correlation"].max() for pair in pairs]
    distinct = prints([row["image"] for row in rows if "-" not in row["image"]])
    compared = duplicates.compared(distinct, apart=LOOSE)
    return {"same": float(min(same)), "different": float(compared["correlation"].max()), "compared": len(compared)}


def tree(folder: Path, scale: Scale) -> dict[str, Any]:
    """Make a tree of ten folds (the largest tree has one) with its index; return the number of files."""
    from glaucoma.base.files import write_csv
    from glaucoma.base.params import load_params
    from glaucoma.dataset.intake import build_index

    root = folder / f"tree{scale.images}"
    folds = FOLDS if scale.images < MANY else 1
    for member, name in enumerate(_photographs(folder / f"photographs{scale.images}", scale)):
        condition, part = ("normal", "abnormal")[member % 2], member // 2 % FOLDS
        for fold in range(folds):
            split = "test" if part == fold else "valid" if (part + 1) % FOLDS == fold else "train"
            path = root / f"Fold{fold}" / split / condition / f"{fold}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / f"photographs{scale.images}" / name, path)
    classes = load_params(ROOT / "params.yaml").data.classes
    index, _ = build_index(root, layout="folds", classes=classes, n_folds=folds, held_out=0.09, seed=SEED)
    write_csv(folder / f"index{scale.images}.csv", index)
    return {"files": len(index)}


def timed(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the audit of a listed tree."""
    from glaucoma.audit.gate import audit
    from glaucoma.base.index import read_index
    from glaucoma.base.params import load_params

    begin = time.perf_counter()
    index = read_index(folder / f"index{scale.images}.csv")
    audit(index, folder / f"tree{scale.images}", load_params(ROOT / "params.yaml"))
    return {"seconds": time.perf_counter() - begin}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Rows: planted faults, then a quarter, half and all of the images, then many."""
    rows = []
    for what, part in (("planted faults", textures), ("planted faults in whole retinas", retinas)):
        found = run_part(part.__name__, part, folder, scale)
        equal = f"{found['found']} of {found['planted']} planted faults found, {found['false']} false duplicates"
        alike = f"whole; structure of copies correlates by {found['same']:.2f} at least, of the {found['compared']} "
        alike += f"nearest pairs of others by {found['different']:.2f} at most"
        rows.append(Row(f"{what}, {found['images']} distinct images", "s", None, found["seconds"], alike, equal))
    parts: dict[int, Mapping[str, Any]] = {}
    images = scale.images * (4 if scale.tiny else 1)  # every split of a quarter needs both classes
    for count in (images // 4, images // 2, images, 2 * images if scale.tiny else MANY):
        part = replace(scale, images=count)
        files = run_part("tree", tree, folder, part)["files"]
        parts[count] = run_part("timed", timed, folder, part) | {"files": files}
    (few, first), _, (most, last), (many, largest) = parts.items()
    what = f"audit, {last['files']} files of {most} images, {scale.photograph} px"
    cost = ", ".join(f"{images} images {part['seconds']:.3g} s" for images, part in parts.items())
    return [
        *rows,
        Row(what, "s", None, last["seconds"], "whole", ours_aim=15),
        Row(what, "GB", None, last["peak"], "whole", ours_aim=1),
        Row(f"audit of many, {many} distinct images", "s", None, largest["seconds"], "whole", ours_aim=240),
        Row(f"audit of many, {many} distinct images", "GB", None, largest["peak"], "whole"),
        Row(
            "audit of more, 4 × the images against 1 ×",
            "images/s",
            few / first["seconds"],
            most / last["seconds"],
            cost,
            ratio_aim=0.8,
        ),
    ]


def _photographs(folder: Path, scale: Scale) -> list[str]:
    """Write JPEGs of distinct textures and return their names."""
    import numpy as np
    from PIL import Image

    folder.mkdir()
    rng, names = np.random.default_rng(SEED), []
    for i in range(scale.images):
        coarse, fine = (
            Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((scale.photograph,) * 2)
            for cells in (8, 48)
        )
        names.append(f"{i:05}.jpg")
        Image.blend(coarse, fine, 0.5).save(folder / names[-1], quality=85)
    return names


def _texture(seed: int) -> Any:
    """A texture, different for each seed."""
    import numpy as np
    from PIL import Image, ImageFilter

    rng = np.random.default_rng([SEED, seed])
    layers = [
        Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((SIDE, SIDE))
        for cells in (6, 24, 96)
    ]
    return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))


def _retina(seed: int) -> Any:
    """A whole retina in the common round frame, a different eye for each seed."""
    import numpy as np
    from PIL import Image

    from glaucoma.synthetic.anatomy import draw_eyes
    from glaucoma.synthetic.render import render_eye

    rng = np.random.default_rng([SEED, seed])
    (eye,) = draw_eyes(rng, "normal", 1)
    aside, height = rng.uniform(0.18, 0.26), rng.uniform(0.42, 0.58)
    camera = replace(eye.camera, field_edge=0.0, blur=eye.camera.blur / 3)
    centre = {"centre_x": aside if eye.left else 1 - aside, "centre_y": height}
    pixels = render_eye(replace(eye, radius=0.055, camera=camera, **centre), RETINA)
    y, x = (np.mgrid[:RETINA, :RETINA] + 0.5) / RETINA - 0.5
    return Image.fromarray(pixels * (np.hypot(x, y) < 0.495)[..., None].astype(np.uint8))


def _plant(
    root: Path, count: int, ground: Ground, draw: Callable[[int], Any]
) -> tuple[list[dict[str, str]], dict[str, list[tuple[str, ...]]]]:
    """Write pictures and a fault of each kind per `each`; return rows of labels.csv with `split`, and the faults."""
    from PIL import Image

    root.mkdir()
    kinds = (*ground.copies, *OTHERS)
    rows, faults = [], {kind: [] for kind in kinds}
    flips = {
        "mirrored": Image.Transpose.FLIP_LEFT_RIGHT,
        "upside_down": Image.Transpose.FLIP_TOP_BOTTOM,
        "turned": Image.Transpose.ROTATE_180,
        "quarter": Image.Transpose.ROTATE_90,
    }

    def add(name: str, label: int, patient: str, split: str) -> None:
        rows.append({"image": name, "label": str(label), "patient": patient, "split": split})

    for i in range(count):
        name, label, image = f"{i:05}.jpg", i % 2, draw(i)
        kind = kinds[i % ground.each] if i % ground.each < len(kinds) else ""
        image.save(root / name, quality=90)
        # A patient's second image is in another split
        leaked, second = kinds.index("patient"), len(kinds)
        patient = f"shared{i // ground.each}" if i % ground.each in (leaked, second) else f"p{i}"
        add(name, label, patient, "test" if i % ground.each == second else "train")
        other = f"{i:05}-{kind}.jpg"
        if kind in ("exact", "conflict"):
            (root / other).write_bytes((root / name).read_bytes())
        elif kind == "resized":
            image.resize((image.width // 2, image.height // 2)).save(root / other, quality=90)
        elif kind == "recompressed":
            image.save(root / other, quality=60)
        elif kind == "cropped":
            left, top = round(0.1 * image.width), round(0.05 * image.height)
            image.crop((left, top, left + round(0.84 * image.width), top + round(0.84 * image.height))).save(
                root / other
            )
        elif kind in flips:
            image.transpose(flips[kind]).save(root / other, quality=90)
        elif kind == "corrupt":
            (root / other).write_bytes((root / name).read_bytes()[:-2000])
        if kind == "patient":
            faults[kind].append((name, f"{i + second - leaked:05}.jpg"))
        elif kind:
            add(other, 1 - label if kind == "conflict" else label, "", "test" if kind == "exact" else "train")
            faults[kind].append((other,) if kind == "corrupt" else (name, other))
    return rows, faults


if __name__ == "__main__":
    main(__doc__, measure, textures=textures, retinas=retinas, tree=tree, timed=timed)
