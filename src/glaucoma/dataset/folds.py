"""Folds for layouts that bring none: stratified by class and source, whole by patient and by duplicate, seeded."""

from __future__ import annotations

import warnings

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from glaucoma.base.errors import DataError
from glaucoma.base.index import CONDITIONS, SPLITS
from glaucoma.base.names import listed, many

__all__ = ["draw_folds", "groups_of", "hold_out"]

ATTEMPTS = 100  # draws of folds before giving up


def draw_folds(
    table: pd.DataFrame, *, n_folds: int, held_out: float, seed: int, clusters: np.ndarray | None = None
) -> pd.DataFrame:
    """Repeat a listing once per fold, each time with every image's split.

    The `test` sets are disjoint and cover every image once; `valid` is drawn anew for each fold from the images that
    its test set leaves; `train` is what remains. Images that share a patient, all bytes or a cluster
    are never parted. Test sets are alike in class and, as far as groups allow, in source.

    Args:
        table: `condition`, `image` and perhaps `patient` and `source` ("" where unknown), one row per file, in an order
            that the file system does not decide.
        n_folds: folds to draw, ≥ 2.
        held_out: share of all images that is each fold's `valid`, 0–0.5.
        seed: of the draw.
        clusters: (rows,) of any kind; equal values stay together, such as near duplicates. None: only equal bytes do.

    Returns:
        `table` with `fold` (0 … n_folds - 1) and `split`; n_folds × len(table) rows.

    Raises:
        DataError: a split would lack a class.
    """
    groups, conditions = groups_of(table, clusters), table["condition"].to_numpy()
    counts = {name: len(set(groups[conditions == name])) for name in CONDITIONS}
    few = [f"{name}: {many(count, 'independent image')}" for name, count in counts.items() if count < n_folds]
    if few:
        remedy = "set crossval.n_folds lower; images of one patient, and equal ones, stay together and count once"
        raise DataError(f"too few images for {n_folds} folds:{listed(few)}", remedy)

    # with few groups a draw may leave a split without a class; the next one, as reproducible, may not
    for attempt in range(ATTEMPTS):
        drawn, lacking = _draw(table, conditions, groups, n_folds, held_out, np.random.SeedSequence([seed, attempt]))
        if not lacking:
            return pd.concat(drawn, ignore_index=True)
    remedy = "change crossval.n_folds or crossval.held_out, or add images of more patients"
    raise DataError(f"all of {ATTEMPTS} draws of folds have splits that lack a class:{listed(lacking)}", remedy)


def _draw(
    table: pd.DataFrame,
    conditions: np.ndarray,
    groups: np.ndarray,
    n_folds: int,
    held_out: float,
    seed: np.random.SeedSequence,
) -> tuple[list[pd.DataFrame], list[str]]:
    """One draw: the listing with every fold's splits, and the splits that lack a class."""
    # groups are shuffled here, by renumbering: the splitter's own shuffle loses the strata before scikit-learn 1.8
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(groups.max() + 1)[groups]
    splitter = StratifiedGroupKFold(n_folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # that a class is small; the caller checks for what matters
        tests = [test for _, test in splitter.split(conditions, _strata(table), shuffled)]
    drawn, lacking = [], []
    for fold, test in enumerate(tests):
        split = np.full(len(table), "train", dtype=object)
        split[test] = "test"
        rest = np.flatnonzero(split == "train")
        split[hold_out(conditions, groups, rest, held_out, rng)] = "valid"
        for name in SPLITS:
            without = sorted(set(CONDITIONS) - set(conditions[split == name]))
            lacking += [f"fold {fold}, {name}: {condition}" for condition in without]
        drawn.append(table.assign(fold=fold, split=split))
    return drawn, lacking


def groups_of(table: pd.DataFrame, clusters: np.ndarray | None = None) -> np.ndarray:
    """Number the groups of rows that belong together: linked by patient, bytes or cluster, at any remove.

    Returns:
        int32, (rows,): equal numbers, same group.
    """
    rows = np.arange(len(table))
    links = [pd.factorize(table["image"])[0]]
    if clusters is not None:
        links.append(pd.factorize(clusters)[0])
    if "patient" in table:
        known = table["patient"].fillna("").to_numpy() != ""
        patients = pd.factorize(table["patient"])[0]
        # A row without a known patient stands alone
        links.append(np.where(known, patients, patients.max(initial=-1) + 1 + rows))
    offset, starts, ends = len(table), [], []
    for link in links:
        starts.append(rows)
        ends.append(offset + link)
        offset += int(link.max(initial=-1)) + 1
    starts, ends = np.concatenate(starts), np.concatenate(ends)
    graph = coo_array((np.ones(len(starts), dtype=np.int8), (starts, ends)), shape=(offset, offset))
    return connected_components(graph, directed=False)[1][: len(table)]


def _strata(table: pd.DataFrame) -> np.ndarray:
    """What test sets are to be alike in: class and, where there are several, source."""
    if "source" not in table or table["source"].nunique() < 2:
        return table["condition"].to_numpy()
    return (table["condition"] + "\0" + table["source"]).to_numpy()


def hold_out(
    conditions: np.ndarray, groups: np.ndarray, rest: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw rows of whole groups, in random order, as long as they fit into `share` of all rows of each class.

    Args:
        conditions: (rows,), the class of each row.
        groups: (rows,), equal numbers, same group.
        rest: the rows to draw from, ascending.
        share: 0–1.
        rng: decides the order.

    Returns:
        int, the rows drawn, ascending.
    """
    room = {name: round(share * np.sum(conditions == name)) for name in CONDITIONS}
    members = pd.Series(rest).groupby(groups[rest]).agg(list)
    taken: list[int] = []
    for group in rng.permutation(len(members)):
        rows = members.iloc[group]
        need = {name: int(np.sum(conditions[rows] == name)) for name in room}
        if all(need[name] <= room[name] for name in room):
            taken += rows
            room = {name: room[name] - need[name] for name in room}
    return np.array(sorted(taken), dtype=int)
