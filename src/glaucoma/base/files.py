"""Atomic file writes, and hashes of files, arrays and values."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import stat
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from glaucoma.base.errors import ParamsError, shown

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = [
    "atomic_path",
    "check_place",
    "hash_arrays",
    "hash_json",
    "near",
    "read_csv",
    "read_json",
    "sha256_file",
    "write_csv",
    "write_json",
]


CACHED = re.compile(r"[/\\]files[/\\]md5[/\\][0-9a-f]{2}[/\\][0-9a-f]{30}")  # an object of DVC's cache


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it replaces `path`, on failure it is removed.

    A link is followed, and stays one, unless it leads into DVC's cache, which is never written to. What is no file (a
    pipe, a device, /dev/stdout) is written through, at the end. The temporary name keeps the suffix, because writers
    (Pillow, Keras) choose their format by it.

    Raises:
        OSError: the place cannot be written; said before anything is yielded.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    through = _is_stream(path)
    if path.is_symlink() and not through and not CACHED.search(target := os.path.realpath(path)):
        path = Path(target)
    if through:
        handle, name = tempfile.mkstemp(suffix=path.suffix)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        if through:
            with temporary.open("rb") as written, path.open("ab") as stream:
                shutil.copyfileobj(written, stream)
            return
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def check_place(place: Path | None, flag: str, *, folder: bool = False) -> None:
    """Before the work, make sure that its results can be written to where a flag says; None needs nothing.

    Args:
        place: a file, or with `folder` a folder; neither need be there yet.
        flag: its name, for the message.
        folder: whether a folder is wanted.

    Raises:
        ParamsError: it is a folder where a file is wanted, or the other way round.
        OSError: it cannot be written.
    """
    if place is None or (not folder and _is_stream(place)):
        return
    place = Path(os.path.realpath(place))
    if place.exists() and place.is_dir() is not folder:
        is_there, wanted = ("a folder", "file") if place.is_dir() else ("a file", "folder")
        raise ParamsError(f"{flag} is {shown(place)}, which is {is_there}", f"name a {wanted}")
    above = place if folder else place.parent
    while not above.exists() and above != above.parent:
        above = above.parent
    if not above.is_dir():
        raise ParamsError(f"{flag} is {shown(place)}, but {shown(above)} is a file", "name another place")
    handle, name = tempfile.mkstemp(dir=above, prefix=".")
    os.close(handle)
    Path(name).unlink()


def _is_stream(path: Path) -> bool:
    """Whether a path is no file to be replaced: a pipe, a socket, a device, or what a descriptor leads to."""
    try:
        regular = stat.S_ISREG(path.stat().st_mode)
    except OSError:  # not there yet, or a link to what is not
        return False
    descriptor = re.match(r"/dev/(std(in|out|err)|fd/)|/proc/", os.path.abspath(path))  # noqa: PTH100 - as it is named
    return bool(descriptor) or not (regular or path.is_dir())


def near(path: Path | str) -> str:
    """What to say of names that are nearly that of a file or folder that is not there; "" where there are none.

    They differ in letter case, in how Unicode spells an accent (macOS takes it apart), or in the suffix.
    """
    path = Path(path)
    while not path.parent.exists() and path != path.parent:
        path = path.parent  # a folder on the way may be what is missing
    keys = {_alike(path.name), _alike(path.stem)}
    try:
        found = sorted(one.name for one in os.scandir(path.parent) if {_alike(one.name), _alike(Path(one).stem)} & keys)
    except OSError:
        return ""
    told = [f"{shown(path.parent / name)} ({_how(path.name, name)})" for name in found if name != path.name]
    return f"; there is {', '.join(told[:3])}" if told else ""


def _alike(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _how(wanted: str, there: str) -> str:
    if unicodedata.normalize("NFC", wanted) == unicodedata.normalize("NFC", there):
        return "another Unicode form"
    return "another letter case" if _alike(wanted) == _alike(there) else "another suffix"


def write_json(path: Path | str, value: Any) -> None:
    """Write `value` as JSON: sorted keys, two spaces, LF, and never NaN or infinity (ValueError)."""
    text = json.dumps(value, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n"
    with atomic_path(path) as temporary:
        temporary.write_bytes(text.encode())


def read_json(path: Path | str) -> Any:
    """Read a JSON file."""
    return json.loads(Path(path).read_bytes())


def write_csv(path: Path | str, table: pd.DataFrame) -> None:
    """Write `table` without its row labels; floats round-trip, lines end in LF, the encoding is UTF-8.

    Names that are not valid text (bytes that a file system allows) are kept as surrogate escapes.
    """
    with atomic_path(path) as temporary:
        table.to_csv(temporary, index=False, lineterminator="\n", encoding="utf-8", errors="surrogateescape")


def read_csv(path: Path | str | IO[str], **options: Any) -> pd.DataFrame:
    """Read a table written by `write_csv`; text cells such as "NA" stay text."""
    import pandas as pd

    # Only LF ends a line of ours: a carriage return can be part of a name
    ours = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip", "lineterminator": "\n"}
    return pd.read_csv(path, encoding="utf-8", encoding_errors="surrogateescape", **{**ours, **options})


def sha256_file(path: Path | str) -> str:
    """SHA-256 of a file's bytes, as 64 hex digits."""
    with Path(path).open("rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def hash_json(value: Any) -> str:
    """SHA-256 of a value's canonical JSON (sorted keys, no spaces, no NaN), as 64 hex digits."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _umask() -> int:
    current = os.umask(0)
    os.umask(current)
    return current


def hash_arrays(arrays: Iterable[np.ndarray]) -> str:
    """SHA-256 over the dtypes, shapes and bytes of arrays."""
    import numpy as np

    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()
