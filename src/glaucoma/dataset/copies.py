"""Which images are one photograph, as the audit found: what is a copy of what was trained on is no new evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv

__all__ = ["COPIES", "read_clusters"]

COPIES = paths.AUDIT / "duplicates.csv"


def read_clusters(file: Path = COPIES) -> dict[str, str]:
    """The photograph of each image that has copies, by content id; images that stand alone are not in it.

    Raises:
        DataError: the audit's table is missing or damaged.
    """
    try:
        table = read_csv(file, usecols=["first", "second", "cluster"], dtype=str)
    except FileNotFoundError:
        raise DataError(f"{file} does not exist", "make it with `dvc repro audit`") from None
    except ValueError as error:
        raise DataError(f"{file} is no table of copies: {error}", "make it again: `dvc repro -f audit`") from error
    ends = np.concatenate([table["first"], table["second"]])
    return dict(zip(ends.tolist(), np.tile(table["cluster"], 2).tolist(), strict=True))
