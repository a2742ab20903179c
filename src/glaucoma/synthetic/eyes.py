"""Rendered eyes as arrays for pretraining: worn photographs, measures of rim and cup, and maps of disc and cup."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
from joblib import Parallel, cpu_count, delayed
from PIL import Image

from glaucoma.base.progress import track
from glaucoma.synthetic.anatomy import CONDITIONS, Eye, draw_eye, rim_width
from glaucoma.synthetic.render import disc_axes, render_eye
from glaucoma.synthetic.truth import truth

__all__ = ["TARGETS", "eyes"]

TARGETS = (
    *("cdr_vertical", "cdr_horizontal"),  # cup ÷ disc diameter, 0–1
    *("rim_inferior", "rim_superior", "rim_nasal", "rim_temporal"),  # width of the rim in disc radii
    *("notch_inferior", "notch_superior"),  # 1 with a notch in that half of the rim, else 0
    "log_radius",  # of the disc, in picture widths
)
NEAR, FAR = (0.26, 0.44), (0.06, 0.26)  # radius of the disc in picture widths: in a disc's crop, and in wider views
NEAR_SHARE = 0.7
OWN = 7919  # keeps the random streams separate from the sample's with the same seed
TOGETHER = 32  # eyes per worker task


def eyes(images: int, size: int, cells: int, worn: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render eyes that are in no sample, half of them abnormal, and wear each photograph several times.

    Args:
        images: number of eyes.
        size: pixels per side.
        cells: cells per side of the maps, a divisor of `size`.
        worn: photographs of each eye.
        seed: determines everything.

    Returns:
        Photographs, uint8 (images · worn, size, size, 3); measures, float32 (images · worn, targets); shares of disc
        and cup in each cell, float32 (images · worn, cells, cells, 2). An eye's photographs follow each other.
    """
    parts = [range(first, min(first + TOGETHER, images)) for first in range(0, images, TOGETHER)]
    made = Parallel(n_jobs=cpu_count(), return_as="generator")(
        delayed(_part)(part, size, cells, worn, seed) for part in parts
    )
    done = list(track(made, "rendering eyes", len(parts), f"{TOGETHER}-eye part"))
    return tuple(np.concatenate(column) for column in zip(*done, strict=True))  # type: ignore[return-value]


def _part(numbers: range, size: int, cells: int, worn: int, seed: int) -> tuple[np.ndarray, ...]:
    rows = []
    for number in numbers:
        rng = np.random.default_rng([seed, OWN, number])
        eye = draw_eye(rng, CONDITIONS[number % 2])
        low, high = NEAR if rng.random() < NEAR_SHARE else FAR
        reach = 0.1 if low == NEAR[0] else 0.3
        x, y = 0.5 + rng.uniform(-reach, reach, 2)
        eye = replace(eye, radius=float(np.exp(rng.uniform(*np.log([low, high])))), centre_x=float(x), centre_y=float(y))
        picture, masks, measures = render_eye(eye, size), _masks(eye, size), _measures(eye)
        rows += [_worn(rng, picture, masks, measures, cells) for _ in range(worn)]
    return tuple(np.stack(column) for column in zip(*rows, strict=True))


def _measures(eye: Eye) -> dict[str, float]:
    """The `TARGETS` of an eye."""
    true, notch = truth(eye, 1), eye.rim.notch
    return {
        **{name: float(true[name]) for name in TARGETS if name in true},  # type: ignore[arg-type]
        "notch_inferior": float(notch is not None and np.sin(notch.angle) > 0),
        "notch_superior": float(notch is not None and np.sin(notch.angle) < 0),
        "log_radius": float(np.log(eye.radius)),
    }


def _masks(eye: Eye, size: int) -> np.ndarray:
    """Disc and cup, bool (size, size, 2)."""
    y, x = np.mgrid[:size, :size] + 0.5
    away = np.stack([x - eye.centre_x * size, y - eye.centre_y * size])
    x, y = np.einsum("ij,jyx->iyx", np.linalg.inv(disc_axes(eye, size)), away)
    distance = np.hypot(x, y)
    return np.stack([distance < 1, distance < 1 - rim_width(eye.rim, np.arctan2(y, x))], axis=-1)


def _worn(
    rng: np.random.Generator, picture: np.ndarray, masks: np.ndarray, measures: dict[str, float], cells: int
) -> tuple[np.ndarray, ...]:
    """A photograph as another camera, another crop and another file would show it, its measures and its maps."""
    size = len(picture)
    side = round(size * rng.uniform(0.8, 1))
    top, left = rng.integers(0, size - side + 1, 2)
    window = np.s_[top : top + side, left : left + side]
    measures = measures | {"log_radius": measures["log_radius"] + np.log(size / side)}
    small = round(size * rng.uniform(0.3, 1))  # a disc's crop is often enlarged
    resized = Image.fromarray(picture[window]).resize((small, small), Image.Resampling.BICUBIC)
    image = np.asarray(resized, np.float32) / 255
    image = image ** np.exp(rng.normal(0, 0.25)) * np.exp(rng.normal(0, 0.12, 3) + rng.normal(0, 0.15))
    image = image.mean() + (image - image.mean()) * np.exp(rng.normal(0, 0.2))
    image = image + rng.normal(0, rng.uniform(0, 0.03), image.shape)
    if rng.random() < 0.25:  # the field's dark border
        angle, edge = rng.uniform(-np.pi, np.pi), rng.uniform(0.3, 0.6)
        y, x = (np.mgrid[:small, :small] + 0.5) / small - 0.5
        image = image * (np.hypot(x + np.cos(angle) * (1 - edge), y + np.sin(angle) * (1 - edge)) < 1)[..., None]
    buffer = io.BytesIO()
    Image.fromarray((image.clip(0, 1) * 255).astype(np.uint8)).save(buffer, "JPEG", quality=int(rng.integers(40, 96)))
    shown = np.asarray(Image.open(buffer).resize((size, size), Image.Resampling.BICUBIC))
    maps = [
        np.asarray(Image.fromarray(masks[window][..., i].astype("f4")).resize((cells, cells), Image.Resampling.BOX))
        for i in range(2)
    ]
    grid = np.stack(maps, axis=-1)
    if rng.random() < 0.5:
        shown, grid = shown[:, ::-1], grid[:, ::-1]
    if rng.random() < 0.5:
        shown, grid = shown[::-1], grid[::-1]
        for kind in ("rim", "notch"):
            one, two = f"{kind}_inferior", f"{kind}_superior"
            measures |= {one: measures[two], two: measures[one]}
    return np.array(shown), np.array([measures[name] for name in TARGETS], "f4"), np.array(grid, "f4")
