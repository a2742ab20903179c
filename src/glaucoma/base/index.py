"""Read index.csv, the table that all stages share: every file once per fold, with split, class and content id."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from glaucoma.base.errors import DataError, many
from glaucoma.base.files import read_csv

__all__ = [
    "ABNORMAL",
    "COLUMNS",
    "CONDITIONS",
    "KNOWN",
    "NORMAL",
    "SPLITS",
    "THRESHOLD",
    "copies_note",
    "distinct",
    "named_sources",
    "read_index",
]

COLUMNS = ("path", "fold", "split", "condition", "image")  # then those of KNOWN that are known, then width, height
KNOWN = ("patient", "eye", "source", "age", "sex", "camera")
SPLITS = ("train", "test", "valid")
NORMAL, ABNORMAL = CONDITIONS = ("normal", "abnormal")  # order of the softmax; abnormal is the positive class
THRESHOLD = 0.0  # log-odds of abnormal (probability 0.5); a tie counts as abnormal: missed glaucoma costs more
TYPES = {
    **dict.fromkeys(("path", "split", "condition", "image", *KNOWN), str),
    "fold": "int64",
    **dict.fromkeys(("width", "height"), "Int64"),
}


def read_index(path: Path | str) -> pd.DataFrame:
    """Read index.csv.

    Returns:
        `path`, `split`, `condition`, `image` and, if known, those of `KNOWN` as str ("" for a row without one); `fold`
        int64; `width`, `height` Int64 (NA if the header could not be read).

    Raises:
        DataError: the file does not exist or is not an index.
    """
    try:
        # Only sizes can be missing: an empty patient stays text
        table = read_csv(path, dtype=TYPES, na_values={"width": [""], "height": [""]})
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", "make it with `dvc repro index`") from None
    except ValueError as error:  # pandas' own parsing errors are ValueErrors
        raise DataError(f"{path} is no index: {error}", "make it again with `dvc repro -f index`") from error
    missing = [name for name in (*COLUMNS, "width", "height") if name not in table]
    if missing:
        raise DataError(f"{path} lacks the columns {', '.join(missing)}", "make it again with `dvc repro -f index`")
    if table.empty:
        raise DataError(f"{path} lists no file", "make it again with `dvc repro -f index`")
    return table


def distinct(index: pd.DataFrame) -> pd.DataFrame:
    """The first row of each distinct image, sorted by content id."""
    return index.sort_values(["image", "path"], kind="stable").drop_duplicates("image").reset_index(drop=True)


def named_sources(index: pd.DataFrame) -> pd.Series:
    """Distinct images of each source, the largest first; `unknown` where a row names none."""
    images = index.assign(source=index["source"].replace("", "unknown") if "source" in index else "unknown")
    names = images.drop_duplicates(["image", "source"])["source"]
    return names.value_counts().sort_index().sort_values(ascending=False, kind="stable")


def copies_note(index: pd.DataFrame) -> str:
    """How many images the listed files are; the report took copies of an image for samples."""
    files, images = index["path"].nunique(), index["image"].nunique()
    folds = index["fold"].nunique()
    text = f"{many(files, 'file')} = {many(images, 'distinct image')} in {many(folds, 'fold')}"
    if len(index) > files:
        text += f", each file listed {len(index) / files:.3g} times"
    unreadable = index.loc[index["width"].isna(), "image"].nunique()
    return text + (f"; {many(unreadable, 'image')} unreadable" if unreadable else "")
