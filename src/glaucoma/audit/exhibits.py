"""Photographs to look at: which are shown, and contact sheets of them, to which the report adds the words.

A contact sheet is a PNG of square tiles, in rows, with a table of them beside it. So a figure can be drawn again
without the photographs, and without decoding any.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from glaucoma.base.files import atomic_path, write_csv
from glaucoma.base.index import CONDITIONS, SPLITS
from glaucoma.photos.images import Unreadable, decode

__all__ = ["by_group", "crops", "labelled", "offenders", "sample", "write_found", "write_sheet"]

TILE = 280  # pixels a side
ACROSS = 6  # photographs in a row
EACH = 12  # photographs of each condition in `sample`
IN_A_ROW = 8  # photographs of each group in `by_group`
MOST_GROUPS = 6  # sources shown, the largest
MOST_CROPS, MOST_FAILURES = 12, 6
MOST_POOR = 24
PAIRS_ACROSS, MOST_PAIRS = 3, 12


def sample(index: pd.DataFrame, seed: int, each: int = EACH) -> pd.DataFrame:
    """Draw `each` distinct images of either condition, or all if there are fewer; normal ones first.

    The draw depends on the seed and on what is listed, not on the order of the rows.

    Returns:
        Columns path, image, condition, fold, split and line (of the sheet, from 0).
    """
    draw = np.random.default_rng(seed)
    chosen = [_drawn(index[index["condition"] == condition], draw).head(each) for condition in CONDITIONS]
    lines = [np.arange(len(rows)) // ACROSS for rows in chosen]
    lines[1] += 1 + lines[0].max(initial=-1)
    rows = pd.concat(chosen, ignore_index=True)
    return rows[["path", "image", "condition", "fold", "split"]].assign(line=np.concatenate(lines))


def by_group(index: pd.DataFrame, by: str, seed: int) -> pd.DataFrame:
    """Draw images of each class in each split of the first fold, or in each of the largest sources.

    Args:
        index: as `read_index` returns it.
        by: `split` or `source`.
        seed: of the draw.

    Returns:
        Columns path (empty for a group without images), image, condition, group, images (of the group) and line.
    """
    listed = index[index["fold"] == index["fold"].min()] if by == "split" else index
    values = listed[by].fillna("")
    counts = values.value_counts().sort_index().sort_values(ascending=False, kind="stable")
    groups = SPLITS if by == "split" else tuple(counts.index[:MOST_GROUPS])
    lines: list[pd.DataFrame] = []
    for group in groups:
        for condition in CONDITIONS:
            part = listed[(values == group) & (listed["condition"] == condition)]
            rows = _drawn(part, np.random.default_rng(seed)).head(IN_A_ROW)[["path", "image"]]
            if rows.empty:
                rows = pd.DataFrame([("", "")], columns=["path", "image"])
            about = {"condition": condition, "group": group, "images": part["image"].nunique(), "line": len(lines)}
            lines.append(rows.assign(**about))
    return pd.concat(lines, ignore_index=True)


def crops(boxes: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Draw cropped images, those where a part was not found first.

    Args:
        boxes: data/crops.csv: a row per image and view; columns image, path and found are used.
        seed: of the draw.

    Returns:
        Columns path, image, found (whether all parts were) and line.
    """
    images = boxes.groupby("image", sort=True).agg(path=("path", "first"), found=("found", "all")).reset_index()
    images = images.iloc[np.random.default_rng(seed).permutation(len(images))]
    failed = images[~images["found"].astype(bool)].head(MOST_FAILURES)
    rows = pd.concat([failed, images[images["found"].astype(bool)].head(MOST_CROPS - len(failed))], ignore_index=True)
    return rows.assign(line=rows.index // ACROSS)


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


def labelled(pairs: pd.DataFrame, index: pd.DataFrame) -> pd.DataFrame:
    """Pairs with the `first_condition` and `second_condition` of their files; those of two classes come first."""
    conditions = index.drop_duplicates("path").set_index("path")["condition"]
    first, second = (pairs[f"{one}_path"].map(conditions) for one in ("first", "second"))
    pairs = pairs.assign(first_condition=first, second_condition=second)
    return pairs.iloc[(first == second).argsort(kind="stable")]


def write_found(
    findings: pd.DataFrame, duplicates: pd.DataFrame, index: pd.DataFrame, root: Path, folder: Path, most: float
) -> None:
    """Write the contact sheets of what the audit found: `offenders`, and `pairs` of files that show one photograph.

    Of many poor photographs, an equal share of each fault is shown.

    Args:
        findings: the audit's table of findings.
        duplicates: its table of pairs.
        index: as `read_index` returns it.
        root: folder that the index' paths start from.
        folder: to write to.
        most: megapixels; larger images count as unreadable.
    """
    poor = offenders(findings, index)
    counts = poor.groupby("fault")["path"].transform("size")
    turn = poor.groupby("fault").cumcount().sort_values(kind="stable").index[:MOST_POOR]
    chosen = poor.assign(images=counts).loc[turn].sort_values(["fault", "path"], ignore_index=True)
    write_sheet(chosen.assign(line=chosen.index // ACROSS), root, folder / "offenders", most)

    pairs = labelled(duplicates, index).assign(pairs=len(duplicates)).head(MOST_PAIRS).reset_index(drop=True)
    pairs["line"] = pairs.index // PAIRS_ACROSS
    sides = [
        pairs.assign(path=pairs[f"{one}_path"], condition=pairs[f"{one}_condition"], side=side)
        for side, one in enumerate(("first", "second"))
    ]
    rows = pd.concat(sides).rename_axis("pair").sort_values(["pair", "side"]).reset_index()
    shown = ["path", "condition", "pair", "pairs", "mirrored", "turned", "correlation", "line"]
    write_sheet(rows[shown], root, folder / "pairs", most)


def write_sheet(rows: pd.DataFrame, root: Path, file: Path, most: float) -> None:
    """Write a contact sheet, `file`.png with its table `file`.csv; without rows, remove those of an earlier run.

    A photograph is fitted into its tile without distortion, and one that cannot be read leaves it empty.

    Args:
        rows: a row per tile, in order; columns path (empty for no tile) and line (row of the sheet, from 0). The table
            also says in which `column` each lies, the `side` of tiles in pixels, and why one is `unreadable`.
        root: folder that paths start from.
        file: path without suffix.
        most: megapixels; larger images count as unreadable.
    """
    picture, table = (file.with_name(file.name + suffix) for suffix in (".png", ".csv"))
    if rows.empty:
        for one in (picture, table):
            one.unlink(missing_ok=True)
        return
    rows = rows.assign(column=rows.groupby("line").cumcount(), side=TILE)
    sheet = Image.new("RGB", (TILE * (1 + rows["column"].max()), TILE * (1 + rows["line"].max())), "white")
    reasons = []
    for row in rows.itertuples():
        reasons.append("")
        if row.path:
            try:
                photograph = decode(root / row.path, max_megapixels=most, at_least=TILE)
            except Unreadable as why:
                reasons[-1] = str(why)
                continue
            tile = ImageOps.pad(photograph, (TILE, TILE), Image.Resampling.LANCZOS, color="white")
            sheet.paste(tile, (TILE * row.column, TILE * row.line))
    write_csv(table, rows.assign(unreadable=reasons))
    with atomic_path(picture) as temporary:
        sheet.save(temporary, "PNG")


def _drawn(rows: pd.DataFrame, draw: np.random.Generator) -> pd.DataFrame:
    """The distinct images of some rows in an order that depends on the draw and on what is listed alone."""
    rows = rows.sort_values(["image", "fold", "split", "path"])
    return rows.iloc[draw.permutation(len(rows))].drop_duplicates("image")
