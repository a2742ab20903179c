"""Errors reported to users, each with a remedy and an exit code.

    GlaucomaError            exit 1
    ├── ParamsError          exit 2   params.yaml or a flag cannot be used
    ├── DataError            exit 3   the images, their layout or their index
    │   └── AuditError       exit 4   the audit found an error that is not waived
    ├── WeightsError         exit 5   pretrained weights or a saved model
    └── TrainingError        exit 6   a search or a fold could not be trained

Any other exception is a bug of this project and keeps its traceback, except a full disk and a place that cannot be
written (7), Ctrl-C (130) and a reader of the output that has left (141). README.md lists them for users.
"""

from __future__ import annotations

from collections.abc import Sequence

__all__ = [
    "AuditError",
    "DataError",
    "GlaucomaError",
    "ParamsError",
    "TrainingError",
    "WeightsError",
    "listed",
    "many",
    "one_line",
    "shown",
]


class GlaucomaError(Exception):
    """A problem, its place, and the remedy.

    Args:
        found: one sentence with the problem and its place.
        remedy: what the user can do; printed on a separate line.
    """

    exit_code = 1

    def __init__(self, found: str, remedy: str = ""):
        super().__init__(found)
        self.found = found
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.found}\n  → {self.remedy}" if self.remedy else self.found


class ParamsError(GlaucomaError):
    """A parameter or a flag that cannot be used."""

    exit_code = 2


class DataError(GlaucomaError):
    """Images, labels or folds that cannot be used."""

    exit_code = 3


class AuditError(DataError):
    """An error found by the audit that is not waived."""

    exit_code = 4


class WeightsError(GlaucomaError):
    """Weights or a model file that is missing, damaged or of another architecture."""

    exit_code = 5


class TrainingError(GlaucomaError):
    """A search in which no trial succeeded, or a fold that diverged."""

    exit_code = 6


def shown(name: object) -> str:
    r"""A name as one printable word: line breaks, control and direction marks and stray bytes as \n, \u202e, \xe9."""
    text = str(name).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def one_line(error: Exception) -> str:
    """The first line of another library's error, at most 200 characters; its type if it has no message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def listed(items: Sequence[str], most: int = 10, rest: str = "") -> str:
    """List up to `most` items, one per line, then the number of others (and `rest`: where to find them)."""
    lines = [f"\n    {item}" for item in items[:most]]
    if len(items) > most:
        lines.append(f"\n    … and {len(items) - most} more{rest}")
    return "".join(lines)


def many(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: 1 file, 17 070 files."""
    return f"{count:,} ".replace(",", " ") + (noun if count == 1 else plural or f"{noun}s")
