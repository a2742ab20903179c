"""Render the sample: synthetic fundus photographs in the report's ten-fold tree, and their true measures."""

import _checkout
from glaucoma.base import paths
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.synthetic.tree import make_sample


def main(params: Params) -> None:
    """Write data/sample."""
    make_sample(paths.SAMPLE, images=params.sample.images, size=params.sample.size, seed=params.seed)


if __name__ == "__main__":
    command(main, __doc__)
