"""Cut a network into a frozen trunk and a trained tail that share its layers.

The trunk always runs in inference mode: no stochastic depth, no batch statistics. Its outputs therefore do not change
while the tail is trained, and are computed only once.
"""

from __future__ import annotations

from dataclasses import dataclass

from glaucoma.base.backbone_table import in_block
from glaucoma.base.errors import ParamsError
from glaucoma.base.params import Params
from glaucoma.model.keras_internals import inputs_of, inputs_to, source
from glaucoma.model.network import HEAD
from glaucoma.model.runtime import keras

__all__ = ["Cut", "before_statistics", "cut_all", "cut_head", "cut_last", "cut_of", "through_trunk"]


@dataclass(frozen=True)
class Cut:
    """A network in two parts.

    Attributes:
        network: the whole network, (batch, size, size, 3) → (batch, 2).
        trunk: the frozen part, from the network's input to the tensors that cross the cut; None if nothing is frozen.
        tail: the trained part, from those tensors to the output; the network itself if nothing is frozen.
    """

    network: keras.Model
    trunk: keras.Model | None
    tail: keras.Model


def cut_head(network: keras.Model) -> Cut:
    """Train the layers after the pooling; the backbone and the pooling, which has no weights, are the trunk."""
    first = _position(network, HEAD[0]) + 1
    return _split(network, first, frozen=set())


def cut_last(network: keras.Model, layers: int | str) -> Cut:
    """Train the head and the end of the backbone, except batch normalisation (the report's rule).

    Args:
        network: a backbone with the report's head.
        layers: number of layers of the backbone, or the name of the first block to train.

    Raises:
        ParamsError: the backbone has no such block.
    """
    pool = _position(network, HEAD[0])
    first = max(pool - layers, 0) if isinstance(layers, int) else _block(network.layers[:pool], layers)
    tail_of_backbone = network.layers[first:pool]
    frozen = {layer.name for layer in tail_of_backbone if isinstance(layer, keras.layers.BatchNormalization)}
    return _split(network, first, frozen)


def cut_all(network: keras.Model, batch_norm: str = "trained") -> Cut:
    """Train every layer.

    Args:
        network: a backbone with the report's head.
        batch_norm: `trained`, or `frozen`: the backbone's batch normalisation stays in inference mode, with the
            statistics, scale and shift that its weights came with. Keras' guide advises this for fine-tuning.
    """
    pool = _position(network, HEAD[0])
    for place, layer in enumerate(network.layers):
        keeps = batch_norm == "frozen" and place < pool and isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = not keeps
    return Cut(network, None, network)


def cut_of(stage: str, network: keras.Model, params: Params) -> Cut:
    """Cut a network for a search: stage 1 trains the head, stage 2 also the end of the backbone, others every layer.

    Stage 3 may leave out the backbone's batch normalisation (`stage3.batch_norm`).

    Raises:
        ParamsError: the backbone has no block `stage2.unfreeze_last`.
    """
    if stage == "stage1":
        return cut_head(network)
    if stage == "stage2":
        return cut_last(network, params.stage2.unfreeze_last)
    return cut_all(network, params.stage3.batch_norm if stage == "stage3" else "trained")


def before_statistics(model: keras.Model) -> tuple[keras.Model | None, keras.Model]:
    """The part of a model up to the head's pooling, and the rest, if batch normalisation is trained in the rest alone.

    Its statistics and all predictions with them then take one pass of the images through the first part.

    Returns:
        None and the model itself if it has no such part.
    """
    after, tensor = set(), model.outputs[0]
    while (layer := source(tensor)).name != HEAD[0]:
        after.add(layer.name)
        before = inputs_to(tensor)
        if len(before) != 1:
            return None, model
        (tensor,) = before
    others = [one for one in model.layers if one.name not in after]
    if any(isinstance(one, keras.layers.BatchNormalization) and one.trainable for one in others):
        return None, model
    return keras.Model(model.inputs, tensor), keras.Model(tensor, model.outputs[0])


def through_trunk(cut: Cut) -> keras.Model:
    """The whole network as one model to train from pixels, with its trunk in inference mode.

    `trunk(x, training=False)` is not enough: in a functional model, the outer call's mode overrides it.
    """
    assert cut.trunk is not None
    pixels = keras.Input(cut.trunk.input_shape[1:], dtype="float32")
    return keras.Model(pixels, cut.tail(_Inference(cut.trunk)(pixels)))


class _Inference(keras.layers.Layer):
    """Runs a model in inference mode, regardless of the mode of the call."""

    def __init__(self, model: keras.Model):
        super().__init__(trainable=False)
        self.model = model

    def call(self, inputs):
        return self.model(inputs, training=False)


def _split(network: keras.Model, first: int, frozen: set[str]) -> Cut:
    if all(isinstance(layer, keras.layers.InputLayer) for layer in network.layers[:first]):
        first = 0
    tail_layers = network.layers[first:]
    for layer in network.layers[:first]:
        layer.trainable = False
    for layer in tail_layers:
        layer.trainable = layer.name not in frozen
    inside = set(map(id, tail_layers))
    crossing = {}
    for layer in tail_layers:
        for tensor in inputs_of(layer):
            if id(source(tensor)) not in inside:
                crossing[id(tensor)] = tensor
    if not crossing:
        return Cut(network, None, network)
    tensors = list(crossing.values())
    single = tensors[0] if len(tensors) == 1 else tensors
    return Cut(network, keras.Model(network.inputs, single), keras.Model(single, network.outputs[0]))


def _block(layers: list[keras.Layer], block: str) -> int:
    """The position of a block's first layer."""
    for i, layer in enumerate(layers):
        if in_block(layer.name, block):
            return i
    raise ParamsError(
        f"stage2.unfreeze_last is {block}, and the backbone has no such block",
        f"name the block that a layer's name begins with, e.g. of {layers[-1].name}, or give a number of layers",
    )


def _position(network: keras.Model, name: str) -> int:
    return next(i for i, layer in enumerate(network.layers) if layer.name == name)
