"""Eyes to pretrain on: render photographs of known cup, disc and rim; data/eyes.npy and data/eyes.csv."""

import _checkout
from glaucoma import paths
from glaucoma.data.sample.eyes import write_eyes
from glaucoma.params import Params
from glaucoma.stage import command


def main(params: Params) -> None:
    """Write the eyes and what is true of them."""
    own = params.pretrain
    write_eyes(paths.EYES, paths.EYES_TABLE, images=own.images, size=own.image_size, seed=params.seed)


if __name__ == "__main__":
    command(main, __doc__)
