"""A train split parted once more, so that something can be chosen without a look at the images that are scored."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from glaucoma.base.errors import DataError
from glaucoma.dataset.folds import groups_of, hold_out
from glaucoma.dataset.splits import Split

__all__ = ["SHARE", "inner_splits"]

SHARE = 0.2  # of each class of the train split that is held out to select on
ATTEMPTS = 100  # draws before giving up


def inner_splits(train: Split, clusters: Mapping[str, str], seed: int) -> dict[str, Split]:
    """Part a train split into `train` to learn from and `test` to select on.

    The inner loop of Varma & Simon (BMC Bioinformatics 7:91, 2006), as one hold-out that is stratified by class.

    Args:
        train: of a fold; nothing else of the fold is looked at.
        clusters: as `read_clusters` gives them; copies of a photograph and images of a patient are never parted.
        seed: of the draw.

    Raises:
        DataError: too few independent images of a class to be on both sides.
    """
    table = pd.DataFrame({"image": train.images})
    if train.patients:
        table["patient"] = train.patients
    groups = groups_of(table, np.array([clusters.get(image, image) for image in train.images]))
    conditions = np.where(train.abnormal, "abnormal", "normal")
    rows = np.arange(len(train))
    for attempt in range(ATTEMPTS):
        held = hold_out(conditions, groups, rows, SHARE, np.random.default_rng((seed, attempt)))
        kept = np.setdiff1d(rows, held)
        if all(len(set(conditions[side])) == 2 for side in (held, kept)):
            return {"train": train.take(kept), "test": train.take(held)}
    raise DataError(
        f"the {len(train)} images of a fold's train split cannot be parted into two sides with both classes",
        "set search.nested to false, or add images of more patients",
    )
