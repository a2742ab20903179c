"""The audit: what of planted faults it finds, and what it costs on a tree of the report's size and on parts of it.

Faults are planted among distinct textures: copies (exact, at half the size, recompressed at quality 60, mirrored),
files under both labels, patients in two splits and files that are cut short. Time and memory are those of a process
that audits a listed tree, each image ten times in it as hard links.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from decode import photographs
from measuring import ROOT, SEED, Row, Scale, main, run_part

FOLDS = 10
EACH = 50  # images for one fault of each kind
DISTINCT = 1000
SIDE = 256  # pixels of the textures that faults are planted among
COPIES = {"resized": False, "recompressed": False, "mirrored": True}  # whether the audit should say mirrored


def planted(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of the audit, faults planted and found, and duplicates told that are none."""
    import pandas as pd

    from glaucoma.audit.gate import audit
    from glaucoma.base.params import load_params
    from glaucoma.dataset.intake import build_index

    params = load_params(ROOT / "params.yaml")
    root, count = folder / "planted", 2 * EACH if scale.tiny else DISTINCT
    rows, faults = _plant(root, count)
    pd.DataFrame(rows)[["image", "label", "patient"]].to_csv(root / "labels.csv", index=False)
    index, _ = build_index(root, layout="labels", classes=params.data.classes, n_folds=None, held_out=0, seed=SEED)
    index["split"] = index["path"].map({row["image"]: row["split"] for row in rows})
    begin = time.perf_counter()
    findings = audit(index, root, params)
    seconds = time.perf_counter() - begin

    told = {
        (frozenset((pair.first_path, pair.second_path)), bool(pair.mirrored))
        for pair in findings.duplicates.itertuples()
    }
    copies = {(frozenset(pair), COPIES[kind]) for kind in COPIES for pair in faults[kind]}
    said = {(one.finding, f"{one.where} {one.message}") for one in findings.found}
    names = {"exact": "split_leak", "conflict": "label_conflict", "patient": "patient_leak", "corrupt": "unreadable"}
    found = len(copies & told)
    for kind, name in names.items():
        texts = [text for finding, text in said if finding == name]
        found += sum(any(all(path in text for path in paths) for text in texts) for paths in faults[kind])
    total = sum(map(len, faults.values()))
    return {"seconds": seconds, "planted": total, "found": found, "false": len(told - copies), "images": count}


def tree(folder: Path, scale: Scale) -> dict[str, Any]:
    """A tree of ten folds with its index; its number of files."""
    from glaucoma.base.files import write_csv
    from glaucoma.base.params import load_params
    from glaucoma.dataset.intake import build_index

    root = folder / f"tree{scale.images}"
    made = photographs(folder / f"photographs{scale.images}", scale)
    for member, (name, _) in enumerate(made):
        condition, part = ("normal", "abnormal")[member % 2], member // 2 % FOLDS
        for fold in range(FOLDS):
            split = "test" if part == fold else "valid" if (part + 1) % FOLDS == fold else "train"
            path = root / f"Fold{fold}" / split / condition / f"{fold}{name}"
            path.parent.mkdir(parents=True, exist_ok=True)
            os.link(folder / f"photographs{scale.images}" / name, path)
    classes = load_params(ROOT / "params.yaml").data.classes
    index, _ = build_index(root, layout="folds", classes=classes, n_folds=FOLDS, held_out=0.09, seed=SEED)
    write_csv(folder / f"index{scale.images}.csv", index)
    return {"files": len(index)}


def timed(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds that the audit of a listed tree takes."""
    from glaucoma.audit.gate import audit
    from glaucoma.base.index import read_index
    from glaucoma.base.params import load_params

    begin = time.perf_counter()
    index = read_index(folder / f"index{scale.images}.csv")
    audit(index, folder / f"tree{scale.images}", load_params(ROOT / "params.yaml"))
    return {"seconds": time.perf_counter() - begin}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Planted faults first, then a quarter, half and all of the images."""
    faults = run_part("planted", planted, folder, scale)
    equal = f"{faults['found']} of {faults['planted']} planted faults found, {faults['false']} false duplicates"
    parts: dict[int, Mapping[str, Any]] = {}
    images = scale.images * (4 if scale.tiny else 1)  # every split of a quarter needs both classes
    for share in (4, 2, 1):
        part = replace(scale, images=images // share)
        files = run_part("tree", tree, folder, part)["files"]
        parts[part.images] = run_part("timed", timed, folder, part) | {"files": files}
    (few, first), _, (most, last) = parts.items()
    what = f"audit, {last['files']} files of {most} images, {scale.photograph} px"
    cost = ", ".join(f"{images} images {part['seconds']:.3g} s" for images, part in parts.items())
    rates = first["seconds"], last["seconds"]
    return [
        Row(f"planted faults, {faults['images']} distinct images", "s", None, faults["seconds"], "whole", equal),
        Row(what, "s", None, last["seconds"], "whole", ours_aim=90),
        Row(what, "GB", None, last["peak"], "whole", ours_aim=1),
        Row(
            "audit of more, 4 × the images against 1 ×",
            "images/s",
            few / rates[0],
            most / rates[1],
            cost,
            ratio_aim=0.8,
        ),
    ]


def _plant(root: Path, count: int) -> tuple[list[dict[str, str]], dict[str, list[tuple[str, ...]]]]:
    """Write textures and one fault of each kind for every `EACH`; rows of labels.csv with `split`, and the faults."""
    import numpy as np
    from PIL import Image, ImageFilter, ImageOps

    root.mkdir()
    rng = np.random.default_rng(SEED)
    kinds = ("exact", *COPIES, "conflict", "patient", "corrupt")
    rows, faults = [], {kind: [] for kind in kinds}

    def texture() -> Image.Image:
        layers = [
            Image.fromarray(rng.integers(0, 256, (cells, cells, 3), dtype=np.uint8)).resize((SIDE, SIDE))
            for cells in (6, 24, 96)
        ]
        return Image.fromarray(np.mean(layers, axis=0).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1))

    def add(name: str, label: int, patient: str, split: str) -> None:
        rows.append({"image": name, "label": str(label), "patient": patient, "split": split})

    for i in range(count):
        name, label, image = f"{i:05}.jpg", i % 2, texture()
        kind = kinds[i % EACH] if i % EACH < len(kinds) else ""
        image.save(root / name, quality=90)
        # A patient's second image, eight further, lies in another split
        leaked = kinds.index("patient")
        patient = f"shared{i // EACH}" if i % EACH in (leaked, leaked + 8) else f"p{i}"
        add(name, label, patient, "test" if i % EACH == leaked + 8 else "train")
        other = f"{i:05}-{kind}.jpg"
        if kind in ("exact", "conflict"):
            (root / other).write_bytes((root / name).read_bytes())
        elif kind == "resized":
            image.resize((SIDE // 2, SIDE // 2)).save(root / other, quality=90)
        elif kind == "recompressed":
            image.save(root / other, quality=60)
        elif kind == "mirrored":
            ImageOps.mirror(image).save(root / other, quality=90)
        elif kind == "corrupt":
            (root / other).write_bytes((root / name).read_bytes()[:-2000])
        if kind == "patient":
            faults[kind].append((name, f"{i + 8:05}.jpg"))
        elif kind:
            add(other, 1 - label if kind == "conflict" else label, "", "test" if kind == "exact" else "train")
            faults[kind].append((other,) if kind == "corrupt" else (name, other))
    return rows, faults


if __name__ == "__main__":
    main(__doc__, measure, planted=planted, tree=tree, timed=timed)
