"""Model 4: train every layer of a network with a deeper head, from the backbone's weights."""

import _checkout
from glaucoma.pipeline.free_models import model4
from glaucoma.search.executors.choose import FLAGS
from glaucoma.stage import command

if __name__ == "__main__":
    command(model4, __doc__, **FLAGS)
