"""Hash everything that determines a result (arrays, weights, code): equal identities mean equal results."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np

from glaucoma.base.files import hash_arrays, hash_json
from glaucoma.dataset.splits import Split
from glaucoma.model import augmentation, batch_norm, batches, cut, keras_internals, network, optimizers, scorer
from glaucoma.model.keras_internals import inputs_of, source
from glaucoma.model.runtime import describe, keras, threads
from glaucoma.train import checkpoint, fitting, heads
from glaucoma.train import trainer as training

__all__ = ["code_version", "hash_examples", "hash_model"]


@cache
def code_version() -> str:
    """Hash of the training code, the versions of its libraries and the number of threads."""
    modules: tuple[ModuleType, ...] = (
        network,
        optimizers,
        cut,
        augmentation,
        batch_norm,
        scorer,
        batches,
        keras_internals,
        checkpoint,
        fitting,
        heads,
        training,
    )
    return hash_json([describe(), threads(), [inspect.getsource(module) for module in modules]])


def hash_model(model: keras.Model) -> str:
    """Hash of a model's graph, its trainable variables' paths and the values of all variables."""
    values = [keras.ops.convert_to_numpy(variable.value) for variable in model.variables]
    trained = [variable.path for variable in model.trainable_variables]
    return hash_json([_graph(model), trained, hash_arrays(values)])


def hash_examples(pixels: np.ndarray, splits: Mapping[str, Split]) -> str:
    """Hash of a trial's data: names, pixels and labels of the images of each split, in order."""
    parts = [[name, split.images, hash_arrays([pixels[split.rows], split.abnormal])] for name, split in splits.items()]
    return hash_json(parts)


def _graph(model: keras.Model) -> list:
    """Layers with their settings and inputs, without generated names, which depend on the models built before."""
    order = {id(layer): position for position, layer in enumerate(model.layers)}
    graph = []
    for layer in model.layers:
        settings: Any = {k: v for k, v in layer.get_config().items() if k not in ("name", "seed", "trainable")}
        if isinstance(layer, keras.Model):
            settings = _graph(layer)
        sources = [order.get(id(source(tensor))) for tensor in inputs_of(layer)]
        graph.append([type(layer).__name__, repr(settings), sources])
    return graph
