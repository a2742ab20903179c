"""Check a `.keras` archive before Keras loads it: no huge layers or weights, no weights in other files.

Keras' safe mode prevents code from running, but a few bytes can still request more memory than there is or make Keras
read weights from other files.
"""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import h5py

__all__ = ["check_contents"]

MEMBERS = {"metadata.json", "config.json", "model.weights.h5"}
LARGEST = 2**31  # bytes of a whole model; EfficientNetB7, the largest of the table, takes 2.6e8
WIDEST = 2**16  # limit of a dimension, or a number of units or filters
NO_WIDTHS = ("seed", "shared_object_id")  # keys whose values may be larger


def check_contents(path: Path) -> None:
    """Check an archive without loading it.

    Raises:
        ValueError: members that Keras does not write, more than `LARGEST` bytes of weights, a layer wider than
            `WIDEST`, or weights in other files.
        zipfile.BadZipFile, KeyError, OSError: the archive is incomplete.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = {entry.filename: entry.file_size for entry in archive.infolist()}
        if foreign := sorted(sizes.keys() - MEMBERS):
            raise ValueError(f"it holds {foreign[0][:80]!r}, which Keras does not write")
        if sum(sizes.values()) > LARGEST:
            raise ValueError(f"it unpacks to {sum(sizes.values()):.2g} bytes, more than {LARGEST:.2g}")
        _check_widths(json.loads(archive.read("config.json")))
        with h5py.File(io.BytesIO(archive.read("model.weights.h5")), "r") as weights:
            _check_weights(weights)


def _check_widths(config: Any, key: str = "") -> None:
    if isinstance(config, dict):
        for name, value in config.items():
            _check_widths(value, str(name))
    elif isinstance(config, list):
        for value in config:
            _check_widths(value, key)
    elif isinstance(config, int) and config > WIDEST and key not in NO_WIDTHS:
        raise ValueError(f"a layer's {key} is {config}, more than {WIDEST}")


def _check_weights(weights: h5py.File) -> None:
    total = 0

    def look(name: str, link: Any) -> str | None:  # a returned value ends the visit; h5py would lose an exception
        nonlocal total
        if not isinstance(link, h5py.HardLink):
            return f"{name} is a link to somewhere else"
        held = weights[name]
        if isinstance(held, h5py.Dataset):
            if held.external or held.is_virtual:
                return f"{name} is in another file"
            total += held.nbytes
        return f"its weights take more than {LARGEST:.2g} bytes" if total > LARGEST else None

    if fault := weights.visititems_links(look):
        raise ValueError(fault)
