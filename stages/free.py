"""A free configuration (model 4, model 5): train every layer of a separate network, from the backbone's weights."""

import _checkout
from glaucoma import paths
from glaucoma.pipeline.free_models import free_model
from glaucoma.search.executors.choose import FLAGS
from glaucoma.stage import command

if __name__ == "__main__":
    command(free_model, __doc__, model={"choices": paths.FREE, "required": True, "help": "section of params"}, **FLAGS)
