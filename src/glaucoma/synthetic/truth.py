"""The ground truth of an eye in its photograph: the exact values of an ophthalmologist's measures."""

from __future__ import annotations

import numpy as np

from glaucoma.synthetic.anatomy import Eye, rim_width
from glaucoma.synthetic.render import disc_axes

__all__ = ["truth"]

POLES = {"rim_inferior": np.pi / 2, "rim_superior": -np.pi / 2, "rim_nasal": 0.0, "rim_temporal": np.pi}


def truth(eye: Eye, size: int) -> dict[str, object]:
    """Measures of an eye photographed at `size` pixels per side.

    Returns:
        `condition`, `eye` (right, left); `notch_hour` (clock hour in the photograph, 1–12, None without a notch);
        `cdr_vertical`, `cdr_horizontal` (cup ÷ disc diameter along the disc's axes, 0–1); `rim_*` (share of the disc's
        radius, 0–1); `disc_*`, `cup_*` (centre and semi-axes in pixels, x to the right, y down); `disc_tilt` (degrees,
        clockwise in the photograph); `atrophy` (width of the crescent, share of the disc's radius); `seed` (of the
        eye).
    """
    rim = {name: float(rim_width(eye.rim, np.array(angle))) for name, angle in POLES.items()}
    vertical = 1 - (rim["rim_superior"] + rim["rim_inferior"]) / 2
    horizontal = 1 - (rim["rim_nasal"] + rim["rim_temporal"]) / 2
    offset = np.array([rim["rim_temporal"] - rim["rim_nasal"], rim["rim_superior"] - rim["rim_inferior"]]) / 2
    centre = np.array([eye.centre_x, eye.centre_y]) * size
    cup = centre + disc_axes(eye, size) @ offset
    across, along = size * np.array(eye.radii)
    measures = {
        "cdr_vertical": vertical,
        "cdr_horizontal": horizontal,
        **rim,
        "disc_x": centre[0],
        "disc_y": centre[1],
        "disc_radius_x": across,
        "disc_radius_y": along,
        "disc_tilt": np.degrees(-eye.tilt if eye.left else eye.tilt),
        "cup_x": cup[0],
        "cup_y": cup[1],
        "cup_radius_x": horizontal * across,
        "cup_radius_y": vertical * along,
        "atrophy": max(eye.atrophy, 0.0),
    }
    return {
        "condition": eye.condition,
        "eye": "left" if eye.left else "right",
        "notch_hour": _notch_hour(eye),
        **{name: round(float(value), 4) for name, value in measures.items()},
        "seed": eye.seed,
    }


def _notch_hour(eye: Eye) -> int | None:
    """The clock hour of the notch in the photograph; 12 is up."""
    if eye.rim.notch is None:
        return None
    right, down = disc_axes(eye, 1) @ np.array([np.cos(eye.rim.notch.angle), np.sin(eye.rim.notch.angle)])
    return round(np.degrees(np.arctan2(right, -down)) / 30) % 12 or 12
