"""Pictures that are not photographs of a retina, such as get into folders by mistake: drawn, or samples of packages."""

from __future__ import annotations

from functools import cache

import matplotlib
import numpy as np
from matplotlib.cbook import get_sample_data
from PIL import Image, ImageDraw, ImageFilter
from pydicom import dcmread
from pydicom.data import get_testdata_file
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_sample_image
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


def person(rng: np.random.Generator) -> Image.Image:
    """A portrait: Matplotlib's sample of Grace Hopper."""
    with get_sample_data("grace_hopper.jpg") as file:
        return part(Image.open(file).convert("RGB"), rng)


def building(rng: np.random.Generator) -> Image.Image:
    """A photograph of a pagoda, scikit-learn's sample."""
    return part(Image.fromarray(load_sample_image("china.jpg")), rng)


def flower(rng: np.random.Generator) -> Image.Image:
    """A photograph of an orange dahlia, scikit-learn's sample."""
    return part(Image.fromarray(load_sample_image("flower.jpg")), rng)


def radiograph(rng: np.random.Generator) -> Image.Image:
    """A slice of computed or magnetic resonance tomography, a sample of pydicom."""
    slices = dcmread(str(get_testdata_file(["CT_small.dcm", "MR_small.dcm"][rng.integers(2)]))).pixel_array
    return grey(255.0 * (slices - slices.min()) / np.ptp(slices)).resize((SIDE, SIDE)).rotate(90 * int(rng.integers(4)))


def angiogram(rng: np.random.Generator) -> Image.Image:
    """Bright vessels in a grey field."""
    green = green_of(rng)
    return grey(np.where(green > 8, 255 - 1.3 * green, 0))


def red_free(rng: np.random.Generator) -> Image.Image:
    """A whole retina in green light."""
    return as_image(green_of(rng)[..., None] * np.array([0.26, 1.3, 0.39]))


def infrared(rng: np.random.Generator) -> Image.Image:
    """A square grey picture of a retina, as beside an OCT slice."""
    return grey(green_of(rng)[55:200, 55:200] * rng.uniform(0.8, 1.5)).resize((SIDE, SIDE))


def flow_map(rng: np.random.Generator) -> Image.Image:
    """A mesh of capillaries, as in OCT angiography."""
    level = gaussian_filter(rng.standard_normal((SIDE, SIDE)), 3)
    return grey(255 * np.exp(-((level / level.std() / 0.3) ** 2)) + rng.normal(0, 12, level.shape))


def false_colours(rng: np.random.Generator) -> Image.Image:
    """A map of thickness, from blue to red."""
    return as_image(colours(rng))


def topography(rng: np.random.Generator) -> Image.Image:
    """A map of the cornea in false colours, round, on black or white."""
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    ground = [0, 255][rng.integers(2)]
    return as_image(np.where((np.hypot(x, y) < 115)[..., None], colours(rng), ground))


def visual_field(rng: np.random.Generator) -> Image.Image:
    """A grey-scale print of perimetry."""
    image = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(image)
    for y, x in np.ndindex(18, 18):
        if np.hypot(x - 8.5, y - 8.5) < 9:
            level = int(255 * rng.random() ** rng.uniform(0.5, 2))
            draw.rectangle((20 + 12 * x, 20 + 12 * y, 30 + 12 * x, 30 + 12 * y), fill=(level, level, level))
    draw.line((128, 10, 128, 246), fill="black")
    draw.line((10, 128, 246, 128), fill="black")
    return image


