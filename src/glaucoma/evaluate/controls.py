"""The folds' networks beside the controls: a regression on the frozen backbone that they must beat, permuted labels."""

from __future__ import annotations

import pandas as pd

from glaucoma import paths
from glaucoma.data.copies import read_clusters
from glaucoma.errors import DataError
from glaucoma.evaluate.log_odds import with_log_odds
from glaucoma.evaluate.over_folds import mean_differences
from glaucoma.evaluate.summary import FoldResults
from glaucoma.files import read_csv, write_csv

__all__ = ["control_lines", "write_against_controls"]

COLUMNS = ["control", "score", "value", "networks", "difference", "low", "high"]


def write_against_controls(results: FoldResults, seed: int) -> pd.DataFrame:
    """Write reports/summary/controls.csv: mean scores over the folds' test splits, theirs and ours.

    Args:
        results: of the folds.
        seed: of the bootstrap.

    Returns:
        What was written, a row per control and score: control, score, value, networks (ours), difference (ours less
        the control's), low, high (95 %, paired bootstrap over patients). No rows where the controls have not been run.

    Raises:
        DataError: the controls are not of these folds and images.
    """
    file = paths.CONTROLS / "predictions.csv"
    tables = [pd.DataFrame(columns=COLUMNS)]
    if file.is_file():
        clusters = read_clusters() if paths.INDEX.is_file() else {}
        ours = results.pooled("test")
        told = read_csv(file, dtype={"image": str, "patient": str}).fillna({"patient": ""})
        try:
            told = with_log_odds(told)
        except ValueError as error:
            what = f"{file} is no table of predictions: {error}"
            raise DataError(what, "make it again: `dvc repro -f controls`") from None
        told = told[(told["split"] == "test") & told["fold"].isin(ours["fold"])]
        for control, theirs in told.groupby("control", sort=True):
            try:
                found = mean_differences(theirs, ours, seed=seed, clusters=clusters)
            except DataError as error:
                raise DataError(f"{file}: {error.found}", "make it again: `dvc repro -f controls`") from None
            found = found.rename(columns={"first": "value", "second": "networks"})
            tables.append(found.assign(control=control)[COLUMNS])
    table = pd.concat(tables[1:] or tables, ignore_index=True)
    write_csv(paths.SUMMARY / "controls.csv", table)
    return table


def control_lines(table: pd.DataFrame) -> str:
    """What the AUROCs say, a line per control; `table` as `write_against_controls` returns it."""
    lines = []
    for row in table[table["score"] == "auroc"].itertuples():
        if row.difference != row.difference:
            lines.append(f"{row.control}: AUROC not defined")
            continue
        verdict = "beaten" if row.low > 0 else "NOT BEATEN by the networks, or not for certain"
        bounds = f" [{row.low:+.3f}, {row.high:+.3f}]" if row.low == row.low else ""
        lines.append(
            f"{row.control}: mean AUROC {row.value:.3f}, the networks' {row.networks:.3f}; "
            f"difference {row.difference:+.3f}{bounds}: {verdict}"
        )
    return "\n".join(lines) or "controls: not run"
