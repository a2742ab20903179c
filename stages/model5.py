"""Model 5: train every layer of a larger backbone, from its weights."""

import _checkout
from glaucoma.pipeline.free_models import model5
from glaucoma.search.executors.choose import FLAGS
from glaucoma.stage import command

if __name__ == "__main__":
    command(model5, __doc__, **FLAGS)
