"""The anatomy of an eye as data: drawn at random, rendered later by pure functions.

The class determines only the neuroretinal rim. All other traits (`NUISANCES`) are drawn independently, from the same
distributions for both classes. Traits are not balanced on purpose: a trait that is balanced overall but common in a
train split is rare in its test split, and a model that learnt it would score below chance.

Coordinates are those of a right eye's disc: its outline is the unit circle, x points to the nose, y down to the
inferior pole. Left eyes are mirrored when rendered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

__all__ = [
    "CONDITIONS",
    "NUISANCES",
    "Camera",
    "Eye",
    "Notch",
    "Rim",
    "draw_eye",
    "draw_eyes",
    "rim_width",
]

Condition = Literal["normal", "abnormal"]
CONDITIONS: tuple[Condition, ...] = ("normal", "abnormal")

# The range of every trait unrelated to the disease; values are drawn uniformly from it.
NUISANCES: dict[str, tuple[float, float]] = {
    # position and shape of the disc; lengths in picture widths
    "centre_x": (0.3, 0.7),
    "centre_y": (0.3, 0.7),
    "radius": (0.13, 0.185),
    "aspect": (1.02, 1.20),  # height ÷ width
    "tilt": (-0.2, 0.2),  # radians
    "softness": (0.03, 0.11),  # of the disc's edge, in disc radii
    "left": (0.0, 1.0),  # a left eye from 0.5 on
    # colour: optical densities of melanin and blood, and the disc's pallor relative to the surrounding retina
    "melanin": (0.55, 1.75),
    "choroid": (0.35, 1.0),
    "tessellation": (0.0, 0.5),
    "striation": (0.01, 0.055),
    "pallor": (1.55, 2.4),  # mean brightness of the disc ÷ that of the retina
    "redness": (0.6, 1.1),  # optical density of the rim's capillaries
    "atrophy": (-0.3, 0.36),  # width of the peripapillary crescent in disc radii; none below zero
    "vessel_width": (0.9, 1.35),
    "tortuosity": (0.25, 1.0),
    # the photograph
    "exposure": (0.33, 0.58),  # mean of the finished picture, 0–1
    "red_gain": (0.85, 1.45),
    "blue_gain": (0.3, 1.15),
    "saturation": (0.9, 1.35),
    "gamma": (1.9, 2.5),
    "vignetting": (0.05, 0.5),
    "light_x": (0.15, 0.85),
    "light_y": (0.15, 0.85),
    "haze": (0.0, 0.12),  # stray light of lens and vitreous, as a share of the mean
    "blur": (0.002, 0.005),  # standard deviation of the point spread, in picture widths
    "noise": (0.004, 0.014),  # standard deviation at full exposure
    "field_edge": (0.0, 1.0),  # the camera's dark border is visible from 0.85 on
    "field_angle": (-np.pi, np.pi),
    "bits": (0.4, 1.2),  # bits per pixel of the JPEG file at 448 pixels per side
}


LARGE = 0.174  # radius of a large disc in picture widths; a fifth of all discs are large


@dataclass(frozen=True, kw_only=True)
class Notch:
    """A local loss of rim: at `angle` (0 nasal, π/2 inferior), `left` disc radii remain; `width` is its σ; radians."""

    angle: float
    width: float
    left: float


@dataclass(frozen=True, kw_only=True)
class Rim:
    """Rim widths at the poles in disc radii, without the notch, and the cup inside.

    `depth` is 0 for a shallow and 1 for a deep cup; vessels bend at its edge by up to `bayonet` radians.
    """

    inferior: float
    superior: float
    nasal: float
    temporal: float
    depth: float
    bayonet: float
    notch: Notch | None


@dataclass(frozen=True, kw_only=True)
class Camera:
    """Light, optics, sensor and file of a photograph; units as in `NUISANCES`."""

    exposure: float
    red_gain: float
    blue_gain: float
    saturation: float
    gamma: float
    vignetting: float
    light_x: float
    light_y: float
    haze: float
    blur: float
    noise: float
    field_edge: float
    field_angle: float
    bits: float


@dataclass(frozen=True, kw_only=True)
class Eye:
    """An eye and its camera; `seed` determines vessels, textures and noise. Units as in `NUISANCES`."""

    condition: Condition
    seed: int
    rim: Rim
    camera: Camera
    centre_x: float
    centre_y: float
    radius: float
    aspect: float
    tilt: float
    softness: float
    left: bool
    melanin: float
    choroid: float
    tessellation: float
    striation: float
    pallor: float
    redness: float
    atrophy: float
    vessel_width: float
    tortuosity: float

    @property
    def radii(self) -> tuple[float, float]:
        """Semi-axes of the disc, horizontal and vertical before tilt, in picture widths; their product is `radius`²."""
        return self.radius / np.sqrt(self.aspect), self.radius * np.sqrt(self.aspect)


def draw_eyes(rng: np.random.Generator, condition: Condition, count: int) -> list[Eye]:
    """Draw `count` independent eyes."""
    return [draw_eye(rng, condition) for _ in range(count)]


def draw_eye(rng: np.random.Generator, condition: Condition) -> Eye:
    """Draw an eye with nuisances that are independent of each other and of the condition.

    Args:
        rng: source of randomness.
        condition: `normal` or `abnormal`.
    """
    traits: dict[str, Any] = {name: float(rng.uniform(low, high)) for name, (low, high) in NUISANCES.items()}
    large = traits["radius"] > LARGE
    rim = _normal_rim(rng, large) if condition == "normal" else _abnormal_rim(rng)
    camera = Camera(**{name: traits.pop(name) for name in Camera.__dataclass_fields__})
    traits["left"] = traits["left"] >= 0.5
    return Eye(condition=condition, seed=int(rng.integers(2**31)), rim=rim, camera=camera, **traits)


def rim_width(rim: Rim, angle: np.ndarray) -> np.ndarray:
    """Width of the rim in disc radii at each `angle` (radians, 0 nasal, π/2 inferior); the shape of `angle`, float."""
    x, y = np.cos(angle), np.sin(angle)
    across = np.where(x > 0, rim.nasal, rim.temporal)
    along = np.where(y > 0, rim.inferior, rim.superior)
    width = across * x**2 + along * y**2
    if rim.notch is None:
        return width
    away = (angle - rim.notch.angle + np.pi) % (2 * np.pi) - np.pi
    return width - np.maximum(width - rim.notch.left, 0) * np.exp(-0.5 * (away / rim.notch.width) ** 2)


def _normal_rim(rng: np.random.Generator, large: bool) -> Rim:
    """A rim that obeys the ISNT rule (Jonas, Gusek & Naumann, IOVS 29, 1988); half of large discs have large cups."""
    ratio = rng.uniform(0.54, 0.68) if large and rng.random() < 0.5 else rng.uniform(0.28, 0.54)
    inferior = 2 * (1 - ratio) * rng.uniform(0.51, 0.56)
    superior = 2 * (1 - ratio) - inferior
    nasal = superior * rng.uniform(0.88, 0.98)
    temporal = nasal * rng.uniform(0.62, 0.9)
    wall = {"depth": rng.uniform(0.1, 0.6), "bayonet": rng.uniform(0.0, 0.1)}
    return Rim(inferior=inferior, superior=superior, nasal=nasal, temporal=temporal, notch=None, **wall)


def _abnormal_rim(rng: np.random.Generator) -> Rim:
    """A rim that violates the ISNT rule: thinned mainly at the poles, in some eyes by a notch at one of them."""
    notched = rng.random() < 0.5
    ratio = rng.uniform(0.48, 0.62) if notched and rng.random() < 0.4 else rng.uniform(0.64, 0.88)
    share = rng.uniform(0.36, 0.54)
    inferior, superior = 2 * (1 - ratio) * share, 2 * (1 - ratio) * (1 - share)
    nasal = min(max(inferior, superior) * rng.uniform(1.05, 1.35), 0.62)
    temporal = nasal * rng.uniform(0.6, 0.95)
    notch = None
    if notched:
        pole = np.pi / 2 if rng.random() < 0.65 else -np.pi / 2
        toward_temple = np.sign(pole) * rng.uniform(-0.1, 0.3)
        notch = Notch(angle=float(pole + toward_temple), width=rng.uniform(0.22, 0.34), left=rng.uniform(0.02, 0.06))
    wall = {"depth": rng.uniform(0.45, 1.0), "bayonet": rng.uniform(0.1, 0.36)}
    return Rim(inferior=inferior, superior=superior, nasal=nasal, temporal=temporal, notch=notch, **wall)
