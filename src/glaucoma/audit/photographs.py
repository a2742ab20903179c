"""What the audit looks for in the pixels: copies of one photograph under other bytes, and poor photographs."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd

from glaucoma.audit.checks import Case, Finding
from glaucoma.base.index import distinct
from glaucoma.base.names import shown

__all__ = ["PHOTOGRAPH_CHECKS"]

SAME = "files that differ in bytes show the same photograph"


def near_split_leak(case: Case) -> list[Finding]:
    """A photograph in two splits of one fold under other bytes: what scores a model has been learnt from."""
    rows = _copied(case)
    splits = rows.groupby(["fold", "cluster"])["split"].transform("nunique")
    remedy = "leave all copies of a photograph in one split of a fold; reports/audit/duplicates.csv lists them"
    return [
        Finding("near_split_leak", "error", len(some), f"fold {fold}", f"{SAME}: {_some(some, 'split')}", remedy)
        for (fold, _), some in rows[splits > 1].groupby(["fold", "cluster"])
    ]


def near_label_conflict(case: Case) -> list[Finding]:
    """A photograph under both classes under other bytes: one of the labels is wrong."""
    rows = _copied(case).drop_duplicates("path")
    labels = rows.groupby("cluster")["condition"].transform("nunique")
    remedy = "find out which label is right, and remove the other files"
    return [
        Finding("near_label_conflict", "error", len(some), shown(some["path"].min()), message, remedy)
        for _, some in rows[labels > 1].groupby("cluster")
        for message in [f"{SAME}: {_some(some, 'condition')}"]
    ]


def same_pixels(case: Case) -> list[Finding]:
    """Copies under other bytes that are equal in every pixel, as another format or changed metadata leaves them."""
    return _pairs(case.links[case.links["same_pixels"].astype(bool)], "same_pixels", "the same picture, pixel by pixel")


def near_duplicate(case: Case) -> list[Finding]:
    """Resized, recompressed or converted copies: they are no further samples."""
    links = case.links[~case.links["mirrored"].astype(bool) & ~case.links["same_pixels"].astype(bool)]
    return _pairs(links, "near_duplicate", "a resized, recompressed or converted copy of it")


def mirrored_duplicate(case: Case) -> list[Finding]:
    """Copies whose left is right, as augmentation leaves them, or a left eye that is passed off as a right one."""
    return _pairs(case.links[case.links["mirrored"].astype(bool)], "mirrored_duplicate", "a mirrored copy of it")


def poor_photograph(case: Case) -> list[Finding]:
    """Tiny, blank, dark, over-exposed and blurred photographs, and pictures of something else."""
    rows = distinct(case.index).sort_values("path")
    remedy = "look at it; remove it if nothing can be told from it"
    return [
        Finding("poor_photograph", "warning", 1, shown(path), f"{fault.replace('_', '-')}: {why}", remedy)
        for path, image in zip(rows["path"], rows["image"], strict=True)
        for fault, why in case.poor.get(image, {}).items()
    ]


PHOTOGRAPH_CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    check.__name__: check
    for check in (
        near_split_leak,
        near_label_conflict,
        same_pixels,
        near_duplicate,
        mirrored_duplicate,
        poor_photograph,
    )
}


def _copied(case: Case) -> pd.DataFrame:
    """Rows of the photographs that have copies under other bytes, with their `cluster`."""
    rows = case.index.assign(cluster=case.index["image"].map(case.clusters)).dropna(subset=["cluster"])
    return rows[rows.groupby("cluster")["image"].transform("nunique") > 1].sort_values("path")


def _some(rows: pd.DataFrame, column: str) -> str:
    """The first file of each split or class: `test: a.jpg, train: b.jpg`."""
    first = rows.drop_duplicates(column).sort_values(column)
    return ", ".join(f"{name}: {shown(path)}" for name, path in zip(first[column], first["path"], strict=True))


def _pairs(links: pd.DataFrame, name: str, what: str) -> list[Finding]:
    remedy = "keep one of them: it is one sample"
    return [
        Finding(name, "warning", 2, shown(row.first_path), f"{shown(row.second_path)} is {what}", remedy)
        for row in links.itertuples()
    ]
