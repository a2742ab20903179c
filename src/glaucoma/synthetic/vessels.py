"""Grow retinal vessels from the trunk in the cup to the edge of the picture, and compute their blood thickness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

from glaucoma.synthetic.anatomy import Eye, Rim, rim_width

__all__ = ["Vessel", "blood_thickness", "grow_vessels"]

STEP = 0.016  # between points of a centre line, in disc radii
REACH = 8.0  # length of a main vessel, in disc radii: beyond the edge of any picture
NEAREST_BRANCH = 0.9  # least distance from the disc's centre, in disc radii

# The eight main vessels: angle at which they cross the rim and final heading, degrees (0 nasal, 90 inferior)
COURSES = {
    "superior temporal": ((-118, -88), (-165, -128)),
    "superior nasal": ((-78, -48), (-62, -25)),
    "inferior temporal": ((88, 118), (128, 165)),
    "inferior nasal": ((48, 78), (25, 62)),
}


@dataclass(frozen=True)
class Vessel:
    """A centre line, (n, 2) in disc radii, and at each point the radius, (n,), and the visible share, (n,)."""

    line: np.ndarray
    radius: np.ndarray
    sight: np.ndarray
    artery: bool


def grow_vessels(rng: np.random.Generator, eye: Eye) -> list[Vessel]:
    """Grow an eye's vessels: an artery and a vein per quadrant, small ones to both sides, and their branches."""
    rim = eye.rim
    angles = np.array([0, np.pi])
    nasal_edge, temporal_edge = (1 - rim_width(rim, angles)) * (1, -1)
    # the trunk is at the nasal wall: a growing cup displaces it nasally
    trunk = np.array([nasal_edge + (nasal_edge - temporal_edge) * rng.uniform(-0.32, -0.12), rng.uniform(-0.08, 0.08)])
    vessels = []
    for crossing, heading in COURSES.values():
        side = np.sign(crossing[0])
        order = rng.permutation([-1, 1])
        for artery, shift in zip((True, False), order, strict=True):
            at = np.radians(rng.uniform(*crossing) + 9 * shift)
            towards = np.radians(rng.uniform(*heading) + 4 * shift)
            radius = eye.vessel_width * (rng.uniform(0.048, 0.066) if artery else rng.uniform(0.066, 0.09))
            start = trunk + np.array([rng.normal(0, 0.05), rng.normal(-0.04 * side, 0.03)])
            vessels += _tree(rng, eye, _main_line(rng, eye, start, at, towards), radius, artery, depth=2)
    for _ in range(rng.integers(3, 7)):
        at = np.radians(rng.uniform(150, 210) if rng.random() < 0.55 else rng.uniform(-40, 40))
        radius = eye.vessel_width * rng.uniform(0.016, 0.03)
        line = _main_line(rng, eye, trunk + rng.normal(0, 0.06, 2), at, at + rng.normal(0, 0.3))
        vessels += _tree(rng, eye, line, radius, bool(rng.random() < 0.5), depth=1)
    return vessels


