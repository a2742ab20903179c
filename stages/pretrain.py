"""Pretraining: train a backbone to measure rendered eyes of known cup, disc and rim, to start from."""

import _checkout
from glaucoma.pipeline.pretraining import pretrain
from glaucoma.stage import command

if __name__ == "__main__":
    command(pretrain, __doc__, backbone={"required": True, "metavar": "NAME", "help": "e.g. EfficientNetB0"})
