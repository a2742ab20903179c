"""Stage 1: search the head's hyperparameters on the frozen backbone."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.train.pool import FLAGS
from glaucoma.train.search_stage import stage1

if __name__ == "__main__":
    command(stage1, __doc__, **FLAGS)
