"""Drawn pictures that are not photographs of a retina, such as get into folders by mistake."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter
from trees import retina

SIDE = 256
WORDS = ["patient", "referred", "with", "raised", "pressure", "in", "the", "left", "eye", "no", "history", "stable"]
SKINS = [(236, 188, 150), (198, 134, 98), (120, 78, 52), (250, 214, 190), (224, 160, 140)]


def text(rng: np.random.Generator) -> Image.Image:
    """A page of text, dark on light paper or light on a dark screen."""
    paper, ink = [
        ("white", "black"),
        ((250, 240, 215), (40, 30, 90)),
        ("black", "white"),
        ((20, 30, 60), (240, 240, 80)),
    ][rng.integers(4)]
    image = Image.new("RGB", (SIDE, SIDE), paper)
    draw = ImageDraw.Draw(image)
    for y in range(10, SIDE - 14, int(rng.integers(11, 16))):
        draw.text((12, y), " ".join(rng.choice(WORDS, 8)), fill=ink)
    return image


def face(rng: np.random.Generator) -> Image.Image:
    """A face in front of a wall, softly shaded."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(30, 240, 3).tolist()))
    draw = ImageDraw.Draw(image)
    x, y, w, h = 128 + rng.integers(-15, 15), 130 + rng.integers(-10, 10), rng.integers(60, 85), rng.integers(80, 105)
    skin, hair = SKINS[rng.integers(len(SKINS))], tuple(rng.integers(10, 110, 3).tolist())
    draw.ellipse((x - w - 8, y - h - 20, x + w + 8, y + h // 2), fill=hair)
    draw.rectangle((x - w // 3, y + h // 2, x + w // 3, SIDE), fill=skin)
    draw.ellipse((x - w, y - h, x + w, y + h), fill=skin)
    for side in (-1, 1):
        eye = x + side * w // 2
        draw.ellipse((eye - 14, y - 22, eye + 14, y - 6), fill="white")
        draw.ellipse((eye - 7, y - 21, eye + 7, y - 7), fill=tuple(rng.integers(20, 120, 3).tolist()))
        draw.line((eye - 18, y - 34, eye + 18, y - 36), fill=hair, width=5)
    draw.line((x, y - 10, x - 8, y + 22, x + 6, y + 24), fill=tuple(int(level * 0.75) for level in skin), width=3)
    draw.arc((x - 30, y + 20, x + 30, y + 56), 20, 160, fill=(170, 50, 60), width=6)
    return shaded(image.filter(ImageFilter.GaussianBlur(1)), rng)


def mask(rng: np.random.Generator) -> Image.Image:
    """A grader's segmentation of disc and cup, in grey or in colours."""
    ground, disc, cup = [(0, 128, 255), (255, 128, 0), ((0, 0, 0), (220, 30, 30), (30, 200, 40)), (0, 255, 255)][
        rng.integers(4)
    ]
    colours = [one if isinstance(one, tuple) else (one,) * 3 for one in (ground, disc, cup)]
    image = Image.new("RGB", (SIDE, SIDE), colours[0])
    draw = ImageDraw.Draw(image)
    x, y, r = rng.integers(70, 186), rng.integers(90, 166), rng.integers(25, 70)
    draw.ellipse((x - r, y - r * 1.1, x + r, y + r * 1.1), fill=colours[1])
    draw.ellipse((x - r // 2, y - r // 2, x + r // 2, y + r // 2), fill=colours[2])
    return image


def oct_slice(rng: np.random.Generator) -> Image.Image:
    """Bright layers with speckle, in grey or in false colours."""
    y, x = np.mgrid[:SIDE, :SIDE]
    surface = 90 + 20 * np.sin(x / 60 + rng.uniform(0, 6)) + 25 * np.exp(-(((x - 128) / 25) ** 2))
    layers = sum(
        height * np.exp(-(((y - surface - below) / width) ** 2))
        for below, height, width in ((0, 150, 8), (25, 90, 10), (55, 200, 7), (80, 90, 20))
    )
    grey = (layers * rng.gamma(4, 0.25, layers.shape) + rng.gamma(2, 8, layers.shape)).clip(0, 255)
    if rng.random() < 0.3:
        level = grey / 255
        return as_image(np.stack([level, 1 - abs(2 * level - 1), 1 - level], axis=-1) * 255)
    return as_image(np.repeat(grey[..., None], 3, axis=-1))


def vessel_map(rng: np.random.Generator) -> Image.Image:
    """A vessel segmentation, white on black or black on white."""
    green = retina(int(rng.integers(8)), SIDE).getchannel("G").filter(ImageFilter.GaussianBlur(1))
    green, around = (np.asarray(one, np.float32) for one in (green, green.filter(ImageFilter.BoxBlur(6))))
    found = (around - green > 4) & (around > 30)
    return as_image(np.repeat((found ^ (rng.random() < 0.3))[..., None] * 255, 3, axis=-1))


def x_ray(rng: np.random.Generator) -> Image.Image:
    """A chest: ribs over lungs, grey or with the bluish tint of film."""
    y, x = np.mgrid[:SIDE, :SIDE] / SIDE - 0.5
    body = 150 * np.exp(-((x / 0.45) ** 4) - ((y / 0.6) ** 4))
    lungs = sum(np.exp(-(((x - side * 0.2) / 0.13) ** 4) - (((y + 0.02) / 0.33) ** 4)) for side in (-1, 1))
    ribs = np.sin((y + 0.6 * x**2) * rng.uniform(55, 75)) > 0.55
    grey = body * (1 - 0.65 * lungs) + 35 * ribs * lungs + 70 * np.exp(-((x / 0.05) ** 2)) + rng.normal(0, 4, x.shape)
    tint = [(1, 1, 1), (0.85, 0.95, 1.1)][rng.integers(2)]
    return as_image(grey[..., None] * np.array(tint))


def chart(rng: np.random.Generator) -> Image.Image:
    """Bars on white, with axes."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    for bar in range(6):
        height, colour = int(rng.integers(30, 190)), tuple(rng.integers(30, 230, 3).tolist())
        draw.rectangle((35 + 34 * bar, 225 - height, 60 + 34 * bar, 225), fill=colour)
    draw.line((25, 15, 25, 225, 245, 225), fill="black", width=2)
    return image


def landscape(rng: np.random.Generator) -> Image.Image:
    """Sky over fields."""
    y, x = np.mgrid[:SIDE, :SIDE]
    horizon = 120 + 20 * np.sin(x / rng.uniform(30, 70)) + rng.integers(-30, 30)
    sky, field = np.array([110, 160, 225.0]), np.array([80, 130, 50.0])
    pixels = np.where((y < horizon)[..., None], sky + 0.3 * y[..., None], field + rng.normal(0, 18, (SIDE, SIDE, 1)))
    return as_image(pixels)


OTHERS = {one.__name__: one for one in (text, face, mask, oct_slice, vessel_map, x_ray, chart, landscape)}


def shaded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lit by a lamp from one side, with sensor noise."""
    light = np.linspace(1.1, 0.7, SIDE)[:: rng.choice([-1, 1])]
    return as_image(np.asarray(image) * light[None, :, None] + rng.normal(0, 3, (SIDE, SIDE, 3)))


def as_image(pixels: np.ndarray) -> Image.Image:
    """An array of any number type as an RGB picture."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
