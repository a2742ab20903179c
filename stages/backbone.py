"""Backbone: build the pretrained part of the network and store it as one hashed file."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.model.backbones import make_backbone

if __name__ == "__main__":
    command(make_backbone, __doc__)
