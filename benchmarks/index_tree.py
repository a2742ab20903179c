"""Time the intake on a tree of the report's size: 17 070 files of 1 707 distinct images in ten folds.

    python benchmarks/index_tree.py [--copies link|copy] [--images 1707] [--size 512] [--where FOLDER]

Makes the tree in a temporary folder, then indexes it, audits it and writes its pixels, each in a separate process;
prints seconds (of the work, and of the whole process with its imports) and peak memory with their limits.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image, ImageFilter

FOLDS = 10
STEPS = ("index", "audit", "pixels")
LIMITS = {"index": "15 s, 500 MB", "pixels": "1 500 MB"}


def make_tree(root: Path, images: int, size: int, link: bool) -> int:
    """Write `images` distinct JPEGs ten times each, as links or copies; return their total bytes."""
    rng, total = np.random.default_rng(0), 0
    for member in range(images):
        condition = "normal" if member % 13 < 7 else "abnormal"
        noise = Image.fromarray(rng.integers(0, 256, (size // 2, size // 2, 3), dtype=np.uint8))
        image = noise.filter(ImageFilter.GaussianBlur(1)).resize((size, size))
        first = None
        for fold in range(FOLDS):
            split = "test" if member % FOLDS == fold else "valid" if (member + 1) % FOLDS == fold else "train"
            folder = root / f"Fold{fold}" / split / condition
            folder.mkdir(parents=True, exist_ok=True)
            path = folder / f"{rng.bytes(8).hex()}.jpg"
            if first is None:
                image.save(path, quality=85)
                first, total = path, total + path.stat().st_size
            elif link:
                os.link(first, path)
            else:
                shutil.copyfile(first, path)
    return total


def work(step: str, folder: Path) -> None:
    """Run a step like its stage script; print seconds and peak memory as JSON."""
    from glaucoma.audit.gate import audit
    from glaucoma.base.files import write_csv
    from glaucoma.base.index import read_index
    from glaucoma.base.params import load_params
    from glaucoma.dataset.intake import build_index
    from glaucoma.photos.pixels import write_pixels

    params = load_params(Path(__file__).resolve().parents[1] / "params.yaml")
    tree, index_file = folder / "tree", folder / "index.csv"
    start = time.perf_counter()
    if step == "index":
        classes = params.data.classes
        index, _ = build_index(tree, layout="folds", classes=classes, n_folds=FOLDS, held_out=0.09, seed=0)
        write_csv(index_file, index)
    elif step == "audit":
        audit(read_index(index_file), tree, params)
    else:
        files = folder / "pixels.npy", folder / "pixels.csv"
        write_pixels(read_index(index_file), tree, *files, size=224, max_megapixels=100, drop_unreadable=False)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024  # kB on Linux
    print(json.dumps({"seconds": seconds, "peak": peak}))


def main() -> None:
    """Make the tree, run each step in a new process and print a line for it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--copies", choices=("link", "copy"), default="link", help="how folds share images")
    parser.add_argument("--images", type=int, default=1707)
    parser.add_argument("--size", type=int, default=512, help="pixels a side")
    parser.add_argument("--where", type=Path, help="folder to make the temporary folder in")
    parser.add_argument("--step", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        work(args.step[0], Path(args.step[1]))
        return
    with tempfile.TemporaryDirectory(dir=args.where) as name:
        folder = Path(name)
        total = make_tree(folder / "tree", args.images, args.size, args.copies == "link")
        files, kilobytes = args.images * FOLDS, total / args.images / 1000
        print(f"{files} files, {args.copies}, {args.images} images, {args.size} px, {kilobytes:.0f} kB each")
        print(f"{'step':8}{'work':>9}{'process':>9}{'peak':>10}   limit")
        for step in STEPS:
            start = time.perf_counter()
            command = [sys.executable, str(Path(__file__).resolve()), "--step", step, name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            figures, whole = json.loads(done.stdout), time.perf_counter() - start
            limit = LIMITS.get(step, "")
            print(f"{step:8}{figures['seconds']:7.1f} s{whole:7.1f} s{figures['peak']:7.0f} MB   {limit}", flush=True)


if __name__ == "__main__":
    main()
