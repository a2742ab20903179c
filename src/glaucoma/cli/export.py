"""`glaucoma export`: write a trained model for other programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from glaucoma.base.errors import ParamsError, many, shown
from glaucoma.base.files import check_place
from glaucoma.cli.predict import by_name, number

__all__ = ["add"]

FORMATS = ("onnx", "saved_model", "tflite")


def add(commands: argparse._SubParsersAction) -> None:
    """Register `export`."""
    about = "write a trained model for other programs: ONNX, TensorFlow's SavedModel, or TFLite"
    more = (
        "Preprocessing is part of the graph; classes, threshold, input size and crop are in the JSON beside it (in "
        "the folder of a SavedModel). The file is written only if its predictions are within 1e-4 of Keras'. "
        "`glaucoma predict FILE.onnx` runs ONNX without Keras and TensorFlow; writing ONNX needs "
        "pip install 'glaucoma[onnx]'."
    )
    export = commands.add_parser("export", help=about, description=f"{about[0].upper()}{about[1:]}. {more}")
    export.add_argument(
        "model", metavar="MODEL", help="a .keras file, a folder (every model in it), or a name in models/"
    )
    export.add_argument("--format", choices=FORMATS, default="onnx", help="default: %(default)s")
    where = "file to write, with the format's suffix, or a folder (default: beside MODEL)"
    export.add_argument("--out", type=Path, metavar="FILE|DIR", help=where)
    what = "decision threshold for the metadata: a number, 0–1, or a name as in `predict` (default: the model's own)"
    export.add_argument("--threshold", metavar="T", help=what)
    images = "photographs to compare on, at most 200 of them (default: data/pixels.npy, or rendered eyes)"
    export.add_argument("--check", type=Path, metavar="DIR", help=images)
    what = "make resizing a part of the graph, which then takes photographs of any size (ONNX and SavedModel)"
    export.add_argument("--resize", action="store_true", help=what)
    export.set_defaults(work=_export)


def _export(given: argparse.Namespace) -> None:
    """Export each model of that name.

    Raises:
        ParamsError: a threshold that cannot be used, or one file for several models.
        WeightsError, DataError: as `export_model`.
    """
    limit = None if given.threshold is None else number(given.threshold)
    from glaucoma.predict.inference import find_models

    models = find_models(given.model)
    if given.threshold is not None and limit is None:
        limit = by_name(given.threshold, models)
    suffix = f".{given.format}"
    one_file = given.out is not None and given.out.suffix == suffix
    if one_file and len(models) > 1:
        raise ParamsError(f"--out is one file for {many(len(models), 'model')}", "give a folder")
    place = given.out or models[0].parent
    if not (one_file and given.format == "saved_model"):  # whose former folder may be replaced
        check_place(place, "--out", folder=not one_file)
    from glaucoma.predict.conversion import export_model

    for model in models:
        out = given.out if one_file else (given.out or model.parent) / f"{model.stem}{suffix}"
        parity = export_model(model, out, form=given.format, threshold=limit, check=given.check, resizes=given.resize)
        agree = f"predictions within {parity.difference:.1e} of Keras' on {many(parity.images, 'image')} of {parity.of}"
        print(f"{shown(out)}: {_bytes(out) / 1e6:.1f} MB, {agree}")
        if parity.prepared is not None:
            print(f"  prepared from the files as its sidecar says: within {parity.prepared:.1e} of `glaucoma predict`")


def _bytes(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
