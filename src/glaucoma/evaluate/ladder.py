"""Compare cost and quality: training time, inference speed and AUROC of each rung of the ladder.

The rungs are the thumbnail, the regression on frozen features, each fold's stages 1 and 2 and its final model (a
network or its own regression), and models 4 and 5 if they were trained. All are evaluated on the same held-out images
(`valid`).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv, read_json
from glaucoma.evaluate.controls import read_controls
from glaucoma.evaluate.intervals import RESAMPLES, Cases, arrays, bounds, difference_bounds, draws, independent
from glaucoma.evaluate.summary import FoldResults
from glaucoma.model.log_odds import with_log_odds

__all__ = [
    "COLUMNS",
    "MARGIN",
    "RUNGS",
    "cheapest",
    "cost_quality",
    "final_rung",
    "ladder_lines",
    "read_costs",
    "read_ladder",
]

MARGIN = 0.01  # non-inferiority margin of AUROC for a cheaper rung
RUNGS = {  # from the bottom up
    "thumbnail": "a regression on 7 × 7 pixels",
    "regression": "a regression on the frozen backbone's features",
    "folds_regression": "the folds' own regression on them, as params.yaml has it",
    "stage1": "the head trained",
    "stage2": "the end of the backbone trained too",
    "final": "the final network",
    "model4": "every layer, deeper head",
    "model5": "every layer, larger backbone",
}
FOLDS_REGRESSION = "folds_regression"  # the folds' final model with crossval.model: regression
CONTROLS = {"thumbnail": "thumbnail", "regression_average": "regression"}  # rung of each control that is one
PREDICTED = ["fold", "image", "patient", "label", "log_odds"]
COLUMNS = ["rung", "folds", "images", "seconds", "images_per_second", "auroc", "low", "high"]
COLUMNS += ["difference", "difference_low", "difference_high", "verdict"]
BEST, EQUAL, OPEN, WORSE = "best", "not worse", "open", "worse"


def final_rung(model: str) -> str:
    """The rung of the folds' final model; `model` is `crossval.model`."""
    return FOLDS_REGRESSION if model == "regression" else model


def read_ladder(results: FoldResults, final: str = "final") -> pd.DataFrame:
    """The predictions of every rung for the held-out images.

    Args:
        results: of the folds.
        final: the rung of the folds' final model, from `final_rung`.

    Returns:
        Columns rung, fold, image, patient ("" if unknown), label, log_odds (of abnormal); the rungs of this run, in the
        order of `RUNGS`.

    Raises:
        DataError: a rung and the folds' final models predict different images.
    """
    ours = results.pooled("valid")[PREDICTED]
    folds = ours["fold"].unique().tolist()
    found = {final: ours}
    controls = read_controls(folds)
    for control, rung in CONTROLS.items():
        part = controls[(controls["control"] == control) & (controls["split"] == "valid")]
        found[rung] = _alike(part, ours, paths.CONTROLS, "controls")
    parts = {fold: _kept(paths.fold_files(fold)["report"]) for fold in folds}
    for stage in ("stage1", "stage2"):
        tables = [
            _alike(part[part["rung"] == stage].assign(fold=fold), ours, paths.fold_files(fold)["report"], "crossval")
            for fold, part in parts.items()
        ]
        found[stage] = pd.concat(tables)
    for model in paths.FREE:
        if model != final:
            found[model] = _alike(
                _kept(paths.search_files(model)["report"]), ours, paths.search_files(model)["report"], model
            )
    return pd.concat([found[rung].assign(rung=rung) for rung in RUNGS if len(found.get(rung, ()))])[
        ["rung", *PREDICTED]
    ].reset_index(drop=True)


def read_costs(folds: list[int], final: str = "final") -> pd.DataFrame:
    """The cost of every rung: rung, seconds (training per fold, mean), images_per_second (median).

    Seconds include the lower rungs that a rung is built on and one pass of the train images through the frozen layers,
    but not the search for its configuration. NaN where nothing was measured.
    """
    rows: list[tuple[str, Any, Any]] = []
    for control, told in _json(paths.TIMING / "controls.json").items():
        rows.append((CONTROLS.get(control, control), told["seconds"], told["images_per_second"]))
    for fold in folds:
        told = _json(paths.fold_files(fold)["timing"])
        for rung, seconds in told.get("ladder", {}).items():
            rows.append((final if rung == "final" else rung, seconds, told["images_per_second"]))
    for model in paths.FREE:
        if model != final and (told := _json(paths.cost_file(model))):
            rows.append((model, told["seconds"], told["images_per_second"]))
    table = pd.DataFrame(rows, columns=["rung", "seconds", "images_per_second"])
    return table.groupby("rung", as_index=False).agg({"seconds": "mean", "images_per_second": "median"})


