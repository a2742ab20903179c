"""Stage 3: fine-tune every layer from stage 2's winner."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.train.pool import FLAGS
from glaucoma.train.search_stage import stage3

if __name__ == "__main__":
    command(stage3, __doc__, **FLAGS)
