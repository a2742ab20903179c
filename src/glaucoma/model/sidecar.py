"""The JSON beside a model file: what must be known to use it, and hashes by which a change of either is noticed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from glaucoma.base.errors import WeightsError, shown
from glaucoma.base.files import hash_json, read_json, sha256_file, write_json

__all__ = ["read_sidecar", "sidecar_of", "write_sidecar"]

SEAL = "sidecar_sha256"
REMEDY = "restore both, e.g. with `dvc checkout`; or remove the sidecar of a model that is not ours"


def sidecar_of(model: Path) -> Path:
    """Where a model's sidecar lies: `fold0.json` of `fold0.keras`, and `fold0.onnx.json` of its export."""
    model = Path(model)
    return model.with_suffix(".json") if model.suffix == ".keras" else model.with_name(f"{model.name}.json")


def write_sidecar(path: Path, card: dict[str, Any], sha256: Any) -> None:
    """Write a sidecar: the card, `sha256` of the model, and `sidecar_sha256` of all that (its canonical JSON)."""
    told = {**card, "sha256": sha256}
    write_json(path, {**told, SEAL: hash_json(told)})


def read_sidecar(model: Path) -> dict[str, Any]:
    """What a model's sidecar says, without its own hash; empty where there is none.

    Raises:
        WeightsError: it is damaged, was changed by hand, or describes another model.
    """
    sidecar = sidecar_of(model)
    if not sidecar.is_file():
        return {}
    try:
        told = read_json(sidecar)
    except (json.JSONDecodeError, UnicodeDecodeError, RecursionError):
        told = None
    if not isinstance(told, dict) or "sha256" not in told:
        raise WeightsError(f"{shown(sidecar)} is no sidecar of a model", REMEDY)
    seal = told.pop(SEAL, None)
    if seal != hash_json(told):
        why = "does not fit the rest" if seal else "is missing, as in one of an older release"
        what = f"{shown(sidecar)} is not as it was written: its {SEAL} {why}"
        raise WeightsError(what, f"{REMEDY}; or make both again with `dvc repro`")
    if told["sha256"] != sha256_file(model):
        raise WeightsError(f"{shown(model)} is not the model that {shown(sidecar)} describes", REMEDY)
    return told
