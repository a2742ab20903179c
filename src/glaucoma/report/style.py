"""The style of every figure, and how figures are written."""

from __future__ import annotations

from contextlib import ContextDecorator
from functools import cache
from pathlib import Path
from textwrap import wrap

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.ft2font import FT2Font

from glaucoma.base.errors import shown
from glaucoma.base.files import atomic_path

__all__ = [
    "CONDITION_COLOURS",
    "DARK",
    "GREEN",
    "GREY",
    "ORANGE",
    "PALE",
    "PURPLE",
    "SPLIT_COLOURS",
    "heading",
    "horizontal_lines",
    "ink",
    "new_figure",
    "plain_name",
    "save",
    "styled",
]

# Okabe & Ito, "Color Universal Design" (2008): distinct with any colour vision
BLUE, VERMILLION, ORANGE, GREEN, PURPLE = "#0072B2", "#D55E00", "#E69F00", "#009E73", "#CC79A7"
DARK, GREY, PALE = "#222222", "#767676", "#e4e4e4"

CONDITION_COLOURS = {"normal": BLUE, "abnormal": VERMILLION}
SPLIT_COLOURS = {"train": GREY, "test": GREEN, "valid": PURPLE}

DPI = 150
STYLE = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same bytes on every machine
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.labelcolor": DARK,
    "axes.edgecolor": GREY,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": False,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": DARK,
    "ytick.color": DARK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "lines.linewidth": 1.8,
    "text.color": DARK,
    "text.parse_math": False,  # a `$` in a file name is a dollar sign
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
}

TITLE_INCHES, NOTE_INCHES = 0.122, 0.079  # width of a character of a title and of a note, on the wide side
LONGEST_NAME = 22  # characters that fit below a tile of the mosaic


def styled() -> ContextDecorator:
    """The project's style, as a decorator for functions that draw: `@styled()`."""
    return rc_context(STYLE)


def heading(figure: Figure, title: str, note: str = "") -> None:
    """Give a figure its title and, below it, a note.

    Lines that are wider than the figure are broken, and the figure grows by what they take: its parts keep their size.
    """
    width = figure.get_figwidth() - 0.24
    titles, notes = _broken(title, width / TITLE_INCHES), _broken(note, width / NOTE_INCHES) if note else []
    below = 0.42 + 0.22 * (len(titles) - 1)
    more = below - 0.42 + 0.19 * (len(notes) - (note.count("\n") + 1 if note else 0))
    height = figure.get_figheight() + more
    figure.set_figheight(height)
    left = 0.12 / figure.get_figwidth()
    figure.text(left, 1 - 0.14 / height, "\n".join(titles), fontsize=12.5, fontweight="bold", va="top")
    if note:
        figure.text(left, 1 - below / height, "\n".join(notes), fontsize=9, color=GREY, va="top", linespacing=1.35)
    figure.get_layout_engine().set(rect=(0, 0, 1, 1 - (below + 0.03 + 0.19 * len(notes)) / height))


def _broken(text: str, longest: float) -> list[str]:
    """The lines of a text, none longer than so many characters."""
    return [part for line in text.split("\n") for part in wrap(line, int(longest)) or [""]]


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of `width` × `height` inches whose parts arrange themselves; it needs no display."""
    return Figure(figsize=(width, height), layout="constrained")


def horizontal_lines(axes: Axes) -> None:
    """Draw pale lines to read values along."""
    axes.grid(axis="y")
    axes.tick_params(axis="y", length=0)


def ink(background: str | tuple) -> str:
    """Black or white, whichever stands out more on a colour: by 4.58 : 1 or more; WCAG 2.2 (1.4.3) asks for 4.5 : 1."""
    channels = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(background))
    luminance = sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), channels, strict=True))
    return "white" if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.05 else "black"


def plain_name(text: str, longest: int = LONGEST_NAME) -> str:
    r"""A file name as one short printable line.

    Control characters, bytes that are no text and characters that the font lacks are written as escapes (`\n`,
    `\xff`, `\u65e5`), the middle of a long name as an ellipsis, so that the beginning and the suffix stay.
    """
    name = "".join(c if _glyphs().get_char_index(ord(c)) else c.encode("unicode_escape").decode() for c in shown(text))
    if len(name) <= longest:
        return name
    tail = (longest - 1) // 2
    return f"{name[: longest - 1 - tail]}…{name[len(name) - tail :]}"


@cache
def _glyphs() -> FT2Font:
    return get_font(findfont(STYLE["font.family"]))


def save(figure: Figure, path: Path | str) -> None:
    """Write a figure as PNG: whole or not at all, and the same bytes for the same figure."""
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
