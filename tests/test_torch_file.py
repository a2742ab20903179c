"""Files in PyTorch's old format are read without PyTorch and without running their code."""

from __future__ import annotations

import collections
import hashlib
import io
import pickle
import struct
from typing import Any

import numpy as np
import pytest

from glaucoma.model.torch_file import read_pinned, read_tensors

MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
SYSTEM = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
VALUES = np.arange(24, dtype="<f4") / 7
STEPS = np.array([350_000], "<i8")


class Global:
    """Pickled as a name only, like PyTorch's classes."""

    def __init__(self, module: str, name: str):
        self.module, self.name = module, name


class Call:
    """Pickled as a call of a global."""

    def __init__(self, of: Global, *arguments: Any):
        self.of, self.arguments = of, arguments


class Storage(tuple):
    """Pickled as a persistent id."""


class Pickler(pickle._Pickler):  # the Python version: the C version imports every name
    def persistent_id(self, obj: Any) -> Any:
        return tuple(obj) if type(obj) is Storage else None

    def save(self, obj: Any, save_persistent_id: bool = True) -> None:
        if type(obj) is Global:
            self.write(f"c{obj.module}\n{obj.name}\n".encode())
        elif type(obj) is Call:
            self.save(obj.of)
            self.save(obj.arguments)
            self.write(pickle.REDUCE)
        else:
            super().save(obj, save_persistent_id)


FLOATS, LONGS = Global("torch", "FloatStorage"), Global("torch", "LongStorage")
REBUILD = Global("torch._utils", "_rebuild_tensor_v2")


def storage(key: str = "7", count: Any = 24, kind: Any = FLOATS, what: str = "storage", view: Any = None) -> Storage:
    return Storage((what, kind, key, "cpu", count, view))


def tensor(of: Any, offset: Any = 0, shape: Any = (24,), strides: Any = (1,)) -> Call:
    return Call(REBUILD, of, offset, shape, strides, False, collections.OrderedDict())


def pickled(value: Any) -> bytes:
    file = io.BytesIO()
    Pickler(file, 2).dump(value)
    return file.getvalue()


def written(named: Any, keys: Any, *values: np.ndarray, head: tuple = (MAGIC, VERSION, SYSTEM)) -> bytes:
    """A file in PyTorch's format."""
    data = b"".join(struct.pack("<q", array.size) + array.tobytes() for array in values)
    return b"".join(pickled(each) for each in (*head, named, keys)) + data


def one(*arguments: Any, **options: Any) -> bytes:
    """A file of one tensor."""
    return written(collections.OrderedDict(weight=tensor(*arguments, **options)), ["7"], VALUES)


GOOD = written(
    collections.OrderedDict(
        kernel=tensor(storage("7"), 0, (2, 3, 4), (12, 4, 1)),
        turned=tensor(storage("7"), 0, (4, 3, 2), (1, 4, 12)),  # a view of the same values
        part=tensor(storage("7"), 5, (2, 2), (6, 2)),
        steps=tensor(storage("9", 1, LONGS), 0, (), ()),
    ),
    ["7", "9"],
    VALUES,
    STEPS,
)


def refused(content: bytes, *words: str) -> str:
    with pytest.raises(ValueError, match=r".") as caught:
        read_tensors(content)
    assert "\n" not in str(caught.value)
    for word in words:
        assert word in str(caught.value)
    return str(caught.value)


def test_tensors_are_read_with_their_shapes_strides_and_offsets():
    found = read_tensors(GOOD)
    np.testing.assert_array_equal(found["kernel"], VALUES.reshape(2, 3, 4))
    np.testing.assert_array_equal(found["turned"], VALUES.reshape(2, 3, 4).transpose(2, 1, 0))
    np.testing.assert_array_equal(found["part"], [[VALUES[5], VALUES[7]], [VALUES[11], VALUES[13]]])
    assert found["steps"] == 350_000
    assert [array.dtype for array in found.values()] == ["f4", "f4", "f4", "i8"]
    assert list(found) == ["kernel", "turned", "part", "steps"]


def test_a_file_of_another_content_than_the_pinned_one_is_refused(tmp_path):
    path = tmp_path / "weights.pth"
    path.write_bytes(GOOD)
    assert len(read_pinned(path, hashlib.sha256(GOOD).hexdigest())) == 4
    path.write_bytes(GOOD[:-1] + b"\1")
    with pytest.raises(ValueError, match="its SHA-256 is"):
        read_pinned(path, hashlib.sha256(GOOD).hexdigest())


