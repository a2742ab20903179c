"""Walk a folder of photographs: images apart from other files, junk unseen, links followed once."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from glaucoma.base.errors import DataError, listed, many, shown
from glaucoma.base.progress import say
from glaucoma.photos.images import DICOM, SUFFIXES, is_dicom

__all__ = [
    "READ",
    "TABLES",
    "Found",
    "by_suffix",
    "entries",
    "folders",
    "is_image",
    "is_image_name",
    "pictures",
    "walk",
]

# What operating systems and file servers leave behind, and DICOM's table of contents, which names patients; hidden
# files (.DS_Store, ._x.jpg) need no naming
JUNK = frozenset(
    {"thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "@eadir", "$recycle.bin", "lost+found", "dicomdir"}
)

READ = f"read are {' '.join(sorted(SUFFIXES | DICOM))}"
# Suffixes of pictures that are not read: a folder loses photographs with them, which must be told
PICTURES = (
    *(".ima", ".gif", ".jp2", ".j2k", ".jpx", ".jxl", ".jxr", ".heic", ".heif", ".avif"),
    *(".pbm", ".pgm", ".ppm", ".pnm", ".raw", ".dng", ".nef", ".cr2", ".cr3", ".arw", ".svs", ".ndpi", ".scn"),
    *(".mha", ".mhd", ".nii", ".psd", ".tga", ".pcx", ".svg", ".eps", ".e2e", ".fda", ".fds"),
)
STARTS = (b"\xff\xd8\xff", b"\x89PNG", b"II*\0", b"MM\0*", b"GIF8", b"BM")  # of pictures under names that say nothing
TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".json")


@dataclass
class Found:
    """What a walk met below a folder.

    Attributes:
        images: files with an image's suffix, and DICOM files without one.
        others: files that are neither images nor junk.
        tables: those of them that could hold labels, by suffix.
    """

    images: list[Path] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)


def is_image_name(name: str) -> bool:
    """Whether a file's suffix is one of `images.SUFFIXES` or of DICOM's, in any case."""
    suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - Path().suffix is slow for 17 070 names
    return suffix in SUFFIXES or suffix in DICOM


def is_image(path: Path) -> bool:
    """Whether a file is a photograph by its suffix; without one (or with digits, as in 1.2.840.3), if it is DICOM."""
    if is_image_name(path.name):
        return True
    suffix = path.suffix[1:]
    return (not suffix or suffix.isdecimal()) and is_dicom(path)


def by_suffix(files: Iterable[Path]) -> str:
    """How many files have which suffix: `12 .dcm, 1 .gif, 3 without a suffix`; the most frequent first."""
    counts = Counter(path.suffix.lower() for path in files)
    told = sorted(counts.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count} {shown(suffix) or 'without a suffix'}" for suffix, count in told)


def pictures(others: Iterable[Path]) -> list[Path]:
    """Of files without an image's suffix those that are pictures all the same, by suffix, or having none by content."""
    return [path for path in others if path.suffix.lower() in PICTURES or (not path.suffix and _starts_so(path))]


def _starts_so(path: Path) -> bool:
    if not path.is_file():  # to open a pipe is to wait for a writer
        return False
    try:
        with path.open("rb") as file:
            start = file.read(8)
    except OSError:
        return False
    return start.startswith(STARTS)


def entries(folder: Path) -> list[os.DirEntry]:
    """The entries of a folder without hidden ones and junk, sorted by name.

    Raises:
        DataError: the folder cannot be listed.
    """
    try:
        with os.scandir(folder) as scan:
            kept = [entry for entry in scan if not entry.name.startswith(".") and entry.name.lower() not in JUNK]
    except OSError as error:
        remedy = "make it readable for this user, or remove it"
        raise DataError(f"{shown(folder)} cannot be listed: {error.strerror}", remedy) from error
    return sorted(kept, key=lambda entry: entry.name)


def folders(folder: Path) -> list[str]:
    """Names of the folders in a folder."""
    return [entry.name for entry in entries(folder) if _is(entry, "dir")]


def walk(top: Path, *, below: bool = True, strict: bool = True) -> Found:
    """Collect the files of a folder, and of all folders below it where `below`; every folder is entered once.

    Unless `strict`, links that lead nowhere, and pipes, are listed among the images, to be found unreadable one by one.

    Raises:
        DataError: a folder cannot be listed, or images are links that lead nowhere or no files (all are named).
    """
    found = Found()
    broken: list[Path] = []
    waiting, entered = [top], {_identity(top)}
    while waiting:
        for entry in entries(waiting.pop()):
            path = Path(entry.path)
            if _is(entry, "dir"):
                if below and _identity(path) in entered:
                    say(f"{shown(path)} leads to a folder that was read already (a link in a circle?): skipped")
                elif below:
                    entered.add(_identity(path))
                    waiting.append(path)
            elif not _is(entry, "file"):
                if is_image_name(entry.name):
                    (broken if strict else found.images).append(path)
                else:
                    found.others.append(path)
            elif is_image(path):
                found.images.append(path)
            else:
                found.others.append(path)
                if entry.name.lower().endswith(TABLES):
                    found.tables.append(path)
    if broken:
        names = listed([shown(path) for path in sorted(broken)])
        problem = (
            f"{many(len(broken), 'image')} below {shown(top)} cannot be opened: links that lead nowhere, or no files:"
        )
        raise DataError(problem + names, "mend or remove them")
    found.images.sort()
    found.tables.sort()
    return found


def _is(entry: os.DirEntry, kind: str) -> bool:
    """Whether an entry is, or links to, a file or folder; a link to itself is neither."""
    try:
        return entry.is_dir() if kind == "dir" else entry.is_file()
    except OSError:
        return False


def _identity(folder: Path) -> tuple[int, int]:
    status = folder.stat()
    return status.st_dev, status.st_ino
