"""Keep folders of results within their bytes: what was used longest ago goes first. Other processes may do the same."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterable
from pathlib import Path

__all__ = ["last_use", "make_room"]


def make_room(folders: Iterable[Path], gigabytes: float, kept: Callable[[Path], bool] = lambda folder: False) -> None:
    """Delete those folders that were used longest ago until all that are left fit.

    Args:
        folders: each with files only, deleted as a whole.
        gigabytes: what they may take together; below 0, all of them go.
        kept: whether a folder stays, though it counts.
    """
    ordered = sorted(folders, key=last_use)
    sizes = {folder: sum(_stat(file).st_size for file in folder.glob("*")) for folder in ordered}
    excess = sum(sizes.values()) - gigabytes * 1e9
    for folder in ordered:
        if excess <= 0:
            break
        if not kept(folder):
            shutil.rmtree(folder, ignore_errors=True)
            excess -= sizes[folder]


def last_use(folder: Path) -> float:
    """When a folder was touched last, in seconds since 1970; 0 where it is gone."""
    return _stat(folder).st_mtime


def _stat(path: Path) -> os.stat_result:
    """A file's state; zeros where another process has just renamed or deleted it."""
    try:
        return path.stat()
    except FileNotFoundError:
        return os.stat_result([0] * 10)
