"""Build a backbone of the table and load its weights: random, ImageNet's, or from a file.

The graph is the same for all weights: it takes raw RGB values and includes the preprocessing.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import h5py
import numpy as np

from glaucoma.base import paths
from glaucoma.base.backbone_table import BACKBONES, Backbone, nearest, recognise, weights_from
from glaucoma.base.errors import ParamsError, WeightsError, one_line
from glaucoma.base.files import sha256_file
from glaucoma.base.params import Params, views_of
from glaucoma.base.progress import say
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.efficientnet_lite import WIDTHS, build_lite, take_package
from glaucoma.model.runtime import describe, fresh, keras

__all__ = ["build_backbone", "make_backbone"]

PREPARE = "prepare"  # name of the layer for preprocessing that Keras leaves to the caller


def build_backbone(name: str, image_size: int, weights: str, views: int = 1) -> keras.Model:
    """Build a backbone without top and load its weights.

    Args:
        name: a key of `BACKBONES`.
        image_size: pixels per side of each square view of the RGB input, float32 in 0–255.
        weights: `none` (random, from the current seed), `imagenet`, or the path of a file: HDF5 as written by
            `keras.applications`, `.weights.h5`, or `.keras`.
        views: squares side by side in the input, ≥ 1.

    Raises:
        ParamsError: unknown backbone, or images too small for it.
        WeightsError: the file is missing, damaged or of another architecture; for `imagenet`, there is no internet or
            the package with the weights is missing.
    """
    if name not in BACKBONES:
        raise ParamsError(f"there is no backbone {name}", f"choose one of: {', '.join(nearest(name))}")
    row = BACKBONES[name]
    if image_size < row.smallest_size:
        raise ParamsError(
            f"{name} cannot take images of {image_size} pixels a side",
            f"set data.image_size to {row.smallest_size} or more; its weights were trained at {row.native_size}",
        )
    backbone = _graph(name, (image_size, views * image_size, 3))
    if weights == "imagenet" and row.package:
        take_package(name, backbone)
    elif weights == "imagenet":
        _take_file(name, backbone, _imagenet_file(row))
    elif weights != "none":
        _take_file(name, backbone, Path(weights).expanduser())
    return backbone


def make_backbone(params: Params) -> None:
    """Build the backbone, load its weights and save it; its metadata records their source and the network's input.

    Stages that depend on its files run again when the image size or the crop changes.

    Raises:
        WeightsError: the weights are not available or do not fit.
    """
    fresh(params.seed)
    name, weights = params.backbone.name, params.backbone.weights
    backbone = build_backbone(name, params.data.image_size, weights, len(views_of(params.data.crop)))
    source = {"weights": paths.public(weights), **weights_from(name, weights)}
    if weights == "imagenet" and BACKBONES[name].package:
        source["weights_sha256"] = BACKBONES[name].imagenet_hash
    elif file := params.backbone.file:
        source["weights_sha256"] = sha256_file(file)
    given = {"size": params.data.image_size, "crop": params.data.crop}
    about = {"backbone": name, "input": given, **source, "versions": describe(), "seed": params.seed}
    save_model(backbone, paths.BACKBONE, about)
    say(f"backbone: {name}, {backbone.count_params():,} parameters, weights {source['weights']}: {source['origin']}")


def _graph(name: str, shape: tuple[int, int, int]) -> keras.Model:
    """The backbone's plain graph, including preprocessing."""
    row = BACKBONES[name]
    if row.scale is None:
        return getattr(keras.applications, name)(include_top=False, weights=None, input_shape=shape)
    inputs = keras.Input(shape)
    prepared = keras.layers.Rescaling(list(row.scale), list(row.offset), name=PREPARE)(inputs)
    if name in WIDTHS:
        return build_lite(name, prepared)
    return getattr(keras.applications, name)(include_top=False, weights=None, input_tensor=prepared)


def _imagenet_file(row: Backbone) -> Path:
    """Keras' own weights in Keras' own cache, downloaded if missing."""
    cache = Path(os.environ.get("KERAS_HOME", "~/.keras")).expanduser()
    file = row.imagenet_url.rpartition("/")[2]
    try:
        found = keras.utils.get_file(
            file, row.imagenet_url, cache_dir=cache, cache_subdir="models", file_hash=row.imagenet_hash
        )
    except Exception as error:  # any failure of the download: no route, a proxy, a broken file
        raise WeightsError(
            f"backbone.weights is imagenet, and {row.imagenet_url} could not be fetched: {one_line(error)}",
            f"on a machine without internet put that file at {cache / 'models' / file}, set backbone.weights to a path "
            "or to none, or set backbone.name to EfficientNetLite0, whose ImageNet weights were installed with this",
        ) from None
    return Path(found)