def blood_thickness(
    vessels: list[Vessel], origin: tuple[float, float], axes: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thickness of the blood in the path of light, for round tubes seen from above.

    Args:
        vessels: the vessels to draw.
        origin: the disc's centre, x and y in pixels.
        axes: (2, 2) matrix from disc radii to pixels.
        size: pixels per side.

    Returns:
        Thickness of the arteries, then of the veins, in pixels, and a pixel's centrality in its artery or vein (0 edge
        or none, 1 centre); each (size, size), float32.
    """
    scale = np.sqrt(abs(np.linalg.det(axes)))
    edge = 16
    wide = size + 2 * edge
    thickness = {True: np.zeros(wide * wide, np.float32), False: np.zeros(wide * wide, np.float32)}
    centrality = np.zeros(wide * wide, np.float32)
    for vessel in vessels:
        points = vessel.line @ axes.T + origin + edge
        radius, sight = vessel.radius * scale, vessel.sight
        reach = int(np.ceil(radius.max())) + 1
        inside = ((points > reach) & (points < wide - reach - 1)).all(axis=1)
        points, radius, sight = points[inside], np.maximum(radius[inside], 0.6), sight[inside]
        if not len(points):
            continue
        offsets = np.arange(-reach, reach + 1)
        corner = np.floor(points).astype(np.int64)
        dx = (corner[:, :1] + offsets - points[:, :1])[:, None, :]
        dy = (corner[:, 1:] + offsets - points[:, 1:])[:, :, None]
        profile = np.sqrt(np.maximum(1 - (dx**2 + dy**2) / (radius**2)[:, None, None], 0)).astype(np.float32)
        pixels = (corner[:, 1:] + offsets)[:, :, None] * wide + (corner[:, :1] + offsets)[:, None, :]
        hit = profile > 0
        central = (profile * sight[:, None, None].astype(np.float32))[hit]
        diameter = np.broadcast_to(2 * radius[:, None, None], profile.shape)[hit].astype(np.float32)
        np.maximum.at(thickness[vessel.artery], pixels[hit], central * diameter)
        np.maximum.at(centrality, pixels[hit], central)
    crop = slice(edge, edge + size)
    return tuple(layer.reshape(wide, wide)[crop, crop] for layer in (thickness[True], thickness[False], centrality))


def _main_line(rng: np.random.Generator, eye: Eye, start: np.ndarray, at: float, towards: float) -> np.ndarray:
    """A line from `start` over the cup's edge and the rim at angle `at`, then bending to the heading `towards`.

    At the edge of a deep cup, the vessel climbs the wall and reappears shifted along it (bayoneting).
    """
    rim: Rim = eye.rim
    shift = rim.bayonet * rng.uniform(0.5, 1.0) * rng.choice([-1, 1])
    cup = float(1 - rim_width(rim, np.array(at)))
    outward = np.array([np.cos(at), np.sin(at)])
    corners = [start]
    if cup > np.hypot(*start) + 0.05:
        foot = at - shift
        foot_radius = float(1 - rim_width(rim, np.array(foot)))
        corners.append(0.97 * foot_radius * np.array([np.cos(foot), np.sin(foot)]))
        corners.append(1.02 * cup * outward)
    corners.append(max(1.02, 1.08 * cup) * outward)
    inner = _dense(np.array(corners))
    bow = np.sin(np.linspace(0, np.pi, len(inner)))[:, None] * rng.normal(0, 0.07)
    inner = inner + bow * np.array([-outward[1], outward[0]])
    first = np.arctan2(*(corners[-1] - corners[-2])[::-1])
    first = at + 0.5 * np.clip(_wrap(first - at), -0.8, 0.8)
    outer = _walk(rng, inner[-1], first, towards, REACH, eye.tortuosity)
    line = np.concatenate([inner, outer[1:]])
    rounding = (0.12 - 0.08 * rim.depth) / STEP
    return np.stack([gaussian_filter1d(axis, rounding, mode="nearest") for axis in line.T], axis=1)


def _tree(
    rng: np.random.Generator, eye: Eye, line: np.ndarray, radius: float, artery: bool, depth: int
) -> list[Vessel]:
    """A vessel along `line` with its branches; their radii obey Murray's law (J. Gen. Physiol. 9, 1926)."""
    count = len(line)
    radii = np.full(count, radius)
    vessels: list[Vessel] = []
    distance = np.hypot(*line.T)
    for place in np.sort(rng.uniform(NEAREST_BRANCH, 3.4, rng.integers(1, 4))) if depth else ():
        at = int(np.argmax(distance > place)) if distance.max() > place else 0
        if not 5 < at < count - 5:
            continue
        share = rng.uniform(0.45, 0.75)
        child = radii[at] * share
        radii[at:] *= (1 - share**3) ** (1 / 3)
        heading = np.arctan2(*(line[at + 3] - line[at - 3])[::-1])
        turn = rng.choice([-1, 1])
        branch = _walk(
            rng,
            line[at],
            heading + turn * rng.uniform(0.35, 0.8),
            heading + turn * rng.uniform(0.25, 1.0),
            REACH * 0.7,
            eye.tortuosity,
        )
        vessels += _tree(rng, eye, branch, child, artery, depth - 1)
    radii *= 1 + 0.05 * gaussian_filter1d(rng.standard_normal(count), 12) * np.sqrt(12)
    vessels.append(Vessel(line, radii, _sight(eye.rim, line), artery))
    return vessels


def _sight(rim: Rim, line: np.ndarray) -> np.ndarray:
    """The visible share of a vessel: small where it emerges from the nerve or climbs the wall of a deep cup."""
    angle = np.arctan2(line[:, 1], line[:, 0])
    within = np.hypot(*line.T) / np.maximum(1 - rim_width(rim, angle), 0.05)
    sight = 1 - 0.5 * max(rim.depth - 0.4, 0) / 0.6 * np.exp(-0.5 * ((within - 0.98) / 0.05) ** 2)
    if np.hypot(*line[0]) < NEAREST_BRANCH:
        sight *= np.clip(0.5 + np.arange(len(line)) * STEP / 0.2, 0, 1)
    return sight


def _walk(
    rng: np.random.Generator, start: np.ndarray, first: float, last: float, length: float, tortuosity: float
) -> np.ndarray:
    """A line of `length` whose heading relaxes from `first` to `last` and wanders by `tortuosity`."""
    along = np.arange(0, length, STEP)
    wander = gaussian_filter1d(rng.standard_normal(len(along)), 0.22 / STEP) * np.sqrt(2 * np.sqrt(np.pi) * 0.22 / STEP)
    heading = first + _wrap(last - first) * (1 - np.exp(-along / 1.8)) + 0.34 * tortuosity * (wander - wander[0])
    steps = STEP * np.stack([np.cos(heading), np.sin(heading)], axis=1)
    return start + np.concatenate([np.zeros((1, 2)), np.cumsum(steps, axis=0)])


def _dense(corners: np.ndarray) -> np.ndarray:
    """Points every `STEP` along the polygon `corners`."""
    along = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(corners, axis=0).T))])
    places = np.linspace(0, along[-1], max(int(along[-1] / STEP), 2))
    return np.stack([np.interp(places, along, axis) for axis in corners.T], axis=1)


def _wrap(angle: float) -> float:
    return (angle + np.pi) % (2 * np.pi) - np.pi
