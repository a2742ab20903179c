"""The scores in a few sentences."""

from __future__ import annotations

import pandas as pd

from glaucoma import paths
from glaucoma.evaluate.ladder import cheapest
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.report.page_parts import Missing, frame

__all__ = ["verdict"]

CHANCE = 0.5


def verdict() -> list[str] | Missing:
    """On the pooled test predictions: how many are correct, compared with chance and with the best shortcut."""
    counted, pooled = frame(paths.SUMMARY / "report_test.csv"), frame(paths.SUMMARY / "intervals.csv")
    for one in (counted, pooled):
        if isinstance(one, Missing):
            return one
    by_class = counted.set_index("class")
    told = []
    for condition in (ABNORMAL, NORMAL):
        of = round(by_class.at[condition, "support"])
        told.append(f"{round(by_class.at[condition, 'recall'] * of)} of {of} {condition} photographs")
    sentences = [f"At a threshold of 0.5, {' and '.join(told)} were classified correctly."]
    rows = pooled[(pooled["split"] == "test") & (pooled["score"] == "auroc")].dropna(subset=["value", "low", "high"])
    if rows.empty:
        return sentences
    row = rows.iloc[0]
    compared = "better than" if row.low > CHANCE else "worse than" if row.high < CHANCE else "not distinguishable from"
    interval = f"{row.value:.3f}, with a 95 % interval of {row.low:.3f} to {row.high:.3f}"
    sentences.append(f"The AUROC of all folds' test predictions is {interval}: {compared} chance.")
    return [*sentences, *_beside_shortcuts(row.low), *_beside_the_regression()]


def _beside_shortcuts(low: float) -> list[str]:
    probes = frame(paths.PROBES)
    if isinstance(probes, Missing):
        return []
    tried = probes[probes["target"] != "source"].dropna(subset=["auroc"])
    if tried.empty:
        return ["No shortcut could be tested; the reasons are below."]
    best = tried.loc[pd.to_numeric(tried["auroc"]).idxmax()]
    beaten = "the model beats it" if low > best.auroc else "the model is not shown to beat it"
    return [f"The best shortcut, {str(best.probe).replace('_', ' ')}, reaches {best.auroc:.3f}: {beaten}."]


def _beside_the_regression() -> list[str]:
    table = frame(paths.COST_QUALITY)
    chosen = None if isinstance(table, Missing) else cheapest(table)
    if chosen is None or chosen["rung"] != "regression":
        return []
    what = "The logistic regression on the frozen backbone's features is the cheapest model that is not worse"
    return [f"{what} (AUROC {chosen['auroc']:.3f} on valid, mean over the folds): use it, as models/controls."]
