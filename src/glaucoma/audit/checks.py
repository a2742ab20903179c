"""The audit's checks: leaks between splits, copies, conflicting labels, poor photographs and other pictures."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pandas as pd

from glaucoma.base.errors import many, shown
from glaucoma.base.index import CONDITIONS, distinct

__all__ = ["CHECKS", "LINKS", "PHOTOGRAPH_CHECKS", "UNWAIVABLE", "Case", "Finding", "overlaps"]

# The last two are content ids
LINKS = ["first_path", "second_path", "mirrored", "turned", "correlation", "same_pixels", "first", "second"]
WORDS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"]


@dataclass(frozen=True)
class Finding:
    """A finding of the audit.

    Attributes:
        finding: the check's name.
        severity: `error` stops the pipeline unless waived.
        count: number of files affected.
        where: fold, file or patient.
        message: the problem.
        remedy: what to do about it.
    """

    finding: str
    severity: Literal["error", "warning", "info"]
    count: int
    where: str
    message: str
    remedy: str = ""


@dataclass(frozen=True)
class Case:
    """The input of the checks.

    Attributes:
        index: from `read_index`.
        faults: why an image cannot be read, by content id.
        drop_unreadable: whether unreadable images are left out (data.unreadable: drop).
        links: verified pairs of copies of a photograph, in descending order of similarity; columns `LINKS`.
        clusters: number of each readable image's photograph, by content id.
        poor: defects of photographs: by content id, a sentence by name of the defect.
        probes: from `probe_all`.
        trait: the trait that predicts the label best, from `strongest`.
    """

    index: pd.DataFrame
    faults: dict[str, str]
    drop_unreadable: bool
    links: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=LINKS))
    clusters: dict[str, int] = field(default_factory=dict)
    poor: dict[str, dict[str, str]] = field(default_factory=dict)
    probes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=["skipped"]))
    trait: pd.DataFrame = field(default_factory=pd.DataFrame)


def unreadable(case: Case) -> list[Finding]:
    """Images that cannot be decoded: an error, or a warning if they are dropped."""
    severity: Literal["warning", "error"] = "warning" if case.drop_unreadable else "error"
    remedy = "" if case.drop_unreadable else "replace or remove them, or set data.unreadable to drop"
    copies = case.index.groupby("image")["path"].nunique()
    rows = distinct(case.index[case.index["image"].isin(case.faults)]).sort_values("path")
    return [
        Finding("unreadable", severity, int(copies[image]), path, case.faults[image], remedy)
        for path, image in zip(rows["path"], rows["image"], strict=True)
    ]


def split_without_class(case: Case) -> list[Finding]:
    """Splits that lose all images of a class when unreadable ones are dropped."""
    if not case.drop_unreadable:
        return []
    usable = case.index[~case.index["image"].isin(case.faults)]
    before = case.index.groupby(["fold", "split", "condition"]).size()
    lost = before.index.difference(usable.groupby(["fold", "split", "condition"]).size().index)
    remedy = "replace the unreadable images"
    return [
        Finding("split_without_class", "error", int(before[key]), f"fold {key[0]}, {key[1]}", message, remedy)
        for key in lost
        for message in [f"all images of class {key[2]} are unreadable"]
    ]


def split_leak(case: Case) -> list[Finding]:
    """An image in two splits of one fold: a model is scored on an image it was trained or selected on."""
    splits = case.index.groupby(["fold", "image"])["split"].transform("nunique")
    remedy = "leave each such image in one split of a fold"
    return [
        Finding("split_leak", "error", len(files), where, f"the same image is {_places(files)}", remedy)
        for where, files in _by_image(case.index[splits > 1])
    ]


def test_overlap(case: Case) -> list[Finding]:
    """An image in the test sets of two folds: pooled over folds, it counts twice, and intervals are too narrow."""
    remedy = "test each image in one fold only, or read scores fold by fold"
    found = overlaps(case.index)
    return [Finding("test_overlap", "warning", count, where, message, remedy) for where, count, message in found]


def repeated_in_split(case: Case) -> list[Finding]:
    """An image more than once in one split: it is counted once, with the weight of one image."""
    repeated = case.index.duplicated(["fold", "split", "image"], keep=False)
    remedy = "remove the copies; until then, each image counts once"
    # Without the split: in drawn folds it varies, and the finding would be repeated for each
    return [
        Finding("repeated_in_split", "warning", len(files), where, f"the same image is there {_places(files)}", remedy)
        for where, files in _by_image(case.index[repeated].assign(split=""))
    ]


def label_conflict(case: Case) -> list[Finding]:
    """An image under both classes, in any folds: one of the labels is wrong."""
    labels = case.index.groupby("image")["condition"].transform("nunique")
    remedy = "find out which label is right, and remove the other files"
    files = defaultdict(set)
    for row in case.index[labels > 1].itertuples():
        files[row.image].add((row.condition, row.path))
    return [
        Finding("label_conflict", "error", len(places), path, f"the same image is {_places(places)}", remedy)
        for path, places in sorted((min(path for _, path in places), sorted(places)) for places in files.values())
    ]


def patient_leak(case: Case) -> list[Finding]:
    """A patient in two splits of one fold: two photographs of one eye are nearly the same image."""
    if "patient" not in case.index:
        return []
    known = case.index[case.index["patient"] != ""]
    splits = known.groupby(["fold", "patient"])["split"].transform("nunique")
    remedy = "leave all images of a patient in one split of a fold"
    files = defaultdict(list)
    for row in known[splits > 1].itertuples():
        files[row.fold, row.patient].append((row.split, row.path))
    return [
        Finding("patient_leak", "error", len(places), f"fold {fold}, patient {shown(patient)}", message, remedy)
        for (fold, patient), places in sorted(files.items())
        for message in [f"images of one patient are {_places(sorted(places))}"]
    ]


def copies(case: Case) -> list[Finding]:
    """Number of distinct images among the files: ten copies of an image are not ten samples."""
    files, images = case.index["path"].nunique(), case.index["image"].nunique()
    folds = case.index.groupby("image")["fold"].nunique()
    counts = sorted(set(folds))
    each = _word(counts[0]) if len(counts) == 1 else f"{_word(counts[0])} to {_word(counts[-1])}"
    verb = "is" if files == 1 else "are"
    message = f"{many(files, 'file')} {verb} {many(images, 'image')}, each in {each} {_folds(counts[-1])}"
    return [Finding("copies", "info", files, "all folds", message)]


def class_balance(case: Case) -> list[Finding]:
    """Images of each class, and the range of the share of `abnormal` over the splits."""
    images = case.index.drop_duplicates(["image", "condition"])["condition"].value_counts()
    normal, abnormal = (int(images.get(name, 0)) for name in CONDITIONS)
    shares = (case.index["condition"] == "abnormal").groupby([case.index["fold"], case.index["split"]]).mean()
    message = (
        f"{many(normal, 'normal and', 'normal and')} {many(abnormal, 'abnormal image')}, "
        f"{abnormal / (normal + abnormal):.1%} abnormal; in the splits {shares.min():.1%} to {shares.max():.1%}"
    )
    return [Finding("class_balance", "info", normal + abnormal, "all folds", message)]


CHECKS: dict[str, Callable[[Case], list[Finding]]] = {
    check.__name__: check
    for check in (
        unreadable,
        split_without_class,
        split_leak,
        label_conflict,
        patient_leak,
        test_overlap,
        repeated_in_split,
        copies,
        class_balance,
    )
}
# Findings that later stages cannot handle, and what to do instead
UNWAIVABLE = {
    "unreadable": "set data.unreadable to drop to leave such images out",
    "split_without_class": "replace the unreadable images",
}


def _by_image(rows: pd.DataFrame) -> Iterator[tuple[str, tuple[tuple[str, str], ...]]]:
    """Where an image is and its (split, path) pairs there; folds with the same pairs are one finding."""
    files = defaultdict(list)
    for row in rows.itertuples():
        files[row.image, row.fold].append((row.split, row.path))
    folds = defaultdict(list)
    for (_, fold), places in sorted(files.items()):
        folds[tuple(sorted(places))].append(fold)
    for same, there in sorted(folds.items(), key=lambda item: (item[1], item[0])):
        yield f"fold{'s' if len(there) > 1 else ''} {', '.join(map(str, there))}", same


def _places(files: Sequence[tuple[str, str]]) -> str:
    """`in train as a.jpg and in test as b.jpg`; of several files in a split, the first two and how many more."""
    parts = []
    for place, group in itertools.groupby(files, key=lambda file: file[0]):
        names = [shown(path) for _, path in group]
        more = f" and {len(names) - 2} more" if len(names) > 2 else ""
        parts.append((f"in {place} " if place else "") + f"as {', '.join(names[:2])}{more}")
    return " and ".join(parts)


def _word(count: int) -> str:
    return WORDS[count] if count < len(WORDS) else str(count)


def _folds(count: int) -> str:
    return "fold" if count == 1 else "folds"


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
    """Copies of a photograph, different in bytes, in two splits of one fold: a model is scored on training data."""
    remedy = "leave all copies of a photograph in one split of a fold; reports/audit/duplicates.csv lists them"
    return [
        Finding("near_split_leak", "error", count, f"fold {pair.fold}", f"{SAME}: {told}", remedy)
        for pair, count, told in _pairs_across(case, "split", ["fold"])
    ]


def near_label_conflict(case: Case) -> list[Finding]:
    """Copies of a photograph, different in bytes, under both classes: one of the labels is wrong."""
    remedy = "find out which label is right, and remove the other files"
    return [
        Finding("near_label_conflict", "error", count, pair.first_path, f"{SAME}: {told}", remedy)
        for pair, count, told in _pairs_across(case, "condition", [])
    ]


def same_pixels(case: Case) -> list[Finding]:
    """Copies with different bytes but equal pixels, as after conversion or a change of metadata."""
    return _pairs(
        case.links[case.links["same_pixels"].astype(bool)], "same_pixels", "is the same picture, pixel by pixel"
    )


def near_duplicate(case: Case) -> list[Finding]:
    """Resized, recompressed, converted or rotated copies: they are not further samples."""
    links = case.links[~case.links["mirrored"].astype(bool) & ~case.links["same_pixels"].astype(bool)]
    return _pairs(links, "near_duplicate", f"{SHOWS}, a resized, recompressed or converted copy or another exposure")


def mirrored_duplicate(case: Case) -> list[Finding]:
    """Mirrored copies, as from augmentation, or a left eye passed off as a right one."""
    return _pairs(case.links[case.links["mirrored"].astype(bool)], "mirrored_duplicate", SHOWS)


def poor_photograph(case: Case) -> list[Finding]:
    """Tiny, blank, dark, over-exposed and blurred photographs, and pictures of something else."""
    rows = distinct(case.index).sort_values("path")
    remedy = "look at it; remove it if it is useless"
    return [
        Finding("poor_photograph", "warning", 1, path, f"{fault.replace('_', '-')}: {why}", remedy)
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
    """Photographs with copies in two splits or classes, from pairs that were compared directly.

    Yields the most similar pair, the number of files in such pairs, and both files: `test: a.jpg, train: b.jpg`.
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
        Finding(name, "warning", 2, row.first_path, f"{shown(row.second_path)} {what}{how}", remedy)
        for row in links.itertuples()
        for how in ["" if row.same_pixels else f"{WAYS[row.mirrored, row.turned]} (correlation {row.correlation:.2f})"]
    ]


def overlaps(index: pd.DataFrame) -> list[tuple[str, int, str]]:
    """Images in the test sets of several folds.

    Args:
        index: from `read_index`.

    Returns:
        Per combination of folds: where, number of distinct images, and the problem.
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