@pytest.mark.parametrize(
    "named",
    ["os.system", "builtins.eval", "builtins.getattr", "torch.DoubleStorage", "collections.Counter", "numpy.load"],
)
def test_what_is_no_part_of_weights_is_neither_looked_up_nor_called(named, tmp_path):
    trap = tmp_path / "trap"
    module, _, name = named.rpartition(".")
    call = Call(Global(module, name), f"touch {trap}")
    refused(written(collections.OrderedDict(weight=call), ["7"], VALUES), repr(named))
    refused(pickled(call) + GOOD, repr(named))  # in any of the five pickles
    assert not trap.exists()


def test_operations_that_weights_do_not_need_are_refused():
    refused(b"\x80\x02ctorch\nFloatStorage\n)\x81." + GOOD, "NEWOBJ")
    refused(b"\x80\x04\x8c\x02os\x8c\x06system\x93." + GOOD, "SHORT_BINUNICODE")
    refused(b"\x80\x02(S'true'\nios\nsystem\n." + GOOD, "STRING")
    refused(b"\x80\x02]r\xff\xff\xff\xff." + GOOD, "numbers an object 4294967295")  # asks for 64 GB


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (one(storage(), 1), "'weight' does not lie within its storage"),
        (one(storage(), 0, (25,)), "does not lie within"),
        (one(storage(), 0, (5, 5), (1, 0)), "does not lie within"),  # repeats values
        (one(storage(), 0, (2,), (24,)), "does not lie within"),
        (one(storage(), 0, (2, 2), (1,)), "does not lie within"),
        (one(storage(), 0, (0,)), "does not lie within"),
        (one(storage(), 0, (1,) * 9, (1,) * 9), "does not lie within"),
        (one(storage(), -1, (1,)), "no sizes"),
        (one(storage(), 0, (24,), (-1,)), "no sizes"),
        (one(storage(), 0, (2**70,)), "no sizes"),
        (one(storage(), 0, (24.0,)), "BINFLOAT"),
        (one(storage(), True, (1,)), "no sizes"),
        (one(storage(), 0, [24]), "not described as one"),
        (one("7"), "not described as one"),
        (one(storage(count=-24)), "no sizes"),
        (one(storage(count=25)), "ends within a storage"),
        (one(storage(count=23), shape=(23,)), "24 values, and 23 are announced"),
        (one(storage(kind="f4")), "a storage is described as"),
        (one(storage(what="module")), "a storage is described as"),
        (one(storage(view=("8", 0, 4))), "a storage is described as"),
        (written(collections.OrderedDict(weight=1), [], VALUES), "something else than named tensors"),
        (written(collections.OrderedDict({1: tensor(storage())}), ["7"], VALUES), "something else"),
        (written([tensor(storage())], ["7"], VALUES), "something else"),
        (written(collections.OrderedDict(weight=tensor(storage())), ["8"], VALUES), "not those that its tensors use"),
        (written(collections.OrderedDict(weight=tensor(storage())), ["7", "7"], VALUES, VALUES), "not those"),
        (written(collections.OrderedDict(weight=tensor(storage())), "7", VALUES), "not told apart"),
        (
            written(collections.OrderedDict(a=tensor(storage()), b=tensor(storage(count=1))), ["7"], VALUES),
            "not told apart",
        ),
        (GOOD + b"\0", "goes on after its last storage, for 1 bytes"),
        (written({}, [], head=(MAGIC, 1002, SYSTEM)), "version 1001"),
        (written({}, [], head=(MAGIC, VERSION, SYSTEM | {"little_endian": False})), "little-endian"),
        (written({}, [], head=(1, VERSION, SYSTEM)), "no little-endian file"),
        (b"", "no whole file"),
        (b"PK\x03\x04 a newer file of PyTorch's", "no whole file"),
        (b"<html>404 Not Found</html>", "no whole file"),
    ],
)
def test_every_size_is_checked_against_the_file(content, word):
    refused(content, word)


def test_a_file_cut_short_anywhere_is_refused():
    for length in range(len(GOOD)):
        refused(GOOD[:length])


@pytest.mark.filterwarnings("ignore:invalid escape sequence:DeprecationWarning")
def test_a_file_with_a_changed_byte_is_refused_or_gives_tensors_of_its_own_bytes():
    """For any change of a byte: no other error, and no more memory than the file's size."""
    random = np.random.default_rng(0)
    for place in range(len(GOOD)):
        for value in (*random.integers(256, size=2).tolist(), 0, 255, ord("."), ord("R"), ord("b"), ord("r")):
            content = bytearray(GOOD)
            content[place] = value
            try:
                found = read_tensors(bytes(content))
            except ValueError:
                continue
            assert sum(array.nbytes for array in found.values()) <= 4 * len(GOOD)
