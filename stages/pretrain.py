"""Pretraining: train a backbone to measure rendered eyes; models/pretrained.keras and its half-precision file."""

import _checkout
from glaucoma.pipeline.pretraining import pretrain
from glaucoma.stage import command

if __name__ == "__main__":
    command(pretrain, __doc__)
