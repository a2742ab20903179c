"""Stage 3: fine-tune every layer from stage 2's winner."""

import _checkout
from glaucoma.pipeline.search_stage import stage3
from glaucoma.search.pool import FLAGS
from glaucoma.stage import command

if __name__ == "__main__":
    command(stage3, __doc__, **FLAGS)
