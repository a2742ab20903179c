"""Rendered eyes as arrays for pretraining: photographs and the measures that an ophthalmologist would take."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, cpu_count, delayed

from glaucoma.base.files import atomic_path, write_csv
from glaucoma.base.progress import track
from glaucoma.synthetic.anatomy import CONDITIONS, Eye, draw_eyes
from glaucoma.synthetic.render import render_eye
from glaucoma.synthetic.truth import truth

__all__ = ["TARGETS", "measures", "write_eyes"]

TARGETS = (
    *("cdr_vertical", "cdr_horizontal"),  # cup ÷ disc diameter, 0–1
    *("rim_inferior", "rim_superior", "rim_nasal", "rim_temporal"),  # width of the rim in disc radii
    *("notch_inferior", "notch_superior"),  # 1 with a notch in that half of the rim, else 0
    *("disc_left", "disc_top", "disc_right", "disc_bottom"),  # box around the disc, in picture widths
)
ABNORMAL_SHARE = 0.5
NEARER = 1.27  # size of their discs relative to the sample's: larger, as in crops, to show more of the disc
OWN = 7919  # keeps the random streams separate from the sample's with the same seed
TOGETHER = 64  # eyes per worker task


def write_eyes(pixels: Path, table: Path, *, images: int, size: int, seed: int) -> None:
    """Render eyes that are in no sample, half of them abnormal, with the classes mixed.

    Args:
        pixels: file to write: uint8 (images, size, size, 3), sRGB.
        table: CSV to write: a row per image, the columns of `TARGETS`.
        images: number of images.
        size: pixels per side.
        seed: determines the eyes.
    """
    abnormal = round(ABNORMAL_SHARE * images)
    counts = dict(zip(CONDITIONS, (images - abnormal, abnormal), strict=True))
    eyes = [
        replace(eye, radius=NEARER * eye.radius)
        for number, condition in enumerate(CONDITIONS)
        for eye in draw_eyes(np.random.default_rng([seed, OWN, number]), condition, counts[condition])
    ]
    eyes = [eyes[i] for i in np.random.default_rng([seed, OWN]).permutation(images)]
    parts = [eyes[first : first + TOGETHER] for first in range(0, images, TOGETHER)]
    rendered = Parallel(n_jobs=cpu_count(), return_as="generator")(delayed(_render)(part, size) for part in parts)
    with atomic_path(pixels) as temporary:
        array = np.lib.format.open_memmap(temporary, "w+", np.uint8, (images, size, size, 3))
        for number, part in enumerate(track(rendered, "rendering eyes", len(parts), f"{TOGETHER}-image part")):
            array[number * TOGETHER : number * TOGETHER + len(part)] = part
        array.flush()
    write_csv(table, pd.DataFrame([measures(eye) for eye in eyes], columns=list(TARGETS)))


def measures(eye: Eye) -> dict[str, float]:
    """The `TARGETS` of an eye; the disc's position is in picture widths, x to the right and y down."""
    true: Mapping[str, Any] = truth(eye, 1)
    tilt = np.radians(true["disc_tilt"])
    half = np.hypot(true["disc_radius_x"] * np.cos(tilt), true["disc_radius_y"] * np.sin(tilt))
    high = np.hypot(true["disc_radius_x"] * np.sin(tilt), true["disc_radius_y"] * np.cos(tilt))
    notch = eye.rim.notch
    return {
        **{name: float(true[name]) for name in TARGETS if name in true},
        "notch_inferior": float(notch is not None and np.sin(notch.angle) > 0),
        "notch_superior": float(notch is not None and np.sin(notch.angle) < 0),
        "disc_left": float(true["disc_x"] - half),
        "disc_top": float(true["disc_y"] - high),
        "disc_right": float(true["disc_x"] + half),
        "disc_bottom": float(true["disc_y"] + high),
    }


def _render(eyes: list[Eye], size: int) -> np.ndarray:
    return np.stack([render_eye(eye, size) for eye in eyes])
