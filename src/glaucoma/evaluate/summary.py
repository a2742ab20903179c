"""Summarise the cross-validation: read each fold's results, describe them, pool the predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv, read_json
from glaucoma.base.params import Params
from glaucoma.evaluate.scores import ABNORMAL, COUNTS, NORMAL, SCORES
from glaucoma.model.log_odds import with_log_odds
from glaucoma.model.symptoms import FILE, read_symptoms

__all__ = [
    "HEADLINE",
    "MEAN",
    "POOLED",
    "SCORES",
    "SPLITS",
    "FoldResults",
    "describe",
    "estimate",
    "headline",
    "lacking",
    "read_folds",
    "read_index_metrics",
    "read_selection",
    "readable",
    "selection_note",
]

SPLITS = ("test", "valid")
MEAN, POOLED = "mean over folds", "pooled over folds"  # the estimand, and a secondary one for comparison
HEADLINE = ("auroc", "sensitivity_at_95_specificity", "sensitivity", "specificity", "f1_macro", "brier")
PREDICTIONS = ("image", "patient", "source", "split", "label", "predicted", "probability", "log_odds")


@dataclass(frozen=True)
class FoldResults:
    """The results of the folds.

    Attributes:
        folds: a row per fold; columns fold, then each score, count and `contamination` with `test_` and `valid_` in
            front. A score that is not defined in a fold is NaN.
        predictions: a row per prediction; columns fold, image, patient and source ("" if unknown), split, label,
            predicted, probability and log_odds (of abnormal).
        seconds: training time by fold, where a timing exists.
        stale: result files of folds that were not requested; they were not read.
        warnings: the folds' warnings, from `glaucoma.model.symptoms.read_symptoms`.
    """

    folds: pd.DataFrame
    predictions: pd.DataFrame
    seconds: pd.Series
    stale: list[Path]
    warnings: pd.DataFrame

    def pooled(self, split: str) -> pd.DataFrame:
        """All folds' predictions for a split; the columns of `predictions` without split."""
        chosen = self.predictions[self.predictions["split"] == split]
        return chosen.drop(columns="split").reset_index(drop=True)

    def contamination(self, *splits: str) -> float:
        """The highest share, over folds and these splits, of images that the initial weights had been trained on."""
        return float(self.folds[[f"{split}_contamination" for split in splits]].max().max())


def read_folds(folds: Sequence[int]) -> FoldResults:
    """Read the results of exactly these folds.

    Raises:
        DataError: a fold's scores or predictions are missing, damaged or from different runs.
    """
    folds = sorted(folds)
    missing = [str(f) for fold in folds for f in _result_files(fold) if not f.is_file()]
    if missing:
        listed = ", ".join(missing[:4]) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
        raise DataError(
            f"results of the cross-validation are missing: {listed}",
            "run `dvc repro`, or `dvc pull` where a remote holds them; or name fewer folds in crossval.folds",
        )
    rows, predictions, seconds = [], [], {}
    for fold in folds:
        rows.append(_fold_row(fold))
        predictions.append(_fold_predictions(fold, rows[-1]))
        timing = paths.fold_files(fold)["timing"]
        if timing.is_file():
            seconds[fold] = float(_json(timing, fold)["seconds"])
    asked = {paths.fold_files(fold)["metrics"] for fold in folds}
    return FoldResults(
        folds=pd.DataFrame(rows),
        predictions=pd.concat(predictions, ignore_index=True),
        seconds=pd.Series(seconds, name="seconds", dtype=float),
        stale=sorted(set(paths.FOLD_METRICS.glob("fold*.json")) - asked),
        warnings=read_symptoms(paths.fold_files(fold)["report"] / FILE for fold in folds),
    )


def read_index_metrics(path: Path) -> dict[str, int]:
    """Read metrics/index.json: images, normal, abnormal, files, folds.

    Raises:
        DataError: it is missing or damaged.
    """
    try:
        return read_json(path)
    except (FileNotFoundError, json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read: {error}", "make it again: `dvc repro --force index`") from None


def read_selection(folds: Sequence[int]) -> pd.DataFrame:
    """The configuration of each fold's stages: columns fold, stage, chosen_on, lr … epochs, others."""
    columns = ["fold", "stage", "chosen_on", "lr", "optimizer", "batch_size", "epochs"]
    files = {fold: paths.fold_files(fold)["report"] / "selection.csv" for fold in sorted(folds)}
    tables = [read_csv(file).assign(fold=fold) for fold, file in files.items() if file.is_file()]
    table = pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)
    first = [name for name in columns if name in table]  # a regression has no learning rate
    return table[[*first, *table.columns.difference(columns)]]


def selection_note(params: Params) -> str:
    """A sentence on which data the configurations were selected on."""
    own = "; the final configuration is that of params.yaml"
    if params.crossval.warm_start == "none":
        return f"selection: no stage is searched for the folds{own}"
    if params.search.nested:
        return f"selection: nested, stages 1 and 2 chosen by each fold within its own train split{own}"
    fold = params.search.fold
    return f"selection: stages 1 and 2 chosen on fold {fold} for all folds (search.nested: false){own}"


