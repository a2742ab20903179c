"""Render an eye's photograph: absorbing layers in front of scattering ones, seen by a camera.

Each pixel's reflectance is that of white scattering tissue (sclera, lamina cribrosa) behind melanin, the choroid's
blood, the rim's capillaries and the vessels: exp(−Σ density × thickness) per colour channel (Beer–Lambert).
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

from glaucoma.synthetic.anatomy import Eye, rim_width
from glaucoma.synthetic.camera import LUMA, photograph
from glaucoma.synthetic.vessels import blood_thickness, grow_vessels

__all__ = ["disc_axes", "render_eye"]

FINE = 400  # pixels per side from which supersampling is unnecessary: the lens blurs more than the pixel grid
TURN = 4096  # steps of an angle in lookup tables

# Optical densities per unit thickness for red, green, blue; their order after Delori & Pflibsen (Appl. Opt. 28, 1989)
MELANIN = np.array([0.42, 0.95, 1.30], np.float32)
BLOOD = np.array([0.10, 0.95, 1.15], np.float32)
ARTERY = np.array([0.16, 1.00, 1.05], np.float32)
VEIN = np.array([0.42, 1.10, 1.10], np.float32)
SCLERA = np.array([1.00, 0.86, 0.62], np.float32)  # white, seen through a yellowish lens
LAMINA = np.array([1.00, 0.87, 0.60], np.float32)
RIM = np.array([0.14, 0.80, 1.15], np.float32)


def disc_axes(eye: Eye, side: int) -> np.ndarray:
    """The (2, 2) matrix from disc radii (x to the nose, y down) to pixels of a picture `side` pixels wide."""
    across, along = eye.radii
    cos, sin = np.cos(eye.tilt), np.sin(eye.tilt)
    axes = side * np.array([[cos, -sin], [sin, cos]]) @ np.diag([across, along])
    return np.diag([-1, 1]) @ axes if eye.left else axes


def render_eye(eye: Eye, size: int) -> np.ndarray:
    """Render an eye's photograph.

    Args:
        eye: the eye and its camera.
        size: pixels per side.

    Returns:
        The photograph, (size, size, 3), uint8, sRGB; the same for the same eye and size.
    """
    anatomy, textures, noise = (np.random.default_rng([eye.seed, part]) for part in range(3))
    side = size if size >= FINE else 2 * size
    axes = disc_axes(eye, side)
    origin = (eye.centre_x * side, eye.centre_y * side)
    pixel = np.arange(side, dtype=np.float32) + 0.5
    inverse = np.linalg.inv(axes).astype(np.float32)
    dx, dy = pixel[None, :] - np.float32(origin[0]), pixel[:, None] - np.float32(origin[1])
    x, y = inverse[0, 0] * dx + inverse[0, 1] * dy, inverse[1, 0] * dx + inverse[1, 1] * dy
    distance, angle = np.hypot(x, y), np.arctan2(y, x)

    outline = distance - 0.02 * np.sin(3 * angle + eye.seed % 7)  # real discs are not exact ellipses
    on_disc = _rise((1 - outline) / eye.softness)
    retina = _retina(eye, x, y, outline, angle, textures)
    disc = _disc(eye, distance, angle, on_disc, textures)
    around = (outline > 1.05) & (outline < 1.9)
    # the disc's mean colour is drawn, not a result of its cup: else pallor would reveal the disease
    level = eye.pallor * (retina[around] @ LUMA).mean()
    tint = np.einsum("yxc,yx->c", disc, on_disc) / on_disc.sum()
    disc *= level * _disc_tint(eye) / tint
    scene = retina + on_disc[..., None] * (disc - retina)

    scene = _perfuse(scene, *blood_thickness(grow_vessels(anatomy, eye), origin, axes, side), eye.radius * side * 0.085)
    return photograph(scene.astype(np.float32), eye.camera, size, noise)


def _perfuse(
    scene: np.ndarray, arteries: np.ndarray, veins: np.ndarray, centrality: np.ndarray, unit: float
) -> np.ndarray:
    """The scene behind vessels of the given thickness; at `unit` pixels, they have the tabulated density."""
    vessel = centrality > 0
    behind, centre = scene[vessel], centrality[vessel, None]
    artery, vein = arteries[vessel, None] / unit, veins[vessel, None] / unit
    through = np.exp(-ARTERY * artery - VEIN * vein)
    light = (behind @ LUMA)[:, None]
    scattered = 0.15 * light * np.array([1.4, 0.4, 0.2], np.float32)  # blood returns some red light
    reflex = 0.14 * np.exp(-(((1 - centre) / 0.05) ** 2)) * np.where(artery > vein, np.float32(1), np.float32(0.5))
    scene = scene.copy()
    scene[vessel] = behind * through + scattered * (1 - through) + reflex * light
    return scene


def _retina(
    eye: Eye, x: np.ndarray, y: np.ndarray, outline: np.ndarray, angle: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Reflectance of the retina around the disc, (side, side, 3)."""
    side = len(x)
    coarse, fine, finest = (_texture(rng, side, cells) for cells in (6, 16, 60))
    # choroidal vessels: ridges of a smooth field, visible where the pigment is thin
    ridges = 1 - 2 * np.abs(np.tanh(1.1 * _texture(rng, side, 14)))
    melanin = eye.melanin * (1 + 0.07 * coarse + 0.04 * fine + 0.035 * finest - 0.35 * eye.tessellation * ridges)
    choroid = eye.choroid * (1 + 0.07 * _texture(rng, side, 9) + 0.5 * eye.tessellation * ridges)

    bays = _ring(rng, angle, 9)
    lobe = np.clip(0.2 - 0.8 * np.cos(angle + 0.25 * float(np.sin(eye.seed))), 0, 1)
    width = max(eye.atrophy, 0) * lobe * (1 + 0.25 * bays)
    beyond = outline - 1
    beta = _rise((width - beyond) / 0.035) * _rise(width / 0.02 - 1)
    alpha = np.exp(-(((beyond - width - 0.05) / 0.06) ** 2)) * np.clip(lobe + 0.4 * bays, 0, 1)
    melanin = melanin * (1 - np.clip(0.5 + 0.16 * fine, 0.1, 0.75) * beta) * (1 + (0.30 + 0.25 * fine) * alpha)
    choroid = choroid * (1 - 0.30 * beta)

    # nerve fibres: bright streaks that leave the disc and arch towards the temple
    arch = angle + 0.22 * np.sign(y) * np.clip(outline - 1, 0, None) * np.clip(-np.cos(angle), -0.2, 1)
    layer = (0.45 + 0.55 * np.sin(angle) ** 2) * np.exp(-0.45 * np.clip(outline - 1, 0, None))
    if eye.rim.notch is not None:  # lost fibres leave a wedge
        away = (angle - eye.rim.notch.angle + np.pi) % (2 * np.pi) - np.pi
        layer *= 1 - 0.8 * np.exp(-0.5 * (away / 0.16) ** 2)
    sheen = eye.striation * layer * (1 + 0.8 * _streaks(rng, arch))

    density = melanin[..., None] * MELANIN + choroid[..., None] * BLOOD
    return SCLERA * np.exp(-density) + sheen[..., None] * np.array([0.5, 0.55, 0.4], np.float32)


