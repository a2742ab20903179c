"""Decode every distinct image once and resize it to a square of data.image_size."""

from pathlib import Path

import _checkout
from glaucoma import paths
from glaucoma.data.index import read_index
from glaucoma.data.pixels import write_pixels
from glaucoma.params import Params
from glaucoma.stage import command


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
