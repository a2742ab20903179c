"""Folds kept in a file: written at each draw, and used instead of a draw where the folder of images holds it.

`data/folds.csv`, copied beside the photographs, freezes the folds: whatever the seed, the parameters or the version of
scikit-learn, the same images are then in the same splits.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv
from glaucoma.base.index import CONDITIONS, SPLITS
from glaucoma.base.names import listed, many, shown
from glaucoma.dataset.folds import groups_of

__all__ = ["FROZEN", "apply_folds", "find_frozen", "folds_table"]

FROZEN = "folds.csv"
COLUMNS = ["image", "fold", "split"]


def folds_table(index: pd.DataFrame) -> pd.DataFrame:
    """What is kept of an index: `image` (content id, so that renaming does no harm), `fold`, `split`; sorted."""
    return index[COLUMNS].drop_duplicates().sort_values(COLUMNS, ignore_index=True)


def find_frozen(root: Path) -> Path | None:
    """The frozen folds in a folder of images, or None."""
    return root / FROZEN if (root / FROZEN).is_file() else None


def apply_folds(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Repeat a listing once per fold, with the splits of a frozen file.

    Args:
        table: `image`, `condition` and perhaps `patient`, one row per file.
        path: as `folds_table` was written.

    Returns:
        `table` with `fold` and `split`, in the order that `draw_folds` gives.

    Raises:
        DataError: the file does not fit the images, parts a patient, or has a split without a class.
    """
    remedy = f"remove {shown(path)} to have folds drawn, or freeze them again"
    try:
        kept = read_csv(path, dtype={"image": str, "fold": "int64", "split": str})[COLUMNS]
    except (ValueError, KeyError) as error:  # pandas' own parsing errors are ValueErrors
        raise DataError(
            f"{shown(path)} holds no folds with the columns {', '.join(COLUMNS)}: {error}", remedy
        ) from error
    strange = sorted(set(kept["split"]) - set(SPLITS))
    if strange:
        raise DataError(f"{shown(path)} has splits named {', '.join(map(shown, strange))}", remedy)
    if kept.duplicated(["image", "fold"]).any():
        raise DataError(f"{shown(path)} has an image in two splits of one fold", remedy)
    folds = sorted(set(kept["fold"]))
    whole = pd.concat([table.assign(fold=fold) for fold in folds], ignore_index=True)
    whole = whole.merge(kept, on=["image", "fold"], how="left")
    new = whole.loc[whole["split"].isna(), "path"].unique()
    gone = set(kept["image"]) - set(table["image"])
    if len(new) or gone:
        faults = listed([f"{shown(name)} is not in it" for name in sorted(new)])
        faults += f"\n    {many(len(gone), 'image')} of it are no longer there" if gone else ""
        raise DataError(f"{shown(path)} was made for other images:{faults}", remedy)
    groups = pd.Series(groups_of(table), index=table["path"])
    parted = whole.assign(group=whole["path"].map(groups)).groupby(["fold", "group"])["split"].nunique() > 1
    if parted.any():
        raise DataError(f"{shown(path)} has {many(int(parted.sum()), 'patient')} on two sides of a fold", remedy)
    counts = whole.groupby(["fold", "split"])["condition"].nunique()
    if len(counts) < len(SPLITS) * len(folds) or (counts < len(CONDITIONS)).any():
        raise DataError(f"{shown(path)} has splits that lack a class", remedy)
    return whole
