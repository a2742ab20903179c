"""Overlays that explain predictions: Grad-CAM of each network, laid where on the photograph it looked, and averaged."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from glaucoma.data.crop import Box, cropped, decode_uncropped
from glaucoma.data.images import Unreadable
from glaucoma.data.names import shown
from glaucoma.errors import WeightsError
from glaucoma.model.portable import Portable
from glaucoma.pipeline.inference import MEGAPIXELS, Classifier
from glaucoma.progress import track
from glaucoma.report.heat import heat_figure

__all__ = ["explain_files", "explainers"]

SIDE = 512  # pixels of an overlay's longer side


def explainers(models: Sequence[Classifier]) -> list:
    """What explains each model, made before anything is predicted, so that a head of another kind is told at once.

    Raises:
        WeightsError: a head that cannot be explained, or ONNX, with the model's name.
    """
    made = []
    for one in models:
        if isinstance(one.network, Portable):
            what = f"{shown(one.path)} cannot be explained: ONNX gives probabilities, not the feature maps behind them"
            raise WeightsError(what, "name the .keras file that it was made from, or leave out --explain")
        from glaucoma.model.gradcam import gradcam  # Keras: ONNX does without

        try:
            made.append(gradcam(one.network, one.classes))
        except WeightsError as error:
            raise WeightsError(f"{shown(one.path)} cannot be explained: {error.found}", "leave out --explain") from None
    return made


def explain_files(
    models: Sequence[Classifier], explain: Sequence, files: Sequence[Path], rows: Sequence[int], folder: Path
) -> list[Path]:
    """Write an overlay of each of these rows of `files`, one at a time, named by its row so that no two are one.

    Args:
        models: loaded classifiers.
        explain: as `explainers` gives them.
        files: of photographs.
        rows: which of them; what can no longer be read is left out.
        folder: to write into.

    Returns:
        The pictures written.
    """
    written = []
    for row in track(rows, "explain", len(rows), "image"):
        try:
            written.append(
                _overlay(models, explain, files[row], folder / f"{row + 1:04d}-{_plain(files[row].stem)}.png")
            )
        except Unreadable:
            continue
    return written


def _overlay(models: Sequence[Classifier], explain: Sequence, file: Path, path: Path) -> Path:
    seen, total, chances, photograph, frames = {}, None, [], None, []
    for one, heat_of in zip(models, explain, strict=True):
        key = (one.size, one.crop)
        if key not in seen:
            image = decode_uncropped(file, one.size, max_megapixels=MEGAPIXELS, crop=one.crop)
            if photograph is None:
                shrunk = min(1.0, SIDE / max(image.size))
                size = [max(1, round(side * shrunk)) for side in image.size]
                photograph, total = np.asarray(image.resize(size, Image.Resampling.BOX)), np.zeros(size[::-1])
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
    note = f"Probability of abnormal {np.mean(chances):.3f}"
    note += f", mean of {len(models)} networks" if len(models) > 1 else ""
    heat_figure(photograph, total, frames, file.name, f"{note}. For research, not a medical device.", path)
    return path


def _place(box: Box, image: Image.Image, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    """Left, top, width and height of a box on the shrunken photograph, at least a pixel each."""
    high, wide = shape
    across, down = wide / image.width, high / image.height
    x, y = round(box.left * across), round(box.top * down)
    return x, y, min(max(1, round(box.width * across)), wide - x), min(max(1, round(box.height * down)), high - y)


def _plain(stem: str) -> str:
    return "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "_" for c in stem)[:60]
