"""Read weights in PyTorch's old file format, without PyTorch and without running code from the file.

The format: five pickles (a magic number, the format's version, sizes of the writer's types, an OrderedDict of named
tensors, the keys of their storages), then for each storage an int64 count and its raw little-endian values. A pickle
can call any importable name; this reader allows only the operations that such files need and four names, all but the
dictionary replaced by stand-ins.
"""

from __future__ import annotations

import hashlib
import io
import math
import pickle
import pickletools
import re
from collections import OrderedDict
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from glaucoma.base.errors import one_line

__all__ = ["read_pinned", "read_tensors"]

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
OPERATIONS = re.compile(  # names of pickletools
    "PROTO|STOP|MARK|GLOBAL|REDUCE|BUILD|BINPERSID|NONE|NEWTRUE|NEWFALSE|BININT|BININT1|BININT2|LONG1|BINUNICODE|"
    "EMPTY_TUPLE|TUPLE|TUPLE1|TUPLE2|TUPLE3|EMPTY_LIST|APPEND|APPENDS|EMPTY_DICT|SETITEM|SETITEMS|BINPUT|LONG_BINPUT|"
    "BINGET|LONG_BINGET"
)
COUNT = np.dtype("<i8")  # type of the count before a storage's values


class _Storage(NamedTuple):
    kind: str  # NumPy's name of its values' type
    key: str
    count: int  # type: ignore[assignment]  # of tuples it is a method


class _Tensor(NamedTuple):
    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def read_pinned(path: Path, sha256: str) -> dict[str, np.ndarray]:
    """The tensors of a file with a known hash.

    Raises:
        ValueError: the hash or the format differs.
        OSError: the file cannot be read.
    """
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise ValueError(f"its SHA-256 is {found}, and {sha256} was expected")
    return read_tensors(content)


def read_tensors(content: bytes) -> dict[str, np.ndarray]:
    """The tensors in a file's content by name, float32 or int64, in PyTorch's order of axes.

    Raises:
        ValueError: the content is damaged, truncated, of another format, or has more than weights.
    """
    file = io.BytesIO(content)
    try:
        head = [_unpickled(file) for _ in range(3)]
        named, keys = _unpickled(file), _unpickled(file)
    except Exception as error:  # damaged pickles raise all kinds of errors
        raise ValueError(f"it is no whole file of PyTorch's weights: {one_line(error)}") from None
    if head[:2] != [MAGIC, VERSION] or not (isinstance(head[2], dict) and head[2].get("little_endian") is True):
        raise ValueError(f"it is no little-endian file of PyTorch's weights, version {VERSION}")
    if type(named) is not OrderedDict or not all(
        type(name) is str and type(tensor) is _Tensor for name, tensor in named.items()
    ):
        raise ValueError("it holds something else than named tensors")
    begins = _storages(content, file.tell(), keys, {tensor.storage for tensor in named.values()})
    return {name: _array(content, name, tensor, begins[tensor.storage]) for name, tensor in named.items()}


class _Unpickler(pickle.Unpickler):
    """Creates descriptions of tensors; a pickle could call methods of NumPy arrays."""

    def find_class(self, module: str, name: str) -> Any:
        known = {
            "collections.OrderedDict": OrderedDict,
            "torch._utils._rebuild_tensor_v2": _described,
            "torch.FloatStorage": "<f4",
            "torch.LongStorage": "<i8",
        }
        if f"{module}.{name}" not in known:
            raise ValueError(f"it asks for {f'{module}.{name}'[:80]!r}, which is no part of weights")
        return known[f"{module}.{name}"]

    def persistent_load(self, pid: Any) -> _Storage:
        what, kind, key, _, count, view = pid
        if what != "storage" or kind not in ("<f4", "<i8") or type(key) is not str or view is not None:
            raise ValueError(f"a storage is described as {str(pid)[:80]}")
        return _Storage(kind, key, *_whole(count))


def _described(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """Stand-in for the function that creates a tensor; it ignores `requires_grad` and hooks."""
    if type(storage) is not _Storage or type(shape) is not tuple or type(strides) is not tuple:
        raise ValueError("a tensor is not described as one")
    (begin,) = _whole(offset)
    return _Tensor(storage, begin, _whole(*shape), _whole(*strides))


def _whole(*numbers: Any) -> tuple[int, ...]:
    if not all(type(number) is int and 0 <= number < 2**40 for number in numbers):
        raise ValueError(f"{str(numbers)[:80]} are no sizes")
    return numbers


def _unpickled(file: io.BytesIO) -> Any:
    """Load the file's next pickle after checking all of its operations."""
    begin = file.tell()
    for operation, argument, _ in pickletools.genops(file):
        if not OPERATIONS.fullmatch(operation.name):
            raise ValueError(f"it does {operation.name}, which weights do not need")
        if (
            operation.name == "LONG_BINPUT" and argument is not None and argument > file.getbuffer().nbytes
        ):  # would allocate a list this long
            raise ValueError(f"it numbers an object {argument}")
    file.seek(begin)
    return _Unpickler(file).load()


def _storages(content: bytes, begin: int, keys: Any, wanted: set[_Storage]) -> dict[_Storage, int]:
    """Offset of each storage's values in the file; the whole file must consist of storages that tensors use."""
    by_key = {storage.key: storage for storage in wanted}
    if len(by_key) != len(wanted) or type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("its storages are not told apart")
    if sorted(by_key) != sorted(keys):
        raise ValueError("its storages are not those that its tensors use")
    begins = {}
    for key in keys:
        storage = by_key[key]
        values = begin + COUNT.itemsize
        end = values + storage.count * np.dtype(storage.kind).itemsize
        if end > len(content):
            raise ValueError(f"it ends within a storage, after {len(content)} bytes")
        if (count := int.from_bytes(content[begin:values], "little", signed=True)) != storage.count:
            raise ValueError(f"a storage has {count} values, and {storage.count} are announced")
        begins[storage], begin = values, end
    if begin != len(content):
        raise ValueError(f"it goes on after its last storage, for {len(content) - begin} bytes")
    return begins


def _array(content: bytes, name: str, tensor: _Tensor, begin: int) -> np.ndarray:
    storage, offset, shape, strides = tensor
    last = offset + sum((length - 1) * stride for length, stride in zip(shape, strides, strict=False))
    fits = len(shape) == len(strides) <= 8 and 0 < math.prod(shape) <= storage.count and last < storage.count
    if not fits:
        raise ValueError(f"{name[:80]!r} does not lie within its storage")
    kind = np.dtype(storage.kind)
    steps = [stride * kind.itemsize for stride in strides]
    return np.ndarray(shape, kind, content, begin + offset * kind.itemsize, steps).astype(kind.newbyteorder("="))
