"""The pixels stage: each distinct image decoded once, in threads, compared with all ten copies in a plain loop.

The obvious way opens, converts and resizes all files of the ten folds with Pillow; it is measured on one copy of each
image, times ten. Ours is the stage's function, which also checks each file's SHA-256 and writes the array.
"""

from __future__ import annotations

import hashlib
import time
from pathlib import Path
from typing import Any

from measuring import SEED, Row, Scale, main, run_part

FOLDS = 10


def both(folder: Path, scale: Scale) -> dict[str, Any]:
    """Seconds of both, and the largest difference of their pixels in grey levels."""
    import numpy as np
    import pandas as pd
    from PIL import Image

    from glaucoma.photos.pixels import write_pixels

    table = pd.DataFrame(photographs(folder / "photographs", scale), columns=["path", "image"])
    begin = time.perf_counter()
    size = (scale.size, scale.size)
    plain = {}
    for path, image in table.itertuples(index=False):
        with Image.open(folder / "photographs" / path) as opened:
            plain[image] = np.asarray(opened.convert("RGB").resize(size, Image.Resampling.LANCZOS))
    obvious = time.perf_counter() - begin

    files = folder / "decoded.npy", folder / "decoded.csv"
    begin = time.perf_counter()
    write_pixels(table, folder / "photographs", *files, size=scale.size, max_megapixels=100, drop_unreadable=False)
    ours = time.perf_counter() - begin
    pixels, order = np.load(files[0], mmap_mode="r"), pd.read_csv(files[1])["image"]
    apart = max(int(np.abs(pixels[i].astype(int) - plain[image]).max()) for i, image in enumerate(order))
    return {"obvious": obvious * FOLDS, "ours": ours, "apart": apart}


def measure(folder: Path, scale: Scale) -> list[Row]:
    """Both in one process, one after the other."""
    found = run_part("both", both, folder, scale)
    files = f"{scale.images * FOLDS} files of {scale.images} images"
    what = f"decoding, {files}, {scale.photograph} → {scale.size} px"
    how = f"here whole; the obvious way on {scale.images} files, times ten"
    equal = f"pixels at most {found['apart']} grey levels apart" if found["apart"] else "equal pixels"
    return [Row(what, "s", found["obvious"], found["ours"], how, equal)]


def photographs(folder: Path, scale: Scale) -> list[tuple[str, str]]:
    """Write JPEGs of a texture with different shifts; return their names and SHA-256."""
    import numpy as np
    from PIL import Image, ImageFilter

    folder.mkdir()
    rng, side = np.random.default_rng(SEED), scale.photograph
    noise = Image.fromarray(rng.integers(0, 256, (side // 2, side // 2, 3), dtype=np.uint8))
    texture = np.asarray(noise.filter(ImageFilter.GaussianBlur(1)).resize((side, side)))
    found = []
    for i in range(scale.images):
        path = folder / f"{i:05}.jpg"
        shifted = np.roll(texture, tuple(rng.integers(0, side, 2)), axis=(0, 1))
        Image.fromarray(np.roll(shifted, i % 256)).save(path, quality=85)
        found.append((path.name, hashlib.sha256(path.read_bytes()).hexdigest()))
    return found


if __name__ == "__main__":
    main(__doc__, measure, both=both)
