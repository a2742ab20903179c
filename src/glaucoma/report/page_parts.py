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

DPI = 110
WIDE = 600  # pixels
MOST = 1400  # pixels that a sheet of photographs is wide at most


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
    """An image inside the page: `data:` address, what it shows in words, pixels, file, whether it is of photographs."""

    src: str
    alt: str
    width: int
    height: int
    source: str
    photographs: bool

    @property
    def wide(self) -> bool:
        """Whether a phone's screen would make its text unreadably small."""
        return self.width > WIDE and self.width > 1.2 * self.height


@dataclass(frozen=True)
class Table:
    """A table: caption, column names, rows of values (None: empty), the file that they stand in, sortable or not."""

    caption: str
    columns: list[str]
    rows: list[list[Any]]
    source: str
    sortable: bool = False


def table(path: Path, caption: str, *, sortable: bool = False, drop: tuple[str, ...] = ()) -> Table | Missing:
    """A CSV file as a table, without empty columns and those to `drop`."""
    found = frame(path)
    if isinstance(found, Missing):
        return found
    found = found.drop(columns=[name for name in drop if name in found]).dropna(axis=1, how="all")
    if found.empty:
        return Missing(f"{path} has no rows.")
    return of_frame(found, caption, path, sortable=sortable)


def of_frame(found: pd.DataFrame, caption: str, source: Path, *, sortable: bool = False) -> Table:
    """A data frame as a table; `source` is the file that its values stand in."""
    rows = [[None if pd.isna(value) else value for value in row] for row in found.astype(object).to_numpy()]
    return Table(caption, [str(name) for name in found.columns], rows, source.as_posix(), sortable)


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


def picture(path: Path, alt: str, *, photographs: bool = False) -> Picture | Missing:
    """A picture file as WebP: a chart as it is, `photographs` compressed and no wider than `MOST`."""
    try:
        with Image.open(path) as image:
            picture = image.convert("RGB")
    except FileNotFoundError:
        return Missing(f"{path} does not exist: the stage that draws it has not run.")
    except OSError as error:
        return Missing(f"{path} cannot be shown: {error}")
    if photographs and picture.width > MOST:
        picture = picture.resize((MOST, round(picture.height * MOST / picture.width)), Image.Resampling.LANCZOS)
    return _picture(picture, alt, path, photographs)


def photograph(pixels: np.ndarray, alt: str, source: Path) -> Picture:
    """A photograph from decoded pixels, uint8 (height, width, 3)."""
    return _picture(Image.fromarray(pixels), alt, source, photographs=True)


def drawn(figure: Figure, alt: str, source: Path) -> Picture:
    """A figure of matplotlib, drawn from a file; equal figures give equal bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    with Image.open(buffer) as image:
        return _picture(image.convert("RGB"), alt, source, photographs=False)


def _picture(image: Image.Image, alt: str, source: Path, photographs: bool) -> Picture:
    how = {"quality": 80} if photographs else {"lossless": True, "quality": 60}  # of lossless WebP: the effort
    buffer = io.BytesIO()
    image.save(buffer, "WEBP", method=4, **how)
    address = f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return Picture(address, alt, *image.size, source.as_posix(), photographs)


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
