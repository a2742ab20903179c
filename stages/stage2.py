"""Stage 2: fine-tune the end of the backbone from stage 1's winner."""

import _checkout
from glaucoma.base.stage import command
from glaucoma.train.pool import FLAGS
from glaucoma.train.search_stage import stage2

if __name__ == "__main__":
    command(stage2, __doc__, **FLAGS)
