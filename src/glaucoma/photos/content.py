"""Content ids of listed files, and reading a file only if its content has not changed."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from glaucoma.base.errors import DataError, listed, many, shown
from glaucoma.base.files import sha256_file
from glaucoma.base.workers import in_threads
from glaucoma.photos.images import Unreadable

__all__ = ["content_ids", "read_content"]

STALE = "the images changed since they were listed: run `dvc repro` again"


def content_ids(root: Path, names: Sequence[str]) -> list[str]:
    """SHA-256 of each file's bytes; hard links to one file are read once.

    Raises:
        DataError: files cannot be opened; all are named.
    """
    inodes: list[tuple[int, int] | None] = []
    faults = []
    for name in names:
        try:
            status = os.stat(root / name)  # noqa: PTH116 - 17 070 times
            inodes.append((status.st_dev, status.st_ino))
        except OSError as error:
            faults.append(f"{shown(name)}: {error.strerror}")
            inodes.append(None)
    files = {inode: root / name for inode, name in zip(inodes, names, strict=True) if inode}

    def content_id(file: Path) -> str | OSError:
        try:
            return sha256_file(file)
        except OSError as error:
            return error

    found = dict(zip(files, in_threads(content_id, list(files.values()), "hash", "file"), strict=True))
    hashes: dict[tuple[int, int] | None, str] = {}
    for inode, result in found.items():
        if isinstance(result, str):
            hashes[inode] = result
        else:
            faults.append(f"{shown(files[inode].relative_to(root))}: {result.strerror}")
    if faults:
        problem = f"{many(len(faults), 'file')} in {shown(root)} cannot be opened:{listed(faults)}"
        raise DataError(problem, "make them readable for this user, or remove them")
    return [hashes[inode] for inode in inodes]


def read_content(root: Path, path: str, image: str) -> bytes:
    """The bytes of an indexed file, checked against its content id.

    Raises:
        DataError: the file is gone or has changed.
        Unreadable: it cannot be opened.
    """
    try:
        content = (root / path).read_bytes()
    except FileNotFoundError:
        raise DataError(f"{shown(root / path)} is gone", STALE) from None
    except OSError as error:
        raise Unreadable(f"cannot be opened ({error.strerror})") from error
    if hashlib.sha256(content).hexdigest() != image:
        raise DataError(f"{shown(root / path)} has changed", STALE)
    return content
