"""The distribution of the duplicate score for pairs of different photographs and for generated copies.

python benchmarks/copies.py                   rendered whole retinas
python benchmarks/copies.py FOLDER …          and the photographs in folders; pairs that the audit reports as copies are
                                              left out: check them first

Different pairs are drawn and rotated at random, or are those with the most similar hashes, at the orientation and part
of the match. Copies are resized, recompressed, changed in tone, cut or padded at the sides, squashed and slightly
rotated, all at once; crops show 60 to 95 % of a photograph.
"""

from __future__ import annotations

import argparse
import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from audit_tree import LOOSE, _retina
from measuring import SEED
from PIL import Image

from glaucoma.photos import register
from glaucoma.photos.candidates import TURNS, candidates, parts
from glaucoma.photos.duplicates import DECODED, compared, fingerprint
from glaucoma.photos.images import SUFFIXES, decode
from glaucoma.photos.register import COARSE, FINE, registered, structure

RENDERED, RANDOM, NEAREST, COPIES = 200, 4000, 3000, 200
SHOWN = (0, 2, 50, 99, 99.9, 100)  # per cent


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    given = parser.parse_args()
    print("| photographs | pairs | n | mean | sd |", " | ".join(f"{share:g} %" for share in SHOWN), "|")
    print("|---" * (5 + len(SHOWN)) + "|")
    rendered = [_retina(i) for i in range(RENDERED)]
    _tell("rendered retinas", rendered)
    for folder in given.folders:
        files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
        _tell(folder.name, [decode(path, max_megapixels=100, at_least=2 * DECODED) for path in files])


def _tell(name: str, images: list[Image.Image]) -> None:
    rng = np.random.default_rng(SEED)
    greys = np.stack([fingerprint(image) for image in images])
    coarse, fine = structure(greys, COARSE), structure(greys, FINE)
    same = {(row.first, row.second) for row in compared(list(greys)).query("correlation >= 0.6").itertuples()}

    def score(first: int, second: int, turn: int, part: int) -> float:
        mirrored, degrees = TURNS[turn]
        pair = [
            (np.rot90(one[second][:, :: -1 if mirrored else 1], degrees // 90), one[first]) for one in (coarse, fine)
        ]
        return registered(*pair, parts()[part])

    # Otherwise most pairs would score 0
    register.HOPELESS = -1.0
    drawn = (sorted(rng.choice(len(images), 2, replace=False)) for _ in range(RANDOM))
    random = [score(*pair, int(rng.integers(8)), 0) for pair in drawn if tuple(pair) not in same]
    near = candidates(greys, LOOSE)
    near = near.sample(min(NEAREST, len(near)), random_state=SEED).to_numpy().tolist()
    nearest = [score(*row) for row in near if (min(row[:2]), max(row[:2])) not in same]
    register.HOPELESS = 0.5
    _row(name, "different, at random", random)
    _row(name, "different, nearest hashes", nearest)
    chosen = rng.choice(len(images), min(COPIES, len(images)), replace=False)
    for kind, make in (("copies", _copy), ("crops", _crop)):
        prints = [fingerprint(make(images[i], rng)) for i in chosen]
        _row(name, kind, list(_found([greys[i] for i in chosen], prints)))


def _found(originals: list[np.ndarray], copies: list[np.ndarray]) -> Iterator[float]:
    """The correlation of each copy with its original; 0 if the pair is no candidate."""
    pairs = compared([*originals, *copies])
    pairs = pairs[pairs["second"] - pairs["first"] == len(originals)].set_index("first")["correlation"]
    yield from (float(pairs.get(i, 0.0)) for i in range(len(originals)))


def _copy(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    width, height = image.size
    left, top, right, bottom = rng.uniform(-0.1, 0.04, 4)  # negative values pad
    image = image.rotate(rng.uniform(-3, 3), Image.Resampling.BICUBIC)
    image = image.crop((int(left * width), int(top * height), int((1 - right) * width), int((1 - bottom) * height)))
    pixels = (np.asarray(image) / 255) ** rng.uniform(0.65, 1.5) * rng.uniform(0.8, 1.2, 3)
    image = Image.fromarray((pixels * 255).clip(0, 255).astype(np.uint8))
    return _saved(image, rng, rng.uniform(0.8, 1.25))


def _crop(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    share = np.sqrt(rng.uniform(0.6, 0.95))
    left, top = rng.uniform(0, 1 - share, 2)
    box = [round(one * side) for one, side in zip((left, top, left + share, top + share), image.size * 2, strict=True)]
    return _saved(image.crop(box), rng, 1.0)


def _saved(image: Image.Image, rng: np.random.Generator, squash: float) -> Image.Image:
    scale = rng.uniform(0.5, 1.2)
    image = image.resize((round(image.width * scale), round(image.height * scale * squash)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    image.save(file, "JPEG", quality=int(rng.integers(35, 96)))
    return decode(file.getvalue(), max_megapixels=100, at_least=DECODED)


def _row(name: str, pairs: str, scores: list[float]) -> None:
    told = pd.Series(scores)
    figures = [told.mean(), told.std(), *np.percentile(told, SHOWN)]
    print(f"| {name} | {pairs} | {len(told)} |", " | ".join(f"{figure:.2f}" for figure in figures), "|", flush=True)


if __name__ == "__main__":
    main()
