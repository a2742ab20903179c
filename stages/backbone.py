"""Backbone: build the pretrained part of the network and store it as one hashed file."""

import _checkout
from glaucoma.pipeline.backbone_stage import make_backbone
from glaucoma.stage import command

if __name__ == "__main__":
    command(make_backbone, __doc__)
