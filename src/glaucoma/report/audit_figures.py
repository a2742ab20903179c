"""Figures of the audit: poor photographs, and copies side by side."""

from __future__ import annotations

import math
from pathlib import Path, PurePosixPath

import pandas as pd

from glaucoma.base.errors import many
from glaucoma.base.files import read_csv
from glaucoma.report.mosaic import tile
from glaucoma.report.probe_figures import probes_chart
from glaucoma.report.style import (
    CONDITION_COLOURS,
    GREY,
    PURPLE,
    heading,
    new_figure,
    plain_name,
    save,
    styled,
)

__all__ = [
    "duplicates_sheet",
    "labelled",
    "offenders",
    "offenders_sheet",
    "write_found",
]

COLUMNS = 6
MOST = 24  # photographs on a sheet
PAIRS_ACROSS, MOST_PAIRS = 3, 12
NAME, PAIR_NAME = 24, 18  # characters below a tile, and after its class


def write_found(index: pd.DataFrame, root: Path, folder: Path, max_megapixels: float) -> None:
    """Draw offenders.png, duplicates.png and probes.png beside the audit's tables of the same folder.

    Those that do not apply, as an earlier audit may have left them, are removed.
    """
    names = {"offenders": "findings.csv", "duplicates": "duplicates.csv", "probes": "probes.csv"}
    tables = {name: read_csv(folder / file) for name, file in names.items()}
    tables["offenders"] = offenders(tables["offenders"], index)
    tables["duplicates"] = labelled(tables["duplicates"], index)
    for name in names:
        if tables[name].empty:
            (folder / f"{name}.png").unlink(missing_ok=True)
    most = {"max_megapixels": max_megapixels}
    if len(tables["offenders"]):
        offenders_sheet(tables["offenders"], root, folder / "offenders.png", **most)
    if len(tables["duplicates"]):
        duplicates_sheet(tables["duplicates"], root, folder / "duplicates.png", **most)
    if len(tables["probes"]):
        probes_chart(tables["probes"], folder / "probes.png")


def labelled(pairs: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the `first_condition` and `second_condition` of their files; those of two classes come first."""
    conditions = index.drop_duplicates("path").set_index("path")["condition"]
    first, second = (pairs[f"{one}_path"].map(conditions) for one in ("first", "second"))
    pairs = pairs.assign(first_condition=first, second_condition=second)
    return pairs.iloc[(first == second).argsort(kind="stable")]


def offenders(findings: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Unreadable and poor photographs of the audit's findings, with the fault of each.

    Args:
        findings: reports/audit/findings.csv: columns finding, where (the file) and message.
        index: as `read_index` returns it.

    Returns:
        Columns path, fault (`unreadable`, or a complaint's name such as `over-exposed`) and why; sorted by fault, path.
    """
    poor = findings[findings["finding"].isin(["unreadable", "poor_photograph"])]
    files = set(index["path"])
    rows = []
    for row in poor.itertuples():
        fault, _, why = (row.finding, "", row.message) if row.finding == "unreadable" else row.message.partition(": ")
        if row.where in files:
            rows.append((row.where, fault, why))
    return pd.DataFrame(rows, columns=["path", "fault", "why"]).sort_values(["fault", "path"], ignore_index=True)


@styled()
def offenders_sheet(poor: pd.DataFrame, root: Path | str, path: Path | str, *, max_megapixels: float) -> None:
    """Draw poor photographs with their names and faults; if there are many, an equal share of each fault.

    Args:
        poor: one row at least, as `offenders` returns it.
        root: folder that the paths start from.
        path: PNG to write.
        max_megapixels: larger images count as unreadable.
    """
    turn = poor.groupby("fault").cumcount()
    chosen = poor.loc[turn.sort_values(kind="stable").index[:MOST]].sort_values(["fault", "path"])
    rows = math.ceil(len(chosen) / COLUMNS)
    figure = new_figure(12.0, 2.45 * rows + 0.8)
    panels = figure.subplots(rows, COLUMNS, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    for axes, row in zip(panels.flat, chosen.itertuples(), strict=False):
        tile(axes, Path(root) / row.path, max_megapixels, PURPLE)
        axes.set_title(row.fault, fontsize=9.5, fontweight="bold", pad=4)
        axes.set_xlabel(plain_name(PurePosixPath(row.path).name, NAME), fontsize=8, color=GREY, labelpad=3)
    counts = [f"{count} {fault}" for fault, count in poor["fault"].value_counts().sort_index().items()]
    less = f"; {len(chosen)} shown" if len(chosen) < len(poor) else ""
    heading(figure, "Poor photographs", ", ".join(counts) + less)
    save(figure, path)


@styled()
def duplicates_sheet(pairs: pd.DataFrame, root: Path | str, path: Path | str, *, max_megapixels: float) -> None:
    """Draw pairs of files that show one photograph side by side.

    Args:
        pairs: one row at least; columns first_path, second_path, mirrored, turned and correlation, as the audit writes
            them, and first_condition, second_condition.
        root: folder that the paths start from.
        path: PNG to write.
        max_megapixels: larger images count as unreadable.
    """
    chosen = pairs.head(MOST_PAIRS)
    across = min(PAIRS_ACROSS, len(chosen))
    rows = math.ceil(len(chosen) / across)
    figure = new_figure(max(4.0 * across, 6.0), 2.45 * rows + 0.8)
    panels = figure.subplots(rows, 2 * across, squeeze=False)
    for axes in panels.flat:
        axes.set_axis_off()
    places = panels.reshape(-1, 2)
    for number, ((left, right), row) in enumerate(zip(places, chosen.itertuples(), strict=False), start=1):
        files = (left, row.first_path, row.first_condition), (right, row.second_path, row.second_condition)
        for axes, file, condition in files:
            tile(axes, Path(root) / file, max_megapixels, CONDITION_COLOURS[condition])
            name = f"{condition}: {plain_name(PurePosixPath(file).name, PAIR_NAME)}"
            axes.set_xlabel(name, fontsize=8, color=GREY, labelpad=3)
        what = "mirrored" if row.mirrored else "copy"
        what += f", turned {row.turned}°" if row.turned else ""
        if row.first_condition != row.second_condition:
            what += ", other label"
        left.set_title(f"{number}: {what}", fontsize=9.5, fontweight="bold", pad=4)
        right.set_title(f"correlation {row.correlation:.3f}", loc="right", fontsize=8.5, pad=4)
    less = f", the first {len(chosen)} shown" if len(chosen) < len(pairs) else ""
    note = f"{many(len(pairs), 'pair')} of files with different bytes{less}; the copy may be resized or recompressed"
    heading(figure, "Files that show the same photograph", note)
    save(figure, path)
