"""Parts of the page: tables, pictures as data, and a sentence for each missing part."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from PIL import Image

from glaucoma.base.errors import shown
from glaucoma.base.files import read_csv, read_json

__all__ = [
    "Missing",
    "Nothing",
    "Picture",
    "Table",
    "cell",
    "drawn",
    "json_or_missing",
    "photograph",
    "picture",
    "table",
]

LARGE = 300_000  # bytes; larger pictures are stored as WebP, so that the page stays small
DPI = 110
WIDE = 600  # pixels


@dataclass(frozen=True)
class Missing:
    """A missing part, with the reason."""

    why: str


@dataclass(frozen=True)
class Nothing:
    """A part that is rightly empty, with a sentence that says so."""

    why: str


@dataclass(frozen=True)
class Picture:
    """An image inside the page: `data:` address, what it shows in words, width and height in pixels."""

    src: str
    alt: str
    width: int
    height: int

    @property
    def wide(self) -> bool:
        """Whether a phone's screen would make its text unreadably small."""
        return self.width > WIDE and self.width > 1.2 * self.height


@dataclass(frozen=True)
class Table:
    """A table: caption, column names, rows of values (None: empty), how many rows the file had, sortable or not."""

    caption: str
    columns: list[str]
    rows: list[list[Any]]
    sortable: bool = False


def table(path: Path, caption: str, *, sortable: bool = False, drop: tuple[str, ...] = ()) -> Table | Missing:
    """A CSV file as a table, without empty columns and those to `drop`."""
    found = frame(path)
    if isinstance(found, Missing):
        return found
    found = found.drop(columns=[name for name in drop if name in found]).dropna(axis=1, how="all")
    if found.empty:
        return Missing(f"{path} has no rows.")
    return of_frame(found, caption, sortable=sortable)


def of_frame(found: pd.DataFrame, caption: str, *, sortable: bool = False) -> Table:
    """A data frame as a table."""
    rows = [[None if pd.isna(value) else value for value in row] for row in found.astype(object).to_numpy()]
    return Table(caption, [str(name) for name in found.columns], rows, sortable)


def frame(path: Path) -> pd.DataFrame | Missing:
    """A CSV file, or why it cannot be shown."""
    try:
        return read_csv(path)
    except FileNotFoundError:
        return Missing(f"{path} does not exist: the stage that writes it has not run.")
    except ValueError as error:  # pandas' own reading errors are ValueErrors
        return Missing(f"{path} cannot be read: {error}")


def json_or_missing(path: Path) -> Any:
    """A JSON file, or why it cannot be shown."""
    try:
        return read_json(path)
    except FileNotFoundError:
        return Missing(f"{path} does not exist: the stage that writes it has not run.")
    except ValueError as error:
        return Missing(f"{path} cannot be read: {error}")


def picture(path: Path, alt: str) -> Picture | Missing:
    """A picture file, as it is or, where it is large, as WebP."""
    try:
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            size, kind = image.size, f"image/{(image.format or 'png').lower()}"
            if len(content) > LARGE:
                content, kind = _webp(image.convert("RGB")), "image/webp"
    except FileNotFoundError:
        return Missing(f"{path} does not exist: the stage that draws it has not run.")
    except OSError as error:
        return Missing(f"{path} cannot be shown: {error}")
    return Picture(_address(content, kind), alt, *size)


def photograph(pixels: np.ndarray, alt: str) -> Picture:
    """A photograph from decoded pixels, uint8 (height, width, 3)."""
    image = Image.fromarray(pixels)
    return Picture(_address(_webp(image), "image/webp"), alt, *image.size)


def drawn(figure: Figure, alt: str) -> Picture:
    """A figure of matplotlib; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    with Image.open(io.BytesIO(buffer.getvalue())) as image:
        return Picture(_address(buffer.getvalue(), "image/png"), alt, *image.size)


def cell(value: Any) -> str:
    """A value as a table shows it: three decimals where they tell it apart from zero, nothing for None."""
    if value is None:
        return ""
    if isinstance(value, (float, np.floating)):
        if not math.isfinite(value):
            return "not defined"
        return f"{value:.0f}" if value == int(value) and abs(value) >= 2 else _decimals(float(value))
    return shown(value)


def _decimals(value: float) -> str:
    return f"{value:.3f}" if value == 0 or abs(value) >= 0.01 else f"{value:.3g}"


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", quality=82, method=4)
    return buffer.getvalue()


def _address(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
