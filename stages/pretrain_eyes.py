"""Eyes to pretrain on: render photographs of known cup, disc and rim; data/eyes.npy and data/eyes.csv."""

import _checkout
from glaucoma.pipeline.pretraining import render_eyes
from glaucoma.stage import command

if __name__ == "__main__":
    command(render_eyes, __doc__)
