"""Atomic file writes, and hashes of files, arrays and values."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

__all__ = ["atomic_path", "hash_arrays", "hash_json", "read_csv", "read_json", "sha256_file", "write_csv", "write_json"]


@contextmanager
def atomic_path(path: Path | str) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on success it replaces `path`, on failure it is removed.

    The temporary name keeps the suffix, because writers (Pillow, Keras) choose the format by it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.stem}-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with temporary.open("rb+") as written:
            os.fsync(written.fileno())
        temporary.chmod(0o666 & ~_umask())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


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


def read_csv(path: Path | str, **options: Any) -> pd.DataFrame:
    """Read a table written by `write_csv`; text cells such as "NA" stay text."""
    import pandas as pd

    options = {"keep_default_na": False, "na_values": [""], "float_precision": "round_trip", **options}
    # Only LF ends a line: a carriage return can be part of a name
    return pd.read_csv(path, encoding="utf-8", encoding_errors="surrogateescape", lineterminator="\n", **options)


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
