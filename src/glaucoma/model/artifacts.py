"""Model files: `.keras` archives whose bytes depend only on the model, each with a JSON sidecar."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from glaucoma.base.errors import WeightsError, one_line
from glaucoma.base.files import atomic_path, sha256_file
from glaucoma.model.contents import check_contents
from glaucoma.model.runtime import keras
from glaucoma.model.sidecar import sidecar_of, write_sidecar

__all__ = ["load_model", "load_values", "save_model"]

ZIP_EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest date a zip entry can hold


def save_model(model: keras.Model, path: Path, card: dict[str, Any]) -> None:
    """Save `model` as `path` (.keras) and `card` beside it as JSON, with hashes of both.

    Keras writes the date and memory addresses into the archive; they are removed, so equal models give equal files.
    """
    with atomic_path(path) as temporary:
        model.save(temporary)
        _settle(temporary)
    write_sidecar(sidecar_of(path), card, sha256_file(path))


def load_model(path: Path) -> keras.Model:
    """Load a `.keras` file for inference or further training, without running any code in it.

    Raises:
        WeightsError: the file is missing, not a complete Keras model, or larger than any network needs.
    """
    with _whole(Path(path)) as whole:
        return keras.saving.load_model(whole, compile=False, safe_mode=True)


def load_values(model: keras.Model, loaded: Path, path: Path) -> bool:
    """Load the values of another model with the same configuration into a model loaded from `loaded`.

    The model's traced functions stay valid; tracing is most of the time it takes to load a network.

    Returns:
        False, with nothing changed, if the model at `path` has another configuration.

    Raises:
        WeightsError: as `load_model`.
    """
    with _whole(path) as whole:
        same = _config(loaded) == _config(whole)
        if same:
            model.load_weights(whole)
        return same


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Check a model file before it is read, and report any failure as an incomplete model."""
    if not path.is_file():
        raise WeightsError(f"there is no model at {path}", "run `dvc repro`, or `dvc pull` where a remote holds it")
    if path.suffix != ".keras":  # Keras may run code in other files, such as old HDF5 ones
        raise WeightsError(f"{path} is no .keras file", "name a model that this project or Keras 3 has saved")
    try:
        check_contents(path)
        yield path
    except Exception as error:  # damage can surface anywhere: zip, JSON, HDF5, Keras
        raise WeightsError(
            f"{path} is not a whole Keras model: {one_line(error)}", "restore it, e.g. with `dvc checkout`"
        ) from None


def _config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read("config.json")


def _settle(path: Path) -> None:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(entries["metadata.json"])
    metadata.pop("date_saved", None)
    entries["metadata.json"] = json.dumps(metadata, sort_keys=True).encode()
    config = _without_addresses(json.loads(entries["config.json"]))
    entries["config.json"] = json.dumps(config).encode()
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(zipfile.ZipInfo(name, ZIP_EPOCH), content)


def _without_addresses(config: Any) -> Any:
    """Drop the `id()` that Keras stores for objects shared by layers: dtype policies, which have no state."""
    if isinstance(config, dict):
        return {key: _without_addresses(value) for key, value in config.items() if key != "shared_object_id"}
    return [_without_addresses(value) for value in config] if isinstance(config, list) else config
