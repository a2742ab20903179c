"""Heat: which parts of a photograph speak for abnormal, by Grad-CAM or, where there are no gradients, by occlusion."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from glaucoma.base.errors import WeightsError
from glaucoma.model.log_odds import expit
from glaucoma.model.portable import Runner
from glaucoma.photos.crop import Box, cropped, decode_uncropped
from glaucoma.photos.images import decode
from glaucoma.predict.inference import MEGAPIXELS, Classifier

__all__ = [
    "COLOURS",
    "GRADCAM",
    "OCCLUSION",
    "OPAQUE",
    "SAYS",
    "Heat",
    "HeatOf",
    "heat_of_photograph",
    "heats",
    "occlusion",
    "relative",
]

HeatOf = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

GRADCAM, OCCLUSION = "Grad-CAM", "occlusion"
SAYS = {GRADCAM: "Grad-CAM", OCCLUSION: "Occlusion, by how much the log-odds fall when a place is covered"}
COLOURS = "cividis"  # Nuñez et al., PLOS ONE 13:e0199239 (2018): the same order to every colour vision
OPAQUE = 0.6  # over the photograph in grey, so that every colour is the heat's
SIDE = 512  # pixels of the longer side of the photograph that heat is laid on
GRID = 7  # covers across a view and down it
WIDTH = 1.0  # standard deviation of a cover, in distances between two


@dataclass(frozen=True)
class Heat:
    """The heat of a photograph.

    Attributes:
        photograph: uint8 (height, width, 3), RGB, its longer side `SIDE` at most.
        heat: float64 (height, width), ≥ 0: mean over the models, spread over the part that each value belongs to.
        frames: left, top, width and height of each part that a network saw, where that is not all.
        probability: of abnormal, 0–1, the mean over the models.
    """

    photograph: np.ndarray
    heat: np.ndarray
    frames: list[tuple[int, int, int, int]]
    probability: float


def heats(models: Sequence[Classifier]) -> tuple[str, list[HeatOf]]:
    """What explains each model, and the method: Grad-CAM where all of them allow it, else occlusion."""
    made: list[HeatOf] = []
    for one in models:
        if isinstance(one.network, Runner):
            break
        from glaucoma.model.gradcam import gradcam  # Keras: ONNX does without

        try:
            made.append(gradcam(one.network, one.classes))
        except WeightsError:  # a head of another kind
            break
    else:
        return GRADCAM, made
    return OCCLUSION, [occlusion(one) for one in models]


def occlusion(one: Classifier) -> HeatOf:
    """A function that explains photographs by covering them, by Zeiler & Fergus, ECCV 2014, section 4.2.

    It needs nothing but predictions: `GRID` × `GRID` times a view, a round place with soft edges is covered with the
    view's mean colour, and its heat is by how much the log-odds of abnormal fall.

    Returns:
        uint8 (n, size, views · size, 3) → probability of abnormal, float64 (n,), and heat, float64
        (n, GRID, views · GRID), ≥ 0, in log-odds.
    """
    step = one.size / GRID
    middle, axis = (np.arange(GRID) + 0.5) * step, np.arange(one.size) + 0.5
    near = np.exp(-(((axis[None] - middle[:, None]) / (WIDTH * step)) ** 2) / 2)
    covers = (near[:, None, :, None] * near[None, :, None, :]).reshape(GRID**2, one.size, one.size, 1)

    def explain(pixels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        log_odds, heat = one.log_odds(pixels), []
        for row, image in enumerate(pixels):
            parts = []
            for left in range(0, image.shape[1], one.size):
                view = image[:, left : left + one.size]
                covered = np.repeat(image[None], GRID**2, axis=0)
                blend = view + covers * (view.mean(axis=(0, 1)) - view)
                covered[:, :, left : left + one.size] = blend.round()
                parts.append((log_odds[row] - one.log_odds(covered)).reshape(GRID, GRID))
            heat.append(np.maximum(np.concatenate(parts, axis=1), 0))
        return expit(log_odds), np.stack(heat)

    return explain


def heat_of_photograph(
    models: Sequence[Classifier],
    explain: Sequence[HeatOf],
    source: Path | bytes,
    *,
    max_megapixels: float = MEGAPIXELS,
) -> Heat:
    """Explain one photograph by one or several models.

    Args:
        models: loaded classifiers.
        explain: what explains each of them.
        source: a file, or its bytes.
        max_megapixels: larger images are unreadable.

    Raises:
        Unreadable: why it cannot be used.
    """
    image = decode(source, max_megapixels=max_megapixels, at_least=SIDE)
    shrunk = min(1.0, SIDE / max(image.size))
    size = [max(1, round(side * shrunk)) for side in image.size]
    photograph, total = np.asarray(image.resize(size, Image.Resampling.BOX)), np.zeros(size[::-1])
    seen, chances, frames = {}, [], []
    for one, heat_of in zip(models, explain, strict=True):
        key = (one.size, one.crop)
        if key not in seen:
            image = decode_uncropped(source, one.size, max_megapixels=max_megapixels, crop=one.crop)
            pixels, boxes = cropped(image, one.size, one.crop)
            places = [_place(box, image, total.shape) for box in boxes] or [(0, 0, *total.shape[::-1])]
            frames += [place for box, place in zip(boxes, places, strict=False) if box.found]
            seen[key] = pixels, places
        pixels, places = seen[key]
        probability, heat = heat_of(pixels[None])
        chances.append(probability[0])
        for part, (x, y, wide, high) in zip(np.array_split(heat[0], len(places), axis=1), places, strict=True):
            fine = Image.fromarray(part.astype("float32")).resize((wide, high), Image.Resampling.BILINEAR)
            # heat is spread over a part's area: that of a small part is as much in all as that of a large one
            total[y : y + high, x : x + wide] += np.asarray(fine) / len(models) / (wide * high)
    return Heat(photograph, total, frames, float(np.mean(chances)))


def relative(heat: np.ndarray) -> np.ndarray:
    """Heat as shares (0–1) of its highest value; zeros where there is none."""
    highest = float(heat.max())
    return heat / highest if highest > 0 else np.zeros_like(heat)


def _place(box: Box, image: Image.Image, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a box on the shrunken photograph, at least a pixel each."""
    high, wide = shape
    across, down = wide / image.width, high / image.height
    x, y = round(box.left * across), round(box.top * down)
    return x, y, min(max(1, round(box.width * across)), wide - x), min(max(1, round(box.height * down)), high - y)
