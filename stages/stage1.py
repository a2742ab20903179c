"""Stage 1: search the head's hyperparameters on the frozen backbone."""

import _checkout
from glaucoma.pipeline.search_stage import stage1
from glaucoma.search.pool import FLAGS
from glaucoma.stage import command

if __name__ == "__main__":
    command(stage1, __doc__, **FLAGS)
