"""Pretraining: train a backbone to measure rendered eyes of known cup, disc and rim, to start from."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.train.pretraining import pretrain

if __name__ == "__main__":
    command(pretrain, __doc__, backbone={"required": True, "metavar": "NAME", "help": "e.g. EfficientNetB0"})
