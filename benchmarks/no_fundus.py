"""How many pictures of other things the audit calls no retina, by kind, and how many photographs of retinas.

python benchmarks/no_fundus.py            pictures that the tests draw, or that packages bring as samples
python benchmarks/no_fundus.py FOLDER …   and the photographs in folders, which should be retinas
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from measuring import ROOT, SEED
from PIL import Image

from glaucoma.photos.duplicates import DECODED
from glaucoma.photos.images import SUFFIXES, decode
from glaucoma.photos.quality import complaints, quality_of

sys.path.insert(0, str(ROOT / "tests"))
from others import OTHERS

EACH = 30


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    given = parser.parse_args()
    print("| pictures | n | told to be no retina |\n|---|---|---|")
    sums = [0, 0]
    for kind, draw in OTHERS.items():
        told = _told(kind, (draw(np.random.default_rng([SEED, 100, i])) for i in range(EACH)))
        sums = [sums[0] + EACH, sums[1] + told]
    print(f"| all of these | {sums[0]} | {sums[1]} ({sums[1] / sums[0]:.1%}) |")
    for folder in given.folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        _told(f"retinas of {folder.name}", (decode(one, max_megapixels=100, at_least=DECODED) for one in files))


def _told(name: str, images: Iterable[Image.Image]) -> int:
    """Print a row, and return how many are told."""
    told = ["no_fundus" in complaints(quality_of(image), *image.size, 1) for image in images]
    print(f"| {name.replace('_', ' ')} | {len(told)} | {sum(told)} |", flush=True)
    return sum(told)


if __name__ == "__main__":
    main()
