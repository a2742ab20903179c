"""Pretraining: train a backbone to measure cup, disc and rim of rendered eyes, as starting weights."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.train.pretraining import pretrain

if __name__ == "__main__":
    command(pretrain, __doc__, backbone={"required": True, "metavar": "NAME", "help": "e.g. EfficientNetB0"})
