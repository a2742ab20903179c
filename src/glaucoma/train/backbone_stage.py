"""Save the pretrained backbone to a file, so that later stages depend on its hash."""

from __future__ import annotations

from glaucoma.base import paths
from glaucoma.base.backbone_table import BACKBONES, weights_from
from glaucoma.base.files import sha256_file
from glaucoma.base.params import Params, views_of
from glaucoma.base.progress import say
from glaucoma.model.artifacts import save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.model.runtime import describe, fresh

__all__ = ["make_backbone"]


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
