"""Count tables, mean colours and contact sheets of the data set, in reports/explore/; the report draws them."""

from pathlib import Path

import _checkout
from glaucoma.audit.exhibits import by_group, crops, sample, write_sheet
from glaucoma.audit.overview import appearance, base_table, by_fold, by_split, conditions, overlap
from glaucoma.base import paths
from glaucoma.base.files import read_csv, write_csv
from glaucoma.base.index import copies_note, named_sources, read_index
from glaucoma.base.params import Params
from glaucoma.base.stage import command


def main(params: Params) -> None:
    """Read data/index.csv and the photographs, write reports/explore/."""
    index, data, folder = read_index(paths.INDEX), params.data, paths.EXPLORE
    root = Path(data.root).expanduser()
    tables = {
        "condition_by_split": by_split(index),
        "conditions": conditions(index),
        "folds": by_fold(index),
        "base_table": base_table(index, paths.public(data.root)),
        "overlap": overlap(index),
        "appearance": appearance(index, root, data.max_megapixels, paths.LOOKS),
    }
    for name, table in tables.items():
        write_csv(folder / f"{name}.csv", table)
    several, cropped = len(named_sources(index)) > 1, data.crop != "none" and paths.CROPS.is_file()
    sheets = {
        "mosaic": sample(index, params.seed),
        "mosaic_split": by_group(index, "split", params.seed),
        "mosaic_source": by_group(index, "source", params.seed) if several else index.head(0),
        "crops": crops(read_csv(paths.CROPS), params.seed) if cropped else index.head(0),
    }
    for name, rows in sheets.items():
        write_sheet(rows, root, folder / name, data.max_megapixels)

    print(copies_note(index))
    print(tables["condition_by_split"].to_string(index=False))
    print(f"look next at {folder}/mosaic.png: normal eyes first, then abnormal ones")


if __name__ == "__main__":
    command(main, __doc__)