def _disc(
    eye: Eye, distance: np.ndarray, angle: np.ndarray, on_disc: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """Reflectance of the disc, (side, side, 3): lamina behind a rim that thins towards the cup."""
    side = len(distance)
    rim = eye.rim
    edge = 0.20 - 0.14 * rim.depth  # a shallow cup slopes, a deep one has a wall
    radius = np.maximum(1 - rim_width(rim, angle), 0.05).astype(np.float32)
    cup = _rise((1 - distance / radius) / edge)
    tissue = (1 - cup) * (1 + 0.12 * np.cos(angle) + 0.07 * _texture(rng, side, 24) + 0.10 * _streaks(rng, angle))
    pores = np.clip(_texture(rng, side, 70), 0, None) * cup * max(rim.depth - 0.5, 0)
    reflectance = LAMINA * np.exp(-1.15 * (eye.redness * tissue + 0.12 * pores + 0.05)[..., None] * RIM)
    # the wall faces away from the camera, on one side more than on the other
    down, right = np.gradient(gaussian_filter(cup, 1.5))
    wall = eye.radius * side * (0.08 + 0.14 * rim.depth)
    shade = 1 / np.sqrt(1 + (0.6 * wall) ** 2 * (down**2 + right**2)) - 0.05 * wall * (0.6 * right + 0.8 * down)
    ring = 0.12 * np.exp(-(((distance - 0.985) / 0.03) ** 2)) * (on_disc > 0.2)  # the scleral ring of Elschnig
    return reflectance * np.clip(shade + ring, 0.6, 1.4)[..., None]


def _disc_tint(eye: Eye) -> np.ndarray:
    """Mean colour of the disc with mean luma 1, from a rim of the eye's redness."""
    tint = LAMINA * np.exp(-0.75 * eye.redness * RIM)
    return tint / (tint @ LUMA)


def _rise(x: np.ndarray) -> np.ndarray:
    """A smooth step from 0 to 1, 1/2 at 0."""
    return 0.5 + 0.5 * np.tanh(x)


def _texture(rng: np.random.Generator, side: int, cells: int) -> np.ndarray:
    """A smooth random field, about `cells` blobs per side; (side, side), float32, mean 0, standard deviation 1."""
    seeds = Image.fromarray(rng.standard_normal((cells + 4, cells + 4)).astype(np.float32))
    field = np.asarray(seeds.resize((side, side), Image.Resampling.BICUBIC))
    return (field - field.mean()) / field.std()


def _ring(rng: np.random.Generator, angle: np.ndarray, waves: int) -> np.ndarray:
    """A smooth random function of the angle, within about ±1."""
    number = np.arange(1, waves + 1)
    weights = rng.normal(0, 1, waves) / np.sqrt(number) / 1.7
    table = np.linspace(-np.pi, np.pi, TURN)
    return _around((weights * np.cos(table[:, None] * number + rng.uniform(0, 2 * np.pi, waves))).sum(axis=1), angle)


def _streaks(rng: np.random.Generator, angle: np.ndarray) -> np.ndarray:
    """Fine random streaks along lines of equal `angle`, periodic; standard deviation about 1."""
    values = rng.standard_normal(360)
    return _around(np.interp(np.linspace(0, 360, TURN), np.arange(360), values, period=360), angle)


def _around(table: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Look up a table of `TURN` values from -π to π, much finer than a pixel."""
    return table.astype(np.float32)[((angle + np.pi) * (TURN / (2 * np.pi))).astype(np.int32) % TURN]
