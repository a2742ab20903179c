"""Stage 2: fine-tune the end of the backbone from stage 1's winner."""

import _checkout
from glaucoma.pipeline.search_stage import stage2
from glaucoma.search.pool import FLAGS
from glaucoma.stage import command

if __name__ == "__main__":
    command(stage2, __doc__, **FLAGS)