def describe(results: FoldResults) -> pd.DataFrame:
    """The report's last table: rows `test_accuracy` … `valid_contamination`; columns count, mean, std, min … max.

    Like pandas' `describe`: std with n - 1, quartiles by linear interpolation; count is the number of folds where the
    score is defined.
    """
    columns = [f"{split}_{score}" for split in SPLITS for score in (*SCORES, "contamination")]
    table = results.folds.reindex(columns=columns).astype(float).describe().T
    return table.astype({"count": int}).rename_axis("score")


def headline(results: FoldResults) -> dict[str, float | int]:
    """The content of metrics/summary.json: means over the folds, contamination, number of folds with warnings.

    At most 14 numbers; a score that is not defined in any fold is left out.
    """
    means = describe(results)["mean"]
    found = {f"{split}_{score}": float(means[f"{split}_{score}"]) for split in SPLITS for score in HEADLINE}
    found = {name: value for name, value in found.items() if not pd.isna(value)}
    return {**found, "contamination": results.contamination(*SPLITS), "warned_folds": results.warnings["of"].nunique()}


def readable(intervals: pd.DataFrame, contamination: float) -> str:
    """A compact table to print: the mean over the folds of each score with its 95 % interval, valid first.

    Args:
        intervals: from `glaucoma.evaluate.summary_tables.write_judgement`.
        contamination: the highest share of a fold's images that the initial weights had been trained on.
    """
    rows = intervals[intervals["estimand"] == MEAN].set_index(["split", "score"])
    lines = [f"{MEAN + ', with 95 % interval':<40}{'valid (held out)':>24}{'test (selects)':>24}"]
    for score in SCORES:
        cells = [estimate(rows.loc[(split, score)]) for split in ("valid", "test")]
        lines.append(f"  {score:<38}{cells[0]:>24}{cells[1]:>24}")
    lines.append(f"  contamination, highest of a fold: {contamination:.3f}")
    return "\n".join([*lines, *(f"  {line}" for line in lacking(intervals))])


def lacking(intervals: pd.DataFrame) -> list[str]:
    """A sentence per split in which resamples lack a class; `intervals` as for `readable`."""
    rows, lines = intervals[intervals["estimand"] == MEAN].set_index(["split", "score"])["resamples"], []
    for split in ("valid", "test"):
        most, few = int(rows.loc[split].max()), int(rows.loc[(split, "auroc")])
        if few < most:
            left = f"{most - few} of {most} resamples of {split} lack a class in a fold"
            lines.append(f"{left}; the intervals of scores that take both classes leave them out")
    return lines


def estimate(row: Mapping[str, Any]) -> str:
    """Format a score (value) with its interval (low, high): `0.912 [0.843, 0.951]`."""
    if row["value"] != row["value"]:
        return "not defined"
    around = f" [{row['low']:.3f}, {row['high']:.3f}]" if row["low"] == row["low"] else ""
    return f"{row['value']:.3f}{around}"


def _result_files(fold: int) -> list[Path]:
    files = paths.fold_files(fold)
    return [files["metrics"], files["report"] / "predictions.csv"]


def _fold_row(fold: int) -> dict[str, Any]:
    """One row of `FoldResults.folds`."""
    path = paths.fold_files(fold)["metrics"]
    found = _json(path, fold)
    row: dict[str, Any] = {"fold": fold}
    for split in SPLITS:
        try:
            part = found[split]
            row |= {f"{split}_{score}": _number(part.get(score)) for score in SCORES}
            row |= {f"{split}_{name}": part[name] for name in (*COUNTS, "contamination")}
        except (KeyError, TypeError, AttributeError) as error:
            raise _not_ours(path, fold, f"lacks {split}: {error}") from None
    return row


def _number(score: float | None) -> float:
    return float("nan") if score is None else score


def _fold_predictions(fold: int, row: dict[str, Any]) -> pd.DataFrame:
    """One fold's predictions, checked against its counts."""
    path = paths.fold_files(fold)["report"] / "predictions.csv"
    try:
        texts = dict.fromkeys(PREDICTIONS[:-2], str)
        table = with_log_odds(read_csv(path, dtype=texts))[list(PREDICTIONS)]
        table = table.fillna({"patient": "", "source": ""}).astype({"probability": float})
    except (KeyError, ValueError) as error:  # pandas' own reading errors are ValueErrors
        raise _not_ours(path, fold, f"is no table of predictions: {error}") from None
    if not set(table["label"]) | set(table["predicted"]) <= {NORMAL, ABNORMAL}:
        raise _not_ours(path, fold, f"names classes other than {NORMAL} and {ABNORMAL}")
    for split in SPLITS:
        listed = int((table["split"] == split).sum())
        if listed != row[f"{split}_n"]:
            why = f"lists {listed} {split} images where metrics count {row[f'{split}_n']}: not of one run"
            raise _not_ours(path, fold, why)
    table.insert(0, "fold", fold)
    return table


def _json(path: Path, fold: int) -> dict:
    try:
        return read_json(path)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise _not_ours(path, fold, f"is no JSON: {error}") from None


def _not_ours(path: Path, fold: int, why: str) -> DataError:
    return DataError(f"{path} {why}", f"make it again: `dvc repro --force --single-item crossval@{fold}`")
