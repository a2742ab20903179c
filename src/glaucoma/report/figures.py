"""reports/figures/: the figures of the data, the audit, the searches, the folds and the summary, from their files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import many
from glaucoma.base.files import read_csv, read_json
from glaucoma.base.index import copies_note, distinct, named_sources, read_index
from glaucoma.base.params import Params
from glaucoma.evaluate.summary import MEAN, SPLITS, FoldResults, read_folds
from glaucoma.evaluate.usefulness import miss_range
from glaucoma.report.data_charts import (
    appearance_chart,
    folds_chart,
    overlap_chart,
    sizes_chart,
    sources_chart,
    splits_chart,
)
from glaucoma.report.probe_figures import probes_chart
from glaucoma.report.review_figures import calibration_figure, labels_sheet, predictive_figure
from glaucoma.report.score_figures import (
    decision_figure,
    folds_figure,
    intervals_figure,
    ladder_figure,
    pooled_note,
    precision_recall_figure,
    reliability_figure,
    roc_figure,
    seen_note,
)
from glaucoma.report.sheets import (
    crops_figure,
    duplicates_figure,
    groups_figure,
    mosaic_figure,
    offenders_figure,
    read_sheet,
)
from glaucoma.report.training_figures import confusion_figure, learning_curves

__all__ = ["draw_found", "write_figures"]

SEARCHES = ("stage1", "stage2", "stage3", *paths.FREE)


def write_figures(params: Params) -> None:
    """Draw all that is there into reports/figures/: a search or a fold that was not run is left out.

    Raises:
        DataError: a fold of crossval.folds lacks its files, as `glaucoma.evaluate.summary.read_folds` says.
    """
    if paths.INDEX.is_file() and paths.EXPLORE.is_dir():
        _data(params)
    if (paths.AUDIT / "findings.csv").is_file():
        draw_found(paths.AUDIT, paths.AUDIT, paths.DATA_FIGURES)
    for name in SEARCHES:
        files = paths.search_files(name)
        if files["metrics"].is_file():
            best = read_json(files["metrics"])["best"]
            _training(files["report"], name, f"{name}, winner: {_listed(best)}")
    for fold in params.crossval.folds:
        _training(paths.fold_files(fold)["report"], f"fold{fold}", f"fold {fold}")
    if (paths.SUMMARY / "intervals.csv").is_file():
        _summary(read_folds(params.crossval.folds), params.search.miss_cost)


def draw_found(tables: Path, sheets: Path, figures: Path) -> None:
    """Draw what the audit found: offenders.png, duplicates.png and probes.png; those of an earlier audit are removed.

    Args:
        tables: folder of probes.csv.
        sheets: folder of the contact sheets.
        figures: to write to.
    """
    _draw(offenders_figure, read_sheet(sheets / "offenders"), figures / "offenders.png")
    _draw(duplicates_figure, read_sheet(sheets / "pairs"), figures / "duplicates.png")
    _draw(probes_chart, read_csv(tables / paths.PROBES.name), figures / "probes.png")


def _draw(figure: Callable[..., None], rows: pd.DataFrame, path: Path, *about: Any) -> None:
    """Draw a figure of some rows; without rows, remove that of an earlier run."""
    if rows.empty:
        path.unlink(missing_ok=True)
    else:
        figure(rows, path, *about)


def _data(params: Params) -> None:
    """Draw the photographs and what was counted."""
    index, tables, figures = read_index(paths.INDEX), paths.EXPLORE, paths.DATA_FIGURES
    note, sources = copies_note(index), len(named_sources(index))
    splits_chart(read_csv(tables / "condition_by_split.csv"), figures / "condition_by_split.png", note)
    folds_chart(read_csv(tables / "folds.csv"), figures / "folds.png", note)
    sizes_chart(index, figures / "sizes.png", params.data.image_size)
    overlap_chart(read_csv(tables / "overlap.csv"), figures / "overlap.png", note)
    looks = read_csv(tables / "appearance.csv", dtype={"image": str, "source": str}).fillna({"source": ""})
    appearance_chart(looks, figures / "appearance.png")
    if sources > 1:
        sources_chart(index, figures / "sizes_by_source.png")
    _draw(mosaic_figure, read_sheet(tables / "mosaic"), figures / "mosaic.png", note)
    first = f"fold {index['fold'].min()}"
    _draw(groups_figure, read_sheet(tables / "mosaic_split"), figures / "mosaic_split.png", "split", first)
    sourced = read_sheet(tables / "mosaic_source")
    most = 0 if sourced.empty else sourced["group"].nunique()
    less = f", the largest {most} of {sources} sources" if most < sources else ""
    _draw(groups_figure, sourced, figures / "mosaic_source.png", "source", f"all folds{less}")
    cropped = read_sheet(tables / "crops")
    boxes = cropped if cropped.empty else read_csv(paths.CROPS)
    sizes = distinct(index).set_index("image")[["width", "height"]]
    _draw(crops_figure, cropped, figures / "crops.png", boxes, sizes, params.data.crop)


def _training(folder: Path, name: str, title: str) -> None:
    """Draw the learning curves and confusion matrices of one training."""
    if (folder / "history.csv").is_file():
        learning_curves(read_csv(folder / "history.csv"), paths.FIGURES / f"{name}_curves.png", title)
    for split in SPLITS:
        if (file := folder / f"confusion_{split}.csv").is_file():
            confusion_figure(_counts(file), paths.FIGURES / f"{name}_confusion_{split}.png", f"{title}: {split}")


def _summary(results: FoldResults, miss: float) -> None:
    """Draw all folds together."""
    tables, figures = paths.SUMMARY, paths.FIGURES
    for split in SPLITS:
        note = pooled_note(results.pooled(split), results.contamination(split))
        name = "confusion" if split == "test" else f"confusion_{split}"
        title = f"Cross-validation, {split} splits pooled"
        confusion_figure(_counts(tables / f"{name}.csv"), figures / f"{name}.png", title, note)
    test = results.pooled("test")
    roc_figure(test, figures / "roc.png", "ROC of the test splits", pooled_note(test, results.contamination("test")))
    seen = seen_note(results.contamination(*SPLITS))
    folds = f"Scores of {many(len(results.folds), 'fold')}"
    note = "Markers: folds; lines: their means (± standard deviation)" + seen
    folds_figure(results.folds, figures / "folds.png", folds, note)

    seen = seen.strip()
    around = read_csv(tables / "intervals.csv")
    title = "Means over the folds of each fold's scores"
    intervals_figure(around[around["estimand"] == MEAN], figures / "intervals.png", title, seen)
    precision_recall_figure(test, figures / "precision_recall.png", "Precision and recall of the test splits", seen)
    note = "valid predictions, calibration fitted on test" + (f"\n{seen}" if seen else "")
    title = "Do probabilities mean what they say?"
    reliability_figure(read_csv(tables / "reliability.csv"), figures / "reliability.png", title, note)
    parts = [read_csv(tables / f"{name}.csv") for name in ("calibration_curve", "probabilities", "agreement")]
    calibration_figure(  # type: ignore[call-arg]
        *parts, figures / "calibration_curve.png", "Calibration, and the probabilities of each class", note
    )
    net, wins = read_csv(tables / "net_benefit.csv"), []
    for row in net[net["at"] == "range"].to_dict("records"):
        around = f" [{row['low']:+.3f}, {row['high']:+.3f}]" if row["low"] == row["low"] else ""
        wins.append(f"{'as predicted' if row['method'] == 'none' else row['method']} {row['more']:+.3f}{around}")
    told = f"{note}\nIn the marked range, more than the better of referring all and no one: {'; '.join(wins)}"
    title = "Decision curve: is the model worth acting on?"
    curves = read_csv(tables / "decision_curve.csv")
    decision_figure(curves, figures / "decision_curve.png", title, told, miss_range(miss))
    told = "Sensitivity and specificity of valid, thresholds chosen on test; bars: 95 % intervals"
    title = "What a call means where fewer are ill"
    predictive_figure(read_csv(tables / "predictive_values.csv"), figures / "predictive_values.png", title, told)
    ladder_figure(read_csv(paths.COST_QUALITY), figures / "cost_quality.png")
    _labels()


def _labels() -> None:
    """Draw the labels to look at again, if there are any and the pixels are there."""
    issues = read_csv(paths.SUMMARY / "label_issues.csv").fillna({"suggested": "", "nearest": ""})
    if (issues["suggested"] != "").any() and paths.PIXELS.is_file() and paths.PIXELS_TABLE.is_file():
        table = read_csv(paths.PIXELS_TABLE, dtype=str)
        rows, files = (dict(zip(table["image"], of, strict=True)) for of in (range(len(table)), table["path"]))
        labels_sheet(issues, np.load(paths.PIXELS, mmap_mode="r"), rows, files, paths.FIGURES / "label_issues.png")


def _counts(file: Path) -> pd.DataFrame:
    """A confusion matrix: rows are true classes, columns predicted ones."""
    table = read_csv(file)
    return table.set_index(table.columns[0])


def _listed(configuration: dict) -> str:
    return " ".join(f"{name} {value}" for name, value in configuration.items())
