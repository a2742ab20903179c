"""File names in messages: escaped so that no name can disguise itself, and no list fills the screen."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["listed", "many", "shown"]


def shown(name: object) -> str:
    r"""A name as one printable word: line breaks, control and direction marks and stray bytes as \n, \u202e, \xe9."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def listed(items: Sequence[str], most: int = 10, rest: str = "") -> str:
    """Items on lines of their own, at most `most` of them, then how many more there are (and `rest`: where)."""
    lines = [f"\n    {item}" for item in items[:most]]
    if len(items) > most:
        lines.append(f"\n    … and {len(items) - most} more{rest}")
    return "".join(lines)


def many(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: 1 file, 17 070 files."""
    return f"{count:,} ".replace(",", " ") + (noun if count == 1 else plural or f"{noun}s")
