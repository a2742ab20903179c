"""A free configuration (model 4, model 5): train every layer of a separate network, from the backbone's weights."""

import _checkout
from glaucoma.base import paths
from glaucoma.base.stage import command
from glaucoma.train.pool import FLAGS
from glaucoma.train.search_stage import free_model

if __name__ == "__main__":
    command(free_model, __doc__, model={"choices": paths.FREE, "required": True, "help": "section of params"}, **FLAGS)
