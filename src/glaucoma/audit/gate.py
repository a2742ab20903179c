"""The audit: decode every distinct image, run every check, stop the pipeline for errors that are not waived."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.audit.checks import CHECKS as LISTED_CHECKS
from glaucoma.audit.checks import LINKS, PHOTOGRAPH_CHECKS, UNWAIVABLE, Case, Finding
from glaucoma.audit.shortcuts import SHORTCUT_CHECKS, probe_all, strongest
from glaucoma.base import paths
from glaucoma.base.errors import AuditError, ParamsError, listed, many, shown
from glaucoma.base.files import write_csv, write_json
from glaucoma.base.index import distinct
from glaucoma.base.params import Params
from glaucoma.base.workers import in_threads
from glaucoma.photos.content import read_content
from glaucoma.photos.images import decode
from glaucoma.photos.looks import Look, clusters, look_at
from glaucoma.photos.quality import complaints

__all__ = ["Findings", "audit", "examine", "gate", "remedy", "told", "write"]

CHECKS = {**LISTED_CHECKS, **PHOTOGRAPH_CHECKS, **SHORTCUT_CHECKS}
DESCRIBING = ("copies", "class_balance", "source_balance")  # descriptive checks, without counts of problems
SEVERITIES = ("error", "warning", "info")
SHOWN = 2  # findings of a kind that are printed
NEARLY = 0.95  # least correlation of structure for equal pixels, despite rounding in fast decoding


@dataclass(frozen=True)
class Findings:
    """The result of an audit.

    Attributes:
        found: in the order of the checks.
        waived: names of findings the user accepts.
        images: distinct images looked at.
        dropped: unreadable images that the next stages leave out.
        duplicates: pairs of images of one photograph: `LINKS` and the `cluster` they are part of.
        probes: from `probe_all`.
        trait: the trait that predicts the label best, from `strongest`.
    """

    found: tuple[Finding, ...]
    waived: frozenset[str]
    images: int
    dropped: int
    duplicates: pd.DataFrame
    probes: pd.DataFrame
    trait: pd.DataFrame

    @property
    def errors(self) -> list[Finding]:
        """Errors that are not waived."""
        return [one for one in self.found if one.severity == "error" and one.finding not in self.waived]

    def table(self) -> pd.DataFrame:
        """One row per finding: `finding, severity, waived (yes or no), count, where, message, remedy`."""
        rows = [asdict(one) for one in self.found]
        table = pd.DataFrame(rows, columns=["finding", "severity", "count", "where", "message", "remedy"])
        waived = table["finding"].isin(self.waived) & (table["severity"] == "error")
        table.insert(2, "waived", waived.map({True: "yes", False: "no"}))
        return table

    def metrics(self) -> dict[str, Any]:
        """Counts by finding (0 if none), unwaived errors, warnings, waived errors and their names, images, dropped.

        Also the probe that predicts the label best, with its AUROC; None if no probe could be run.
        """
        by_name = Counter(one.finding for one in self.found if one.severity != "info")
        tried = self.probes[(self.probes["target"] == "label") & (self.probes["skipped"] == "")]
        best = tried.sort_values("auroc", ascending=False, kind="stable").head(1).to_dict("records")
        (strongest,) = best or [dict.fromkeys(tried.columns)]
        return {
            **{name: by_name[name] for name in CHECKS if name not in DESCRIBING},
            "errors": len(self.errors),
            "warnings": sum(one.severity == "warning" for one in self.found),
            "waived": sum(one.severity == "error" for one in self.found) - len(self.errors),
            "waived_findings": ", ".join(
                sorted({one.finding for one in self.found if one.severity == "error"} & self.waived)
            ),
            "strongest_probe": strongest["probe"],
            **{f"strongest_probe_{name}": strongest[name] for name in ("auroc", "low", "high")},
            "images": self.images,
            "dropped": self.dropped,
        }


def audit(index: pd.DataFrame, root: Path, params: Params, kept: Path | None = None) -> Findings:
    """Check the data for problems that would make scores misleading.

    Args:
        index: from `read_index`.
        root: data.root.
        params: `audit.waive`, `data.unreadable` and `data.max_megapixels` are used.
        kept: cache file of `look_at`.

    Raises:
        ParamsError: `audit.waive` has an unknown finding, or one that cannot be waived.
        DataError: an image changed since it was indexed.
    """
    _check_waived(params.audit.waive)
    drop = params.data.unreadable == "drop"
    case = examine(index, root, params, kept)
    faults = case.faults
    found = tuple(finding for check in CHECKS.values() for finding in check(case))
    dropped = len(faults) if drop else 0
    duplicates = case.links.assign(cluster=case.links["first"].map(case.clusters))
    return Findings(
        found,
        frozenset(params.audit.waive),
        images=index["image"].nunique(),
        dropped=dropped,
        duplicates=duplicates,
        probes=case.probes,
        trait=case.trait,
    )


def write(findings: Findings, folder: Path, metrics_file: Path) -> Path:
    """Write findings.csv, duplicates.csv, probes.csv and shortcut.csv, and the metrics; returns the first's path."""
    write_csv(folder / "findings.csv", findings.table())
    write_csv(folder / "duplicates.csv", findings.duplicates)
    write_csv(folder / "probes.csv", findings.probes)
    write_csv(folder / paths.SHORTCUT.name, findings.trait)
    write_json(metrics_file, findings.metrics())
    return folder / "findings.csv"