def report(rng: np.random.Generator) -> Image.Image:
    """A screen or page with two retinas and text."""
    image = Image.new("RGB", (SIDE, SIDE), tuple(rng.integers(200, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 0, SIDE, 18), fill=tuple(rng.integers(20, 120, 3).tolist()))
    for left in (20, 140):
        image.paste(retina(int(rng.integers(8)), 100), (left, 30))
    for y in range(145, 245, 12):
        draw.text((10, y), " ".join(rng.choice(WORDS, 7)), fill="black")
    return image


def barcode(rng: np.random.Generator) -> Image.Image:
    """A matrix of black and white squares."""
    cells = Image.fromarray(rng.integers(0, 2, (29, 29), dtype=np.uint8) * 255).resize((220, 220), 0)
    image = Image.new("RGB", (SIDE, SIDE), "white")
    image.paste(cells, (18, 18))
    return image


def noise(rng: np.random.Generator) -> Image.Image:
    """Every pixel at random."""
    return as_image(rng.integers(0, 256, (SIDE, SIDE, 3)))


def ultrasound(rng: np.random.Generator) -> Image.Image:
    """A sector of speckle."""
    y, x = np.mgrid[:SIDE, :SIDE]
    sector = (abs(np.arctan2(x - 128, y + 20)) < 0.6) & (abs(np.hypot(x - 128, y + 20) - 150) < 100)
    return grey((60 + 40 * smooth(rng, 10)) * rng.gamma(2, 0.5, (SIDE, SIDE)) * sector)


def tissue(rng: np.random.Generator) -> Image.Image:
    """A stained section: violet nuclei in pink."""
    nuclei = 1 / (1 + np.exp(9 - 6 * smooth(rng, 2.5)))[..., None]
    pink = np.array([225, 165, 200]) - smooth(rng, 8)[..., None] * np.array([9, 18, 7])
    return as_image(pink * (1 - nuclei) + nuclei * np.array([90, 50, 140]) + rng.normal(0, 4, (SIDE, SIDE, 3)))


def outer_eye(rng: np.random.Generator) -> Image.Image:
    """An eye from outside: iris, white and lashes."""
    skin, iris = SKINS[rng.integers(len(SKINS))], tuple(rng.integers(40, 140, 3).tolist())
    image = Image.new("RGB", (SIDE, SIDE), skin)
    draw = ImageDraw.Draw(image)
    draw.ellipse((10, 60, 246, 196), fill=(235, 225, 220))
    for box, colour in (((75, 70, 181, 186), iris), ((108, 105, 148, 150), (8, 8, 8)), ((130, 100, 142, 112), "white")):
        draw.ellipse(box, fill=colour)
    for x in range(15, 240, 15):
        draw.line((x, 90 - 0.3 * abs(128 - x), x - 6, 40), fill=(30, 20, 20), width=2)
    return shaded(image.filter(ImageFilter.GaussianBlur(0.8)), rng)


def skin(rng: np.random.Generator) -> Image.Image:
    """A mole on skin, seen closely: neither colours nor edges tell it from a retina."""
    ground, brown = np.array(SKINS[rng.integers(len(SKINS))]), np.array([110, 64, 44]) * rng.uniform(0.6, 1.2)
    y, x = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    beyond = np.hypot(x, y)[..., None] + 8 * smooth(rng, 8)[..., None] - rng.uniform(40, 75)
    inside = 1 / (1 + np.exp(beyond / rng.uniform(2, 6)))
    pigment = brown * (1 + 0.2 * smooth(rng, 14)[..., None])
    return as_image(ground * (1 - inside) + pigment * inside + rng.normal(0, 3, (SIDE, SIDE, 3)))


DRAWN = (text, face, mask, oct_slice, vessel_map, x_ray, chart, landscape, angiogram, red_free, infrared, flow_map)
MAPS = (false_colours, topography, visual_field, report, barcode, noise, ultrasound, tissue, outer_eye, skin)
OTHERS = {one.__name__: one for one in (*DRAWN, *MAPS, person, building, flower, radiograph)}


def part(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Half of a photograph or more, lighter or darker, perhaps mirrored."""
    share = rng.uniform(0.5, 1)
    left, top = ((1 - share) * side * rng.random() for side in image.size)
    image = image.resize((SIDE, SIDE), box=(left, top, left + share * image.width, top + share * image.height))
    pixels = np.asarray(image)[:, :: rng.choice([-1, 1])] / 255
    return as_image(255 * pixels ** rng.uniform(0.7, 1.4))


@cache
def greens() -> list[np.ndarray]:
    """The green channels of some retinas."""
    return [np.asarray(retina(seed, SIDE).getchannel("G"), float) for seed in range(8)]


def green_of(rng: np.random.Generator) -> np.ndarray:
    """The green channel of a retina, (SIDE, SIDE)."""
    return greens()[rng.integers(8)]


def smooth(rng: np.random.Generator, scale: float) -> np.ndarray:
    """A smooth random surface with standard deviation 1."""
    level = gaussian_filter(rng.standard_normal((SIDE, SIDE)), scale)
    return level / level.std()


def colours(rng: np.random.Generator) -> np.ndarray:
    """A smooth surface in false colours, 0–255."""
    level = smooth(rng, 20)
    return 255 * matplotlib.colormaps["jet"]((level - level.min()) / np.ptp(level))[..., :3]


def grey(levels: np.ndarray) -> Image.Image:
    """Grey levels as an RGB picture."""
    return as_image(np.repeat(levels[..., None], 3, axis=-1))


def shaded(image: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Lit by a lamp from one side, with sensor noise."""
    light = np.linspace(1.1, 0.7, SIDE)[:: rng.choice([-1, 1])]
    return as_image(np.asarray(image) * light[None, :, None] + rng.normal(0, 3, (SIDE, SIDE, 3)))


def as_image(pixels: np.ndarray) -> Image.Image:
    """An array of any number type as an RGB picture."""
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
