"""Decode every distinct image once and resize it to a square of data.image_size."""

from pathlib import Path

import _checkout
from glaucoma.base import paths
from glaucoma.base.index import read_index
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.photos.pixels import write_pixels


def main(params: Params) -> None:
    """Write the array of pixels, the content id of each of its rows, and their crop boxes."""
    write_pixels(
        read_index(paths.INDEX),
        Path(params.data.root).expanduser(),
        paths.PIXELS,
        paths.PIXELS_TABLE,
        size=params.data.image_size,
        max_megapixels=params.data.max_megapixels,
        crop=params.data.crop,
        boxes_file=paths.CROPS,
        drop_unreadable=params.data.unreadable == "drop",
    )


if __name__ == "__main__":
    command(main, __doc__)