def examine(index: pd.DataFrame, root: Path, params: Params, kept: Path | None = None) -> Case:
    """Decode every distinct image once, to find unreadable and poor ones, copies and shortcuts."""
    limit = params.data.max_megapixels
    looks = look_at(index, root, "audit", max_megapixels=limit, kept=kept)
    images = distinct(index).set_index("image")
    numbers, links = clusters(looks)
    places = images["path"]
    links = links.assign(first_path=links["first"].map(places), second_path=links["second"].map(places))
    links["same_pixels"] = _same_pixels(links, images, root, limit)
    seen = {image: one for image, one in looks.items() if isinstance(one, Look)}
    sizes = images[["width", "height"]]
    probes = probe_all(index, looks, numbers)
    needed = params.data.image_size
    poor = {i: complaints(one.quality, sizes.at[i, "width"], sizes.at[i, "height"], needed) for i, one in seen.items()}
    return Case(
        index,
        {image: one for image, one in looks.items() if isinstance(one, str)},
        drop_unreadable=params.data.unreadable == "drop",
        links=links[LINKS],
        clusters={image: numbers[image] for image in seen},
        poor={image: wrong for image, wrong in poor.items() if wrong},
        probes=probes,
        trait=strongest(index, looks, numbers, probes),
    )


def _same_pixels(links: pd.DataFrame, images: pd.DataFrame, root: Path, limit: float) -> list[bool]:
    """Which linked images are equal in every pixel; only candidates are decoded in full."""
    sizes = images[["width", "height"]].apply(tuple, axis=1)
    alike = [
        not row.mirrored and not row.turned and row.correlation > NEARLY and sizes[row.first] == sizes[row.second]
        for row in links.itertuples()
    ]
    rows = links[np.array(alike, dtype=bool)]
    named = sorted({*rows["first"], *rows["second"]})

    def pixels(image: str) -> str:
        decoded = decode(read_content(root, images["path"][image], image), max_megapixels=limit)
        return hashlib.sha256(decoded.tobytes()).hexdigest()

    digests = dict(zip(named, in_threads(pixels, named, "compare pixels"), strict=True)) if named else {}
    return [
        may and digests[first] == digests[second]
        for may, first, second in zip(alike, links["first"], links["second"], strict=True)
    ]


def told(findings: Findings, table_file: Path) -> str:
    """The findings on one screen: the most serious first, of each kind the first `SHOWN` and the remedy."""

    def grave(one: Finding) -> tuple[int, bool]:
        # Shortcuts mislead more than copies within a split
        return SEVERITIES.index(one.severity), one.finding != "shortcut"

    by_name: dict[tuple[str, str], list[Finding]] = {}
    for one in sorted(findings.found, key=grave):
        by_name.setdefault((one.finding, one.severity), []).append(one)
    lines = []
    for (name, severity), some in by_name.items():
        what = f"{'waived ' * (severity == 'error' and name in findings.waived)}{severity}, {name}"
        rest = f" of {name}, all in {table_file}"
        lines.append(listed([f"{what}, {shown(one.where)}: {one.message}" for one in some], most=SHOWN, rest=rest))
        lines.append(f"\n      → {some[0].remedy}" if some[0].remedy else "")
    return "".join(lines)


def gate(findings: Findings, table_file: Path) -> None:
    """Stop the pipeline for errors that are not waived.

    Raises:
        AuditError: there are such errors; it lists all by name and the first 20 of each in full.
    """
    errors = findings.errors
    if not errors:
        return
    names = list(dict.fromkeys(one.finding for one in errors))
    paragraphs = []
    for name in names:
        some = [one for one in errors if one.finding == name]
        lines = listed([f"{shown(one.where)}: {one.message}" for one in some], most=20, rest=f", all in {table_file}")
        paragraphs.append(f"\n  {name}, {many(len(some), 'time')}:{lines}\n    → {some[0].remedy}")
    what = f"the audit found errors that make scores misleading:{''.join(paragraphs)}"
    raise AuditError(what, f"{remedy(findings)}. `python stages/report.py` draws what was found: {paths.PAGE}")


def remedy(findings: Findings) -> str:
    """How to proceed: fix the data, or waive by name the errors that can be waived."""
    waivable = [name for name in dict.fromkeys(one.finding for one in findings.errors) if name not in UNWAIVABLE]
    accept = f", or accept {' and '.join(waivable)} by name under audit.waive in params.yaml" if waivable else ""
    return f"fix the data{accept}"


def _check_waived(names: Sequence[str]) -> None:
    unknown = [name for name in names if name not in CHECKS]
    if unknown:
        known = ", ".join(name for name in CHECKS if name not in UNWAIVABLE)
        raise ParamsError(f"audit.waive names no finding of the audit: {', '.join(unknown)}", f"known are: {known}")
    for name in names:
        if name in UNWAIVABLE:
            raise ParamsError(f"audit.waive: {name} cannot be waived", UNWAIVABLE[name])
