"""Export a trained network with Keras to ONNX, SavedModel or TFLite, and open the exported file to compare it."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from glaucoma.base.errors import GlaucomaError, ParamsError
from glaucoma.model.portable import INSTALL, LOG_ODDS, Portable, Runner
from glaucoma.model.resampling import with_resizing
from glaucoma.model.runtime import keras, tensorflow
from glaucoma.model.scorer import with_log_odds

__all__ = ["SUFFIXES", "open_exported", "prepare", "write"]

SOME = 64  # pixels a side of what is passed through a graph that takes any size
SUFFIXES = {"onnx": ".onnx", "saved_model": ".saved_model", "tflite": ".tflite"}  # a SavedModel is a folder


class Signature(Runner):
    """A SavedModel or a TFLite graph, run by TensorFlow.

    Args:
        run: float32 (n, size, size, 3) in 0–255 → (n, classes).
        shape: of the input, (None, size, views · size, 3).
    """

    def __init__(self, run: Callable[[np.ndarray], np.ndarray], shape: tuple):
        self._run, self.input_shape, self.output_shape = run, shape, (None, 2)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        """Probabilities, float32 (n, classes), for float32 (n, size, size, 3) in 0–255."""
        return self._run(pixels)


def prepare(form: str) -> None:
    """Import the packages that write a format, so that a missing one is reported first.

    Raises:
        GlaucomaError: the packages that write ONNX are not installed.
        ParamsError: TensorFlow's formats are requested on another backend.
    """
    if form == "onnx":
        _onnx()
    elif keras.backend.backend() != "tensorflow":
        raise ParamsError(f"{form} is written by TensorFlow, and Keras runs on another", "unset KERAS_BACKEND")


def write(network: keras.Model, path: Path, form: str, card: dict[str, Any], *, resizes: bool = False) -> None:
    """Export with Keras; equal networks give equal ONNX and TFLite files (a SavedModel's protobuf varies).

    The constants of a Normalization layer are converted to arrays: the ONNX converter would treat tensors as inputs.

    Args:
        network: takes raw pixel values, float32 in 0–255. ONNX gets the log-odds of abnormal as a second output, which
            separates images whose probabilities are rounded to 1.
        path: a file, or for `saved_model` an empty folder.
        form: a key of `SUFFIXES`.
        card: `classes` is read. ONNX stores all of it as metadata: text, other values as JSON. The other formats do
            not store it.
        resizes: whether the graph takes photographs of any size, and squashes them itself.
    """
    for layer in network.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.mean, layer.variance = (keras.ops.convert_to_numpy(one) for one in (layer.mean, layer.variance))
    if resizes:
        network = with_resizing(network)
    if form == "onnx":
        network = with_log_odds(network, tuple(card["classes"]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sides = (side or SOME for side in network.input_shape[1:])
        network(np.zeros((1, *sides), "float32"))  # Keras exports only models that were called
        name = {"onnx": "onnx", "saved_model": "tf_saved_model", "tflite": "litert"}[form]
        network.export(path, format=name, verbose=False)
    if form == "onnx":
        settle(_onnx(), path, {key: text if isinstance(text, str) else json.dumps(text) for key, text in card.items()})


def open_exported(path: Path, form: str, shape: tuple) -> Runner:
    """Open a file written by `write`, ready to run."""
    if form == "onnx":
        return Portable(path)
    tf = tensorflow()
    if form == "saved_model":
        held = tf.saved_model.load(str(path))  # a signature does not keep its variables alive
        signature = held.signatures["serving_default"]
        (taken,), (given,) = signature.structured_input_signature[1], signature.structured_outputs

        def run(pixels: np.ndarray, _held: Any = held) -> np.ndarray:
            return signature(**{taken: tf.constant(pixels)})[given].numpy()

        return Signature(run, shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its package is to be renamed
        graph = tf.lite.Interpreter(model_path=str(path))
    (entry,), (leave,) = graph.get_input_details(), graph.get_output_details()

    def one_by_one(pixels: np.ndarray) -> np.ndarray:
        found = []
        for image in pixels:
            graph.set_tensor(entry["index"], image[None])
            graph.invoke()
            found.append(graph.get_tensor(leave["index"])[0])
        return np.stack(found)

    graph.allocate_tensors()
    return Signature(one_by_one, shape)


def settle(onnx: Any, path: Path, card: dict[str, str]) -> None:
    """Name inputs and outputs, number the rest, add metadata: the converter's names depend on earlier exports."""
    model = onnx.load(path)
    graph = model.graph
    graph.name, graph.doc_string = "glaucoma", ""
    del graph.value_info[:]  # intermediate shapes, under arbitrary names
    outputs = dict(zip((one.name for one in graph.output), ("probability", LOG_ODDS), strict=True))
    names = {graph.input[0].name: "pixels", **outputs, "": ""}
    flat = not any(entry.HasField("g") or entry.graphs for node in graph.node for entry in node.attribute)
    for number, node in enumerate(graph.node):
        if flat:
            node.name = f"{node.op_type}_{number}"
            for name in (*node.input, *node.output):
                names.setdefault(name, f"t{len(names)}")
        for side in (node.input, node.output):
            side[:] = [names.get(name, name) for name in side]
    constants = [onnx.TensorProto.FromString(one.SerializeToString()) for one in graph.initializer]
    for one in constants:
        one.name = names.get(one.name, one.name)
    del graph.initializer[:]
    graph.initializer.extend(sorted(constants, key=lambda one: one.name))
    for end in (graph.input[0], *graph.output):
        end.name = names[end.name]
        for dim, named in zip(end.type.tensor_type.shape.dim, ("batch", "height", "width"), strict=False):
            if named == "batch" or not dim.HasField("dim_value"):
                dim.dim_param = named
    onnx.helper.set_model_props(model, card)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _onnx() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # tf2onnx uses a deprecated name of numpy
            import onnx
            import onnxruntime  # noqa: F401 - to fail before spending minutes
            import tf2onnx
    except ImportError as error:
        raise GlaucomaError(f"{error.name or 'onnx'} is not installed, which writing ONNX needs", INSTALL) from None
    logging.getLogger(tf2onnx.__name__).setLevel(logging.ERROR)
    return onnx
