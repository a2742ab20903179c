"""Write the summary's tables: intervals, thresholds, calibration, net benefit, failures."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.base import paths
from glaucoma.base.files import read_csv, write_csv, write_json
from glaucoma.base.index import KNOWN, distinct, read_index
from glaucoma.base.params import Params
from glaucoma.dataset.splits import read_clusters
from glaucoma.evaluate.agreement import agreement, by_class, curve
from glaucoma.evaluate.calibration import reliability
from glaucoma.evaluate.controls import read_controls
from glaucoma.evaluate.decisions import METHODS, calibration_table, decision_curve, decisions, rules, thresholds_table
from glaucoma.evaluate.intervals import arrays, independent, intervals
from glaucoma.evaluate.label_errors import label_issues
from glaucoma.evaluate.ladder import cost_quality, final_rung, read_costs, read_ladder
from glaucoma.evaluate.over_folds import mean_intervals, mean_roc
from glaucoma.evaluate.scores import ABNORMAL, classification_report
from glaucoma.evaluate.subgroups import qualities, slices, subgroup_scores, worst_errors
from glaucoma.evaluate.summary import MEAN, POOLED, SPLITS, FoldResults, read_selection
from glaucoma.evaluate.usefulness import net_benefit, operating_points, precision, predictive_values

__all__ = ["write_curves", "write_judgement", "write_ladder"]


def write_judgement(results: FoldResults, params: Params) -> pd.DataFrame:
    """Write metrics/intervals.json and the tables of pooled predictions in reports/summary/.

    Args:
        results: of the folds.
        params: `seed`, `search.miss_cost` and `thresholds` are used.

    Returns:
        The intervals: columns estimand (`MEAN`, then `POOLED`), split (`valid` first, because `test` selects), score,
        value, low, high, n, groups, resamples, method.
    """
    clusters = read_clusters() if paths.INDEX.is_file() else {}
    folder, predictions = paths.SUMMARY, results.predictions
    table = _intervals(results, params.seed, clusters)
    write_csv(folder / "intervals.csv", table)
    write_csv(folder / "selection.csv", read_selection(results.folds["fold"].tolist()))

    wanted = rules(params.thresholds.sensitivity, params.thresholds.specificity)
    found = decisions(predictions, params.search.miss_cost, wanted, clusters)
    write_json(paths.DECISIONS["crossval"], found)
    regression = read_controls(results.folds["fold"].tolist())
    regression = regression[regression["control"] == paths.REGRESSION]
    if len(regression):
        write_json(paths.DECISIONS["controls"], decisions(regression, params.search.miss_cost, wanted, clusters))
    write_csv(folder / "thresholds.csv", thresholds_table(predictions, found))
    judged, valid = calibration_table(predictions, found)
    abnormal = (valid["label"] == ABNORMAL).to_numpy()
    write_csv(folder / "calibration.csv", judged)
    curves = {method: (abnormal, valid[method].to_numpy()) for method in METHODS}
    for name, make in (("reliability", reliability), ("decision_curve", decision_curve)):
        tables = [make(*arrays).assign(method=method) for method, arrays in curves.items()]
        write_csv(folder / f"{name}.csv", pd.concat(tables))
    groups = independent(valid, clusters)
    for file, measure, *more in (
        ("agreement.csv", agreement, groups),
        ("calibration_curve.csv", curve, groups),
        ("probabilities.csv", by_class),
        ("net_benefit.csv", net_benefit, groups, params.search.miss_cost),
    ):
        tables = [measure(*arrays, *more).assign(method=method) for method, arrays in curves.items()]
        write_csv(folder / file, pd.concat(tables))
    points = operating_points(predictions, found, clusters)
    write_csv(folder / "operating_points.csv", points)
    write_csv(folder / "predictive_values.csv", predictive_values(points))
    images = valid.drop_duplicates("image")["label"].eq(ABNORMAL)
    held_out = table[(table["estimand"] == MEAN) & (table["split"] == "valid")]
    write_csv(folder / "precision.csv", precision(held_out, int(images.sum()), int((~images).sum())))
    about, by = _about(results.pooled("test"))
    write_csv(folder / "subgroups.csv", subgroup_scores(about, by, seed=params.seed, clusters=clusters))
    write_csv(folder / "slices.csv", slices(about, by, seed=params.seed, clusters=clusters))
    write_csv(folder / "worst.csv", worst_errors(about))
    near = read_csv(paths.NEIGHBOURS) if paths.NEIGHBOURS.is_file() else None
    write_csv(folder / "label_issues.csv", label_issues({"networks": predictions, paths.REGRESSION: regression}, near))
    return table


def write_curves(results: FoldResults) -> None:
    """Write what page and `dvc plots diff` draw of the folds' models on `valid`.

    roc.csv has the mean of the folds' ROC curves, roc_controls.csv that of each control; calibrated.csv the share of
    abnormal images by predicted probability, pooled over folds, empty tenths left out.

    Raises:
        DataError: the controls cannot be read.
    """
    valid = results.pooled("valid")
    write_csv(paths.SUMMARY / "roc.csv", mean_roc(valid))
    told = read_controls(results.folds["fold"].tolist())
    parts = told[told["split"] == "valid"].groupby("control", sort=True)
    tables = [pd.DataFrame(columns=["control", "false_alarms", "sensitivity"])]
    tables += [mean_roc(part).assign(control=control)[tables[0].columns] for control, part in parts]
    write_csv(paths.SUMMARY / "roc_controls.csv", pd.concat(tables[1:] or tables, ignore_index=True))
    tenths = reliability((valid["label"] == ABNORMAL).to_numpy(), valid["probability"].to_numpy())
    write_csv(paths.SUMMARY / "calibrated.csv", tenths[tenths["n"] > 0][["probability", "abnormal", "n"]])


def write_ladder(results: FoldResults, params: Params) -> pd.DataFrame:
    """Write cost_quality.csv: the cost of each rung of the ladder and its quality on `valid`.

    Args:
        results: of the folds.
        params: `seed` and `crossval.model` are used.

    Returns:
        The table from `glaucoma.evaluate.ladder.cost_quality`.

    Raises:
        DataError: a rung and the folds predict different images.
    """
    clusters = read_clusters() if paths.INDEX.is_file() else {}
    final = final_rung(params.crossval.model)
    costs = read_costs(results.folds["fold"].tolist(), final)
    table = cost_quality(read_ladder(results, final), costs, seed=params.seed, clusters=clusters)
    write_csv(paths.COST_QUALITY, table)
    return table


def _intervals(results: FoldResults, seed: int, clusters: Mapping[str, str]) -> pd.DataFrame:
    """The intervals of both splits; also writes metrics/intervals.json, with null for undefined scores."""
    tables = []
    told: dict[str, Any] = {}
    for estimand, found_by in ((MEAN, mean_intervals), (POOLED, intervals)):
        told[estimand.replace(" ", "_")] = of = {}
        for split in reversed(SPLITS):
            table = found_by(results.pooled(split), seed=seed, clusters=clusters)
            tables.append(table.assign(estimand=estimand, split=split))
            of[split] = {
                row.score: {name: _plain(getattr(row, name)) for name in ("value", "low", "high")}
                for row in table.itertuples()
            }
    for split in SPLITS:
        abnormal, log_odds = arrays(results.pooled(split))
        report = classification_report(abnormal, log_odds=log_odds)
        write_csv(paths.SUMMARY / f"report_{split}.csv", report.rename_axis("class").reset_index())
    write_json(paths.INTERVALS, told)
    whole = pd.concat(tables, ignore_index=True)
    return whole[["estimand", "split", *[name for name in whole if name not in ("estimand", "split")]]]


def _about(predictions: pd.DataFrame) -> tuple[pd.DataFrame, list[str]]:
    """Predictions joined with each image's attributes, and the columns to group them by."""
    by = ["source"]
    if paths.INDEX.is_file():
        known = distinct(read_index(paths.INDEX))
        more = [name for name in KNOWN if name in known and name not in predictions]
        if "age" in known:  # to be cut into thirds
            known["age"] = pd.to_numeric(known["age"], errors="coerce")
        known["size"] = known[["width", "height"]].min(axis=1).astype(float)  # pixels of the shorter side
        predictions = predictions.merge(known[["image", "path", "size", *more]], on="image", how="left")
        by += [*more, "size"]
    if paths.PIXELS.is_file() and paths.PIXELS_TABLE.is_file():
        measured = qualities(np.load(paths.PIXELS, mmap_mode="r"))
        measured.insert(0, "image", read_csv(paths.PIXELS_TABLE, usecols=["image"])["image"])
        predictions = predictions.merge(measured, on="image", how="left")
        by += ["brightness", "sharpness"]
    return predictions, by


def _plain(value: float) -> float | None:
    return None if value != value else float(value)