def cost_quality(
    predictions: pd.DataFrame,
    costs: pd.DataFrame,
    *,
    seed: int,
    resamples: int = RESAMPLES,
    clusters: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Combine costs with AUROCs: the mean over folds of each fold's AUROC, with intervals by paired bootstrap.

    The best rung has the highest mean AUROC among rungs with all folds. The others are compared with it on their own
    folds. Whole patients and photographs are resampled, the same ones for all rungs. Selecting the best is optimistic,
    so the others look slightly worse than they are.

    Args:
        predictions: from `read_ladder`.
        costs: from `read_costs`.
        seed: of the bootstrap.
        resamples: number of resamples.
        clusters: the photograph of each image that has copies, by content id.

    Returns:
        A row per rung in the order of `RUNGS`, `COLUMNS`: its folds and their images, costs, AUROC with its 95 %
        interval, difference to the best with its interval; and the verdict: `best`, `not worse` (the interval excludes
        a loss of more than `MARGIN`), `worse` (it excludes any smaller loss), `open` (it includes both). Empty cells
        are unknown or undefined.
    """
    rungs = [rung for rung in RUNGS if rung in set(predictions["rung"])]
    base = predictions.drop_duplicates(["fold", "image"]).sort_values(["fold", "image"], ignore_index=True)
    key = pd.MultiIndex.from_frame(base[["fold", "image"]])
    abnormal, _ = arrays(base)
    groups, folds = independent(base, clusters), base["fold"].to_numpy()
    log_odds = {}
    for rung, part in predictions.groupby("rung"):
        log_odds[rung] = part.set_index(["fold", "image"])["log_odds"].reindex(key).to_numpy(float)
    of_fold = {fold: np.flatnonzero(folds == fold) for fold in np.unique(folds)}
    once = np.ones((1, len(base)), dtype=np.int32)
    drawn: dict[str, list[np.ndarray]] = {rung: [] for rung in rungs}
    for weights in (once, *draws(groups, seed, resamples)):
        for rung in rungs:
            each = [_auroc(abnormal[i], log_odds[rung][i], weights[:, i]) for i in of_fold.values()]
            drawn[rung].append(np.stack(each))
    found = {rung: np.concatenate(parts, axis=1) for rung, parts in drawn.items()}  # (folds, 1 + resamples)
    has = {rung: np.array([np.isfinite(log_odds[rung][i]).all() for i in of_fold.values()]) for rung in rungs}
    whole = {rung: _mean(found[rung], has[rung])[0] for rung in rungs if has[rung].all()}
    best = max(whole, key=lambda rung: -1 if np.isnan(whole[rung]) else whole[rung], default=None)
    by_rung = costs.set_index("rung")
    rows = []
    for rung in rungs:
        own = _mean(found[rung], has[rung])
        cases = _cases(abnormal, groups, np.isfinite(log_odds[rung]))
        low, high, _ = bounds("auroc", own[0], own[1:], cases)
        apart = own - _mean(found[best], has[rung]) if best else np.full_like(own, np.nan)
        between = _between(apart, cases)
        rows.append({
            "rung": rung,
            "folds": int(has[rung].sum()),
            "images": int(np.isfinite(log_odds[rung]).sum()),
            **{name: by_rung[name].get(rung, np.nan) for name in ("seconds", "images_per_second")},
            "auroc": own[0],
            "low": low,
            "high": high,
            "difference": apart[0],
            "difference_low": between[0],
            "difference_high": between[1],
            "verdict": BEST if rung == best else _verdict(*between),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=COLUMNS)


def cheapest(table: pd.DataFrame) -> pd.Series | None:
    """The rung with the lowest training cost among those that have all folds and are not worse than the best.

    Args:
        table: from `cost_quality`.

    Returns:
        Its row; None if no rung's AUROC is defined. Without timings, lower rungs count as cheaper.
    """
    whole = table[(table["folds"] == table["folds"].max()) & table["auroc"].notna()]
    fit = whole[whole["verdict"].isin((BEST, EQUAL))]
    if fit.empty:
        return None
    return fit.iloc[0] if fit["seconds"].isna().any() else fit.loc[fit["seconds"].idxmin()]


def ladder_lines(table: pd.DataFrame) -> list[str]:
    """Summarise a table from `cost_quality` in sentences; the first names the recommended rung."""
    chosen = cheapest(table)
    if chosen is None:
        return ["cost and quality: no rung's AUROC is defined on valid"]
    best = table[table["verdict"] == BEST].iloc[0]
    what = f"{chosen['rung']} ({RUNGS[chosen['rung']]}), AUROC {_with_interval(chosen)}{_cost(chosen)}"
    lines = [f"the cheapest rung that is shown not to be worse than the best by more than {MARGIN} on valid: {what}"]
    if chosen["rung"] != best["rung"]:
        lines[0] += f"; the best is {best['rung']}, AUROC {best['auroc']:.3f}{_cost(best)}"
    own = FOLDS_REGRESSION in set(table["rung"])
    if chosen["rung"] == "regression":
        gain = "C and flips of the folds' own regression gain" if own else "training the network gains"
        lines.append(f"take it, by glaucoma predict controls PHOTOGRAPHS: {gain} {MARGIN} at most")
    elif chosen["rung"] == FOLDS_REGRESSION:
        lines.append("take it, by glaucoma predict crossval PHOTOGRAPHS: no network is trained for the folds")
    elif chosen["rung"] == "thumbnail":
        lines.append("a thumbnail is enough to tell the label here: look for a shortcut in the photographs first")
    left = table[(table["verdict"] == OPEN) & (table["folds"] == table["folds"].max())]
    cheap = left[left["seconds"] < chosen["seconds"]] if left["seconds"].notna().all() else left
    for row in cheap.to_dict("records"):
        interval = f"{row['difference']:+.3f} [{row['difference_low']:+.3f}, {row['difference_high']:+.3f}]"
        lines.append(
            f"{row['rung']} is cheaper{_cost(row)}, and these images leave open whether it is worse by more than "
            f"{MARGIN}: difference {interval}"
        )
    return lines


def _auroc(abnormal: np.ndarray, log_odds: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The AUROC of images under many weightings, as the Mann-Whitney statistic: float64 (resamples,)."""
    apart = log_odds[abnormal][:, None] - log_odds[~abnormal]
    wins = (apart > 0) + 0.5 * (apart == 0) + np.where(np.isnan(apart), np.nan, 0.0)
    of = weights[:, abnormal].astype(float), weights[:, ~abnormal].astype(float)
    with np.errstate(invalid="ignore"):
        return ((of[0] @ wins) * of[1]).sum(axis=1) / (of[0].sum(axis=1) * of[1].sum(axis=1))


def _mean(aurocs: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Mean over these folds except those that lack a class; NaN in resamples where one of the others lacks a class."""
    rows = aurocs[folds & np.isfinite(aurocs[:, 0])]
    return rows.mean(axis=0) if len(rows) else np.full(aurocs.shape[1], np.nan)


def _cases(abnormal: np.ndarray, groups: np.ndarray, rows: np.ndarray) -> Cases:
    """Independent groups among some rows: with an abnormal image, with a normal one, and all."""
    return Cases(*(len(np.unique(groups[rows & of])) for of in (abnormal, ~abnormal, rows)))


def _between(apart: np.ndarray, cases: Cases) -> tuple[float, float]:
    """The interval of a difference, the first, from its resamples; without a width if two rungs predict the same."""
    if not apart[np.isfinite(apart)].any():
        return float(apart[0]), float(apart[0])
    return difference_bounds("auroc", float(apart[0]), apart[1:], cases)


def _verdict(low: float, high: float) -> str:
    return EQUAL if low >= -MARGIN else WORSE if high < -MARGIN else OPEN


def _with_interval(row: Mapping[str, Any]) -> str:
    interval = f" [{row['low']:.3f}, {row['high']:.3f}]" if row["low"] == row["low"] else ""
    return f"{row['auroc']:.3f}{interval}"


def _cost(row: Mapping[str, Any]) -> str:
    return f", {row['seconds']:.3g} s of training a fold" if row["seconds"] == row["seconds"] else ""


def _kept(report: Path) -> pd.DataFrame:
    """The `valid` predictions in `ladder.csv` of a report's folder.

    Raises:
        DataError: an older release wrote them.
    """
    file = report / "ladder.csv"
    if not file.is_file():
        return pd.DataFrame(columns=["rung", "split", *PREDICTED])
    table = read_csv(file, dtype={"image": str, "patient": str}).fillna({"patient": ""})
    try:
        return with_log_odds(table[table["split"] == "valid"])
    except ValueError as error:
        raise DataError(f"{file} is no table of predictions: {error}", "make it again: `dvc repro`") from None


def _alike(table: pd.DataFrame, ours: pd.DataFrame, where: Path, stage: str) -> pd.DataFrame:
    """Columns `PREDICTED` of a table, after checking that it has exactly the images of its folds."""
    table = table[table["fold"].isin(ours["fold"])][PREDICTED]
    keys = ["fold", "image", "label"]
    both = [one[one["fold"].isin(table["fold"])].sort_values(keys)[keys].to_numpy().tolist() for one in (table, ours)]
    if both[0] != both[1]:
        remedy = "`dvc repro` makes it again" if stage == "crossval" else f"make it again: `dvc repro -f {stage}`"
        raise DataError(f"{where} holds predictions of other images than the folds' models", remedy)
    return table


def _json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}
