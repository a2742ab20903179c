"""List the images of data.root: path, fold, split, class and content id of every file."""

from pathlib import Path

import _checkout
from glaucoma.base import paths
from glaucoma.base.files import write_csv, write_json
from glaucoma.base.params import Params
from glaucoma.base.stage import command
from glaucoma.dataset.folds import folds_table, require_folds
from glaucoma.dataset.intake import build_index


def main(params: Params) -> None:
    """Write the index and its counts."""
    index, metrics = build_index(
        Path(params.data.root).expanduser(),
        layout=params.data.layout,
        classes=params.data.classes,
        n_folds=params.crossval.n_folds,
        held_out=params.crossval.held_out,
        seed=params.seed,
        max_megapixels=params.data.max_megapixels,
        kept=paths.LOOKS,
        patients=params.data.patients,
        left_out=paths.LEFT_OUT,
    )
    # Decides nothing of what is written, so that crossval.folds is no parameter of this stage
    require_folds(params, sorted(set(index["fold"])), f"of layout {metrics['layout']}")
    write_csv(paths.INDEX, index)
    write_csv(paths.FOLDS, folds_table(index))
    write_json(paths.METRICS / "index.json", metrics)


if __name__ == "__main__":
    command(main, __doc__)
