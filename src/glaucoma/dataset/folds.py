"""Draw folds that keep patients and copies together, read frozen folds, split a train split for nested selection."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from sklearn.model_selection import StratifiedGroupKFold

from glaucoma.base.errors import DataError, ParamsError, listed, many, shown
from glaucoma.base.files import read_csv
from glaucoma.base.index import CONDITIONS, SPLITS
from glaucoma.base.params import Params
from glaucoma.dataset.splits import Split

__all__ = [
    "FROZEN",
    "SHARE",
    "apply_folds",
    "draw_folds",
    "find_frozen",
    "folds_table",
    "frozen_folds",
    "groups_of",
    "hold_out",
    "inner_splits",
    "require_folds",
]

ATTEMPTS = 100  # draws before giving up


def draw_folds(
    table: pd.DataFrame, *, n_folds: int, held_out: float, seed: int, clusters: np.ndarray | None = None
) -> pd.DataFrame:
    """Repeat a listing once per fold, with every image's split in that fold.

    The `test` sets are disjoint and cover every image once; `valid` is drawn for each fold from the images outside its
    test set; `train` is the rest. Images that share a patient, all bytes or a cluster are never separated. Test sets
    are stratified by class and, as far as groups allow, by source.

    Args:
        table: `condition`, `image` and optionally `patient` and `source` ("" if unknown), one row per file, in an order
            that does not depend on the file system.
        n_folds: number of folds, ≥ 2.
        held_out: share of all images in each fold's `valid`, 0–0.5.
        seed: of the draw.
        clusters: (rows,) of any type; rows with equal values, such as near duplicates, stay together. None: only equal
            bytes do.

    Returns:
        `table` with `fold` (0 … n_folds - 1) and `split`; n_folds × len(table) rows.

    Raises:
        DataError: a split would lack a class.
    """
    groups, conditions = groups_of(table, clusters), table["condition"].to_numpy()
    counts = {name: len(set(groups[conditions == name])) for name in CONDITIONS}
    few = [f"{name}: {many(count, 'independent image')}" for name, count in counts.items() if count < n_folds]
    if few:
        remedy = (
            "set crossval.n_folds lower, and crossval.folds to the numbers below it; images of one patient, and equal "
            "ones, stay together and count once"
        )
        raise DataError(f"too few images for {n_folds} folds:{listed(few)}", remedy)

    # with few groups, a draw may leave a split without a class; the next, equally reproducible, may not
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
    """Draw once: the listing with every fold's splits, and the splits that lack a class."""
    # groups are shuffled here, by renumbering: the splitter's own shuffle loses the strata before scikit-learn 1.8
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(groups.max() + 1)[groups]
    splitter = StratifiedGroupKFold(n_folds)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # about small classes; the caller checks the splits
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
    """Number the groups of rows that are linked, directly or indirectly, by patient, bytes or cluster.

    Returns:
        int32, (rows,): equal numbers mean the same group.
    """
    rows = np.arange(len(table))
    links = [pd.factorize(table["image"])[0]]
    if clusters is not None:
        links.append(pd.factorize(clusters)[0])
    if "patient" in table:
        known = table["patient"].fillna("").to_numpy() != ""
        patients = pd.factorize(table["patient"])[0]
        # A row without a known patient is a group of its own
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
    """The strata of test sets: class and, if there are several, source."""
    if "source" not in table or table["source"].nunique() < 2:
        return table["condition"].to_numpy()
    return (table["condition"] + "\0" + table["source"]).to_numpy()


def hold_out(
    conditions: np.ndarray, groups: np.ndarray, rest: np.ndarray, share: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw whole groups of rows, in random order, while they fit into `share` of all rows of each class.

    Args:
        conditions: (rows,), the class of each row.
        groups: (rows,), equal numbers mean the same group.
        rest: the rows to draw from, ascending.
        share: 0–1.
        rng: for the order.

    Returns:
        int, the drawn rows, ascending.
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


SHARE = 0.2  # of each class in the train split, held out for selection
INNER_ATTEMPTS = 100  # draws before giving up


def inner_splits(train: Split, clusters: Mapping[str, str], seed: int) -> dict[str, Split]:
    """Split a train split into `train` for training and `test` for selection.

    The inner loop of Varma & Simon (BMC Bioinformatics 7:91, 2006), as a single hold-out stratified by class.

    Args:
        train: of a fold; the fold's other splits are not used.
        clusters: from `read_clusters`; copies of a photograph and images of a patient are never separated.
        seed: of the draw.

    Raises:
        DataError: a class has too few independent images for both sides.
    """
    table = pd.DataFrame({"image": train.images})
    if train.patients:
        table["patient"] = train.patients
    groups = groups_of(table, np.array([clusters.get(image, image) for image in train.images]))
    conditions = np.where(train.abnormal, "abnormal", "normal")
    rows = np.arange(len(train))
    for attempt in range(INNER_ATTEMPTS):
        held = hold_out(conditions, groups, rows, SHARE, np.random.default_rng((seed, attempt)))
        kept = np.setdiff1d(rows, held)
        if all(len(set(conditions[side])) == 2 for side in (held, kept)):
            return {"train": train.take(kept), "test": train.take(held)}
    raise DataError(
        f"the {len(train)} images of a fold's train split cannot be parted into two sides with both classes",
        "set search.nested to false, or add images of more patients",
    )


FROZEN = "folds.csv"
COLUMNS = ["image", "fold", "split"]


def folds_table(index: pd.DataFrame) -> pd.DataFrame:
    """The folds of an index to freeze: `image` (content id, independent of file names), `fold`, `split`; sorted."""
    return index[COLUMNS].drop_duplicates().sort_values(COLUMNS, ignore_index=True)


def find_frozen(root: Path) -> Path | None:
    """The frozen folds in a folder of images, or None."""
    return root / FROZEN if (root / FROZEN).is_file() else None


def frozen_folds(path: Path) -> list[int]:
    """The fold numbers of a frozen file, ascending.

    Raises:
        DataError: it holds none.
    """
    try:
        return sorted(set(map(int, read_csv(path)["fold"])))
    except (KeyError, ValueError) as error:  # pandas' own parsing errors are ValueErrors
        raise DataError(f"{shown(path)} holds no folds: {error}", "remove it, and folds are drawn anew") from None


def require_folds(params: Params, there: Sequence[int], why: str) -> None:
    """Refuse parameters that ask for folds that are not there.

    Args:
        params: `crossval.folds` and `search.fold` are looked at.
        there: numbers of the folds that the photographs have, or will have.
        why: what decides them, for the message.

    Raises:
        ParamsError: with what is asked for, what is there, and both ways out.
    """
    asked = {"crossval.folds": params.crossval.folds, "search.fold": [params.search.fold]}
    lines = [
        f"{key} asks for {', '.join(map(str, strange))}"
        for key, folds in asked.items()
        if (strange := [fold for fold in folds if fold not in set(there)])
    ]
    if lines:
        known = f"{there[0]}–{there[-1]}" if list(there) == list(range(there[0], there[-1] + 1)) else str(list(there))
        remedy = f"set crossval.folds to {list(there)}, or to some of them, and search.fold to one of them"
        raise ParamsError(f"{' and '.join(lines)}, but the folds are {known} ({why})", remedy)


def apply_folds(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Repeat a listing once per fold, with the splits of a frozen file.

    Args:
        table: `image`, `condition` and optionally `patient`, one row per file.
        path: file with a table from `folds_table`.

    Returns:
        `table` with `fold` and `split`, in the order of `draw_folds`.

    Raises:
        DataError: the file does not match the images, separates a patient's images, or has a split without a class.
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
