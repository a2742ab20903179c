"""The folds' networks beside the controls: a regression on the frozen backbone that they must beat, permuted labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError, many
from glaucoma.base.files import read_csv, write_csv
from glaucoma.dataset.splits import read_clusters
from glaucoma.evaluate.over_folds import mean_differences
from glaucoma.evaluate.summary import FoldResults
from glaucoma.model.log_odds import with_log_odds

__all__ = ["check_lines", "control_lines", "read_controls", "write_against_controls"]

PREDICTIONS = paths.CONTROLS / "predictions.csv"
COLUMNS = ["split", "control", "score", "value", "networks", "difference", "low", "high"]
READ = ["control", "fold", "split", "image", "patient", "label", "predicted", "probability", "log_odds"]


def write_against_controls(results: FoldResults, seed: int) -> pd.DataFrame:
    """Write reports/summary/controls.csv: mean scores over the folds, theirs and ours.

    Args:
        results: of the folds.
        seed: of the bootstrap.

    Returns:
        What was written, a row per split (`valid` first, since `test` selects), control and score: split, control,
        score, value, networks (ours), difference (ours less the control's), low, high (95 %, paired bootstrap over
        patients). No rows where the controls have not been run.

    Raises:
        DataError: the controls are not of these folds and images.
    """
    tables = [pd.DataFrame(columns=COLUMNS)]
    told = read_controls(results.predictions["fold"].unique().tolist())
    clusters = read_clusters() if len(told) and paths.INDEX.is_file() else {}
    for split in ("valid", "test"):
        ours = results.pooled(split)
        for control, theirs in told[told["split"] == split].groupby("control", sort=True):
            try:
                found = mean_differences(theirs, ours, seed=seed, clusters=clusters)
            except DataError as error:
                raise DataError(f"{PREDICTIONS}: {error.found}", "make it again: `dvc repro -f controls`") from None
            found = found.rename(columns={"first": "value", "second": "networks"})
            tables.append(found.assign(control=control, split=split)[COLUMNS])
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    write_csv(paths.SUMMARY / "controls.csv", table)
    return table


def read_controls(folds: Sequence[int]) -> pd.DataFrame:
    """The controls' predictions in these folds; no rows where the controls have not been run.

    Returns:
        Columns control, fold, split, image, patient ("" where unknown), label, predicted, probability, log_odds.

    Raises:
        DataError: the file is no such table.
    """
    if not PREDICTIONS.is_file():
        return pd.DataFrame(columns=READ)
    try:
        table = read_csv(PREDICTIONS, dtype={"image": str, "patient": str}).fillna({"patient": ""})
        table = with_log_odds(table)
        return table[table["fold"].isin(folds)].astype({"probability": float})[READ].reset_index(drop=True)
    except (KeyError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        what = f"{PREDICTIONS} is no table of predictions: {error}"
        raise DataError(what, "make it again: `dvc repro -f controls`") from None


def control_lines(table: pd.DataFrame) -> str:
    """What the AUROCs on `valid` say, a line per control; `table` as `write_against_controls` returns it."""
    lines = []
    for row in table[(table["score"] == "auroc") & (table["split"] == "valid")].itertuples():
        if row.difference != row.difference:
            lines.append(f"{row.control}: AUROC not defined")
            continue
        verdict = "beaten" if row.low > 0 else "NOT BEATEN by the networks, or not for certain"
        bounds = f" [{row.low:+.3f}, {row.high:+.3f}]" if row.low == row.low else ""
        lines.append(
            f"{row.control}: AUROC {row.value:.3f} (mean over folds, valid), the networks' {row.networks:.3f}; "
            f"difference {row.difference:+.3f}{bounds}: {verdict}"
        )
    return "\n".join(lines) or "controls: not run"


def check_lines(told: Mapping[str, Any]) -> list[str]:
    """What the two checks for leaks say, each with what it can see; `told` is metrics/controls.json.

    Raises:
        KeyError: it is of an older release.
    """
    shuffled, copies = told["permuted_average"], told["near_copies"]
    mean, error = shuffled["test_auroc"], shuffled["standard_error"]
    if mean is None:
        lines = ["permutation check: not defined, too few images of a class"]
    else:
        scored = f"shuffled labels score AUROC {mean:.3f} ± {error:.3f} (standard error), alarm from"
        scored += f" {shuffled['alarm_from']:.3f} on"
        what = "no photograph of train, nor a listed copy or a patient of one, shows in test"
        if not shuffled["at_chance"]:
            what = "test contains photographs of train, or listed copies of them; trust no score before that is found"
        verdict = "passed" if shuffled["at_chance"] else "FAILED"
        lines = [f"permutation check {verdict} (the bookkeeping of splits): {what}; {scored}"]
    if copies["alarm_below"] is None:
        return [*lines, f"unlisted copies: not looked for, {many(copies['images'], 'photograph')} are too few"]
    seen = f"told from {copies['alarm_below']:.2f} of the distance to the fifth neighbour down, in feature space"
    if not copies["pairs"]:
        return [*lines, f"unlisted copies across splits: none among {many(copies['images'], 'photograph')} ({seen})"]
    pairs = many(copies["pairs"], "pair of photographs", "pairs of photographs")
    where = "look at reports/controls/near_copies.csv, and link true copies by a column patient"
    return [*lines, f"unlisted copies across splits: {pairs} may be such ({seen}): {where}"]
