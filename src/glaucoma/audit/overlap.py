"""A check of the audit: an image that several folds test on counts several times in what is pooled over folds."""

from __future__ import annotations

import pandas as pd

from glaucoma.base.names import many, shown

__all__ = ["overlaps"]


def overlaps(index: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Images in the test sets of several folds.

    Args:
        index: as `read_index` gives it.

    Returns:
        Per combination of folds: where, how many distinct images, and what is wrong there.
    """
    tests = index[index["split"] == "test"].sort_values(["fold", "path"])
    folds = tests.groupby("image")["fold"].agg(lambda there: tuple(sorted(set(there))))
    folds = folds[folds.map(len) > 1]
    first = tests.drop_duplicates("image").set_index("image")["path"]
    return [
        (
            f"test of folds {', '.join(map(str, there))}",
            len(images),
            f"{many(len(images), 'image')} tested on more than once, as {shown(first[images].min())}",
        )
        for there, images in sorted(folds.groupby(folds).groups.items())
    ]