def _take_file(name: str, backbone: keras.Model, path: Path) -> None:
    remedy = f"set backbone.weights to a file of {name} without top (HDF5, .weights.h5 or .keras), or to none"
    if not path.is_file():
        what = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise WeightsError(f"backbone.weights: {path} {what}", remedy)
    held: list[str] = []  # layer names read from the file so far
    try:
        take = _take_keras if path.suffix == ".keras" else _take_hdf5
        scale = take(BACKBONES[name], backbone, path, held)
    except WeightsError as error:
        raise WeightsError(f"backbone.weights: {error.found}", remedy) from None
    except OSError as error:
        raise WeightsError(f"backbone.weights: {path} is damaged or not HDF5: {one_line(error)}", remedy) from None
    except Exception as error:  # Keras' readers raise many kinds of errors on foreign files
        why = _what_it_is(name, held) or one_line(error)
        raise WeightsError(f"backbone.weights: {path} does not fit {name}: {why}", remedy) from None
    if not all(np.isfinite(values).all() for values in backbone.get_weights()):
        raise WeightsError(f"backbone.weights: {path} holds values that are no finite numbers", remedy)
    if scale is not None:
        _fold(backbone, scale)


def _what_it_is(name: str, layers: list[str]) -> str:
    """A hint from the layer names of a file that does not fit; empty if there is none."""
    found = recognise(layers)
    if found and name not in found:
        return f"it looks like {' or '.join(found)}"
    if {"predictions", "probs", "fc1000", "head_softmax"} & set(layers):
        return "it includes the classification layer, which must be left out"
    return ""


def _take_keras(row: Backbone, backbone: keras.Model, path: Path, held: list[str]) -> np.ndarray | None:
    """Copy the weights of a saved model, layer by layer; return the scale of its extra Rescaling, if any."""
    source = load_model(path)
    held += [layer.name for layer in source.layers]
    own, given = (list(filter(_is_kept, model.layers)) for model in (backbone, source))
    extra = [layer for layer in source.layers if isinstance(layer, keras.layers.Rescaling) and layer.name != PREPARE]
    extra = extra[
        sum(isinstance(layer, keras.layers.Rescaling) for layer in backbone.layers if layer.name != PREPARE) :
    ]
    kinds, wanted = ([type(layer).__name__ for layer in layers] for layers in (given, own))
    if kinds != wanted or (extra and row.imagenet_scale is None):
        raise ValueError(f"it has {len(source.layers)} layers, of other kinds than the {len(backbone.layers)} expected")
    for to, of in zip(own, given, strict=True):
        to.set_weights(of.get_weights())
    return np.asarray(extra[0].scale, "float32") if extra else None


def _is_kept(layer: keras.Layer) -> bool:
    return not isinstance(layer, keras.layers.Rescaling)


def _take_hdf5(row: Backbone, backbone: keras.Model, path: Path, held: list[str]) -> np.ndarray | None:
    """Load an HDF5 file; return the scale to fold if it was made for the graph with an extra Rescaling."""
    with h5py.File(path) as file:  # separates damaged files from other architectures
        layers = file.get("model_weights") or file.get("layers") or file
        held += layers
        plain = sum(isinstance(layer, keras.layers.Rescaling) for layer in backbone.layers)
        extra = row.imagenet_scale is not None and sum(layer.startswith("rescaling") for layer in layers) > plain
    kind = "md5" if len(row.imagenet_hash) == 32 else "sha256"
    digest = hashlib.new(kind, path.read_bytes(), usedforsecurity=False).hexdigest()
    backbone.load_weights(path)
    is_keras_own = row.imagenet_scale is not None and digest == row.imagenet_hash
    return np.asarray(row.imagenet_scale, "float32") if extra or is_keras_own else None


def _fold(backbone: keras.Model, scale: np.ndarray) -> None:
    """Fold a Rescaling after the normalisation into the normalisation's variance.

    `keras.applications` adds one for its own EfficientNet weights: it divides the normalised input again, by
    sqrt(stddev). (x - mean) / sqrt(variance * stddev) is the same function on the plain graph, so all weights share one
    graph.
    """
    normalization = next(layer for layer in backbone.layers if isinstance(layer, keras.layers.Normalization))
    mean, variance, *rest = normalization.get_weights()
    normalization.set_weights([mean, variance / np.square(scale), *rest])
    normalization.finalize_state()
