"""Count tables, charts and sample photographs of the data set, in reports/explore/."""

from pathlib import Path

import _checkout
from glaucoma.base import paths
from glaucoma.base.files import write_csv
from glaucoma.base.index import read_index
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.report import explore as counts
from glaucoma.report.explore import (
    appearance,
    appearance_chart,
    folds_chart,
    overlap,
    overlap_chart,
    sizes_chart,
    splits_chart,
)
from glaucoma.report.mosaic import write_crops, write_mosaics


def main(params: Params) -> None:
    """Read data/index.csv and the photographs, write reports/explore/."""
    index = read_index(paths.INDEX)
    root, folder = Path(params.data.root).expanduser(), paths.EXPLORE
    write_csv(folder / "condition_by_split.csv", counts.by_split(index))
    write_csv(folder / "conditions.csv", counts.conditions(index))
    write_csv(folder / "folds.csv", counts.by_fold(index))
    write_csv(folder / "base_table.csv", counts.base_table(index, paths.public(params.data.root)))
    splits_chart(index, folder / "condition_by_split.png")
    folds_chart(index, folder / "folds.png")
    sizes_chart(index, folder / "sizes.png", params.data.image_size)
    write_csv(folder / "overlap.csv", overlap(index))
    overlap_chart(index, folder / "overlap.png")
    colours = appearance(index, root, params.data.max_megapixels)
    write_csv(folder / "appearance.csv", colours)
    appearance_chart(colours, folder / "appearance.png")
    write_mosaics(index, root, folder, params)
    write_crops(index, root, folder, params)

    print(counts.copies_note(index))
    print(counts.by_split(index).to_string(index=False))
    print(f"look next at {folder}/mosaic.png and the tables beside it")


if __name__ == "__main__":
    command(main, __doc__)
