"""What the audit looks for in the pixels: copies of one photograph under other bytes, and poor photographs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd

from glaucoma.audit.checks import Case, Finding
from glaucoma.base.index import distinct
from glaucoma.base.names import shown

__all__ = ["PHOTOGRAPH_CHECKS"]

SAME = "files that differ in bytes show the same retina"
SHOWS = "shows the same retina"
WAYS = {
    (False, 0): "",
    (False, 180): ", turned by a half",
    (True, 0): ", mirrored",
    (True, 180): ", upside down",
    **{(False, degrees): ", turned by a quarter" for degrees in (90, 270)},
    **{(True, degrees): ", mirrored and turned by a quarter" for degrees in (90, 270)},
}


def near_split_leak(case: Case) -> list[Finding]:
    """A photograph in two splits of one fold under other bytes: what scores a model has been learnt from."""
    remedy = "leave all copies of a photograph in one split of a fold; reports/audit/duplicates.csv lists them"
    return [
        Finding("near_split_leak", "error", count, f"fold {pair.fold}", f"{SAME}: {told}", remedy)
        for pair, count, told in _pairs_across(case, "split", ["fold"])
    ]


def near_label_conflict(case: Case) -> list[Finding]:
    """A photograph under both classes under other bytes: one of the labels is wrong."""
    remedy = "find out which label is right, and remove the other files"
    return [
        Finding("near_label_conflict", "error", count, shown(pair.first_path), f"{SAME}: {told}", remedy)
        for pair, count, told in _pairs_across(case, "condition", [])
    ]


def same_pixels(case: Case) -> list[Finding]:
    """Copies under other bytes that are equal in every pixel, as another format or changed metadata leaves them."""
    return _pairs(
        case.links[case.links["same_pixels"].astype(bool)], "same_pixels", "is the same picture, pixel by pixel"
    )


def near_duplicate(case: Case) -> list[Finding]:
    """Resized, recompressed, converted or turned copies: they are no further samples."""
    links = case.links[~case.links["mirrored"].astype(bool) & ~case.links["same_pixels"].astype(bool)]
    return _pairs(links, "near_duplicate", f"{SHOWS}, a resized, recompressed or converted copy or another exposure")


def mirrored_duplicate(case: Case) -> list[Finding]:
    """Copies whose left is right, as augmentation leaves them, or a left eye that is passed off as a right one."""
    return _pairs(case.links[case.links["mirrored"].astype(bool)], "mirrored_duplicate", SHOWS)


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


def _pairs_across(case: Case, column: str, within: list[str]) -> Iterator[tuple[Any, int, str]]:
    """Of each photograph the copies that lie in two splits or classes, of pairs that were themselves compared.

    Yields the most alike pair, how many files such pairs have, and both files: `test: a.jpg, train: b.jpg`.
    """
    rows = case.index.drop_duplicates([*within, column, "path"])[["image", "path", column, *within]]
    pairs = case.links[["first", "second", "correlation"]]
    for end in ("first", "second"):
        named = rows.rename(columns={"image": end, "path": f"{end}_path", column: f"{end}_place"})
        pairs = pairs.merge(named, on=[end, *(within if end == "second" else ())])
    pairs = pairs[pairs["first_place"] != pairs["second_place"]]
    pairs = pairs.assign(cluster=pairs["first"].map(case.clusters)).sort_values(
        ["correlation", "first_path", "second_path"], ascending=[False, True, True], kind="stable"
    )
    for _, some in pairs.groupby([*within, "cluster"], sort=False):
        pair = next(some.itertuples())
        ends = sorted([(pair.first_place, pair.first_path), (pair.second_place, pair.second_path)])
        count = len({*some["first_path"], *some["second_path"]})
        yield pair, count, ", ".join(f"{place}: {shown(path)}" for place, path in ends)


def _pairs(links: pd.DataFrame, name: str, what: str) -> list[Finding]:
    remedy = "keep one of them: it is one sample"
    return [
        Finding(name, "warning", 2, shown(row.first_path), f"{shown(row.second_path)} {what}{how}", remedy)
        for row in links.itertuples()
        for how in ["" if row.same_pixels else f"{WAYS[row.mirrored, row.turned]} (correlation {row.correlation:.2f})"]
    ]
