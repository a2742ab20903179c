"""The page's first screen: a question, its answer in a sentence, four numbers, ROC curves, and six photographs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.params import Params
from glaucoma.evaluate.ladder import FOLDS_REGRESSION, cheapest
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.evaluate.summary import MEAN
from glaucoma.report.page_parts import Missing, Picture, frame, json_or_missing

__all__ = [
    "CHANCE",
    "Number",
    "answer",
    "curves",
    "examples",
    "intervals_table",
    "mean_of",
    "numbers",
    "question",
    "verdict",
]

CHANCE = 0.5
INTERVALS = paths.SUMMARY / "intervals.csv"
NUMBERS = {
    "auroc": ("AUROC", "how often an abnormal photograph is ranked above a normal one; 0.5 is chance"),
    "sensitivity": ("Sensitivity", "of abnormal photographs are called abnormal, at a threshold of 0.5"),
    "specificity": ("Specificity", "of normal photographs are called normal, at a threshold of 0.5"),
    "brier": ("Brier score", "the mean squared error of the probabilities: 0 is best, 0.25 is always saying one half"),
}
CONTROLS = {  # those drawn beside the models, and how
    paths.REGRESSION: ("control", "Control: regression on frozen features"),
    "shortcut": ("shortcut", "Shortcut: the audit's strongest trait"),
    "thumbnail": ("pixels", "Regression on 7 × 7 pixels"),
}


class Number(NamedTuple):
    """A score of the first screen: its name, value and 95 % interval (0–1, None: not defined), and what it is."""

    name: str
    value: float
    low: float | None
    high: float | None
    meaning: str


class Curve(NamedTuple):
    """A ROC curve: `model`, `control`, `shortcut` or `pixels`, its name, AUROC and path in a square of 100 × 100."""

    kind: str
    name: str
    auroc: float
    path: str


def intervals_table() -> pd.DataFrame | Missing:
    """reports/summary/intervals.csv, the mean over folds and the pooled predictions."""
    found = frame(INTERVALS)
    if isinstance(found, Missing) or "estimand" in found:
        return found
    return Missing("reports/summary/intervals.csv is of an older release.")


def mean_of(split: str, score: str) -> pd.Series | None:
    """The row of a score's mean over folds; None where it is not defined."""
    found = intervals_table()
    if isinstance(found, Missing):
        return None
    rows = found[(found["estimand"] == MEAN) & (found["split"] == split) & (found["score"] == score)]
    rows = rows.dropna(subset=["value"])
    return rows.iloc[0] if len(rows) else None


def question(params: Params) -> str:
    """What the page answers."""
    regression = params.crossval.model == "regression"
    backbone = (getattr(params, params.crossval.model) if params.crossval.model in paths.FREE else params).backbone.name
    model = f"a regression on {backbone}'s features" if regression else backbone
    eyes = "synthetic eyes" if _synthetic(params) else "eyes"
    return f"Can {model} tell {ABNORMAL} from {NORMAL} {eyes} that it has not seen?"


def _synthetic(params: Params) -> bool:
    return Path(params.data.root) == paths.SAMPLE


def answer(params: Params) -> str | Missing:
    """The verdict in one plain sentence, on the photographs that folds hold out; what speaks against it comes first."""
    found = intervals_table()
    if isinstance(found, Missing):
        return found
    row, of = mean_of("valid", "auroc"), " of synthetic eyes" if _synthetic(params) else ""
    if row is None or row["low"] != row["low"]:
        return "Not known: on the held-out photographs no AUROC with an interval is defined."
    checks, summary = json_or_missing(paths.CONTROLS_METRICS), json_or_missing(paths.SUMMARY_METRICS)
    if not isinstance(checks, Missing) and not checks["permuted_average"]["at_chance"]:
        reached = f"{checks['permuted_average']['test_auroc']:.3f} where {CHANCE} is chance"
        return (
            f"Not to be trusted: models that were trained on shuffled labels reach an AUROC of {reached}, "
            "so photographs of test have been trained on."
        )
    pairs = f"in {_in_100(row['value'])} of 100 pairs{of} it ranks the abnormal photograph above the normal one"
    pairs += f" (95 % interval {_in_100(row['low'])} to {_in_100(row['high'])})"
    if row["high"] < CHANCE:
        return f"No, it does worse than chance (50): {pairs}."
    if row["low"] <= CHANCE:
        return f"Not shown: {pairs}, which cannot be told from chance (50)."
    seen = 0 if isinstance(summary, Missing) else summary.get("contamination", 0)
    if seen > 0:
        share = max(1, round(100 * seen))
        return f"Perhaps: {pairs}, but its starting weights had seen up to {share} % of a fold's images."
    beside, _ = _beside_shortcuts()
    if beside is None:
        return f"Yes, as far as it goes without a shortcut to compare it with: {pairs}, better than chance (50)."
    shortcut = f"the best shortcut ({beside.name}, {_in_100(beside.auroc)})"
    if not beside.beaten:
        return f"Not for certain: {pairs}, but it is not shown to beat {shortcut}."
    control = "" if params.crossval.model == "regression" else _beside_the_control()
    return f"Yes: {pairs}, better than chance (50) and than {shortcut}{control}."


def _beside_the_control() -> str:
    """Whether networks are shown to beat the regression on frozen features, as the end of a sentence."""
    controls = frame(paths.SUMMARY / "controls.csv")
    if isinstance(controls, Missing) or "split" not in controls:
        return ""
    of = (controls["control"] == paths.REGRESSION) & (controls["split"] == "valid") & (controls["score"] == "auroc")
    row = controls[of].dropna(subset=["low"])
    if row.empty or row["low"].iloc[0] > 0:
        return ""
    return f"; it is not shown to beat a regression on frozen features ({_in_100(row['value'].iloc[0])})"


def _in_100(share: float) -> str:
    return f"{100 * share:.{1 if 0.985 < share < 1 else 0}f}"


def numbers() -> list[Number]:
    """The four numbers of the first screen: means over the folds on `valid`; those that are defined."""
    rows = {score: mean_of("valid", score) for score in NUMBERS}
    return [
        Number(
            NUMBERS[score][0],
            *(None if row[name] != row[name] else float(row[name]) for name in ("value", "low", "high")),
            NUMBERS[score][1],
        )
        for score, row in rows.items()
        if row is not None
    ]


def curves() -> list[Curve] | Missing:
    """The mean ROC curves on `valid` of the folds' models and of the `CONTROLS` that the run has."""
    found, row = frame(paths.SUMMARY / "roc.csv"), mean_of("valid", "auroc")
    if isinstance(found, Missing):
        return found
    if found.empty or row is None:
        return Missing(f"{paths.SUMMARY / 'roc.csv'} has no rows: images of one class only.")
    drawn = [Curve("model", "The folds' models", row["value"], _path(found))]
    points, scores = frame(paths.SUMMARY / "roc_controls.csv"), frame(paths.SUMMARY / "controls.csv")
    if isinstance(points, Missing) or isinstance(scores, Missing):
        return drawn
    scores = scores[(scores["split"] == "valid") & (scores["score"] == "auroc")].set_index("control")["value"]
    for control, (kind, name) in CONTROLS.items():
        part = points[points["control"] == control]
        if len(part) and control in scores:
            drawn.append(Curve(kind, name, float(scores[control]), _path(part)))
    return drawn


def _path(points: pd.DataFrame) -> str:
    """An SVG path through the points, y down."""
    pairs = zip(100 * points["false_alarms"], 100 - 100 * points["sensitivity"], strict=True)
    return "M" + "L".join(f"{x:.5g} {y:.5g}" for x, y in pairs)


def examples(photograph_of: Callable[[str, str], Any], heat_of: Callable[[int, str], Picture | Missing | None]) -> Any:
    """The six photographs: what each is, what it was called, the picture and its heat map; or why there are none.

    Args:
        photograph_of: gives the picture of an image, by content id and alternative text.
        heat_of: gives its heat map, by fold and content id; None where there is none.
    """
    found = frame(paths.SUMMARY / "examples.csv")
    if isinstance(found, Missing):
        return found
    if found.empty:
        return Missing(f"{paths.SUMMARY / 'examples.csv'} has no rows.")
    return [
        {
            "right": row.label == row.predicted,
            "label": row.label,
            "kind": row.example,
            "text": f"{row.label}, called {row.predicted}, {row.probability:.3f}",
            "photograph": photograph_of(
                str(row.image), f"{row.example.capitalize()}: {row.label}, called {row.predicted}"
            ),
            "heat": heat_of(row.fold, str(row.image)),
        }
        for row in found.itertuples()
    ]


def verdict() -> list[str] | Missing:
    """On held-out photographs: how many are correct, compared with chance and with the best shortcut."""
    counted, found = frame(paths.SUMMARY / "report_valid.csv"), intervals_table()
    for one in (counted, found):
        if isinstance(one, Missing):
            return one
    by_class = counted.set_index("class")
    told = []
    for condition in (ABNORMAL, NORMAL):
        of = round(by_class.at[condition, "support"])
        told.append(f"{round(by_class.at[condition, 'recall'] * of)} of {of} {condition} photographs")
    where = "held out (valid, pooled over folds)"
    sentences = [f"At a threshold of 0.5, {' and '.join(told)} {where} were classified correctly."]
    row = mean_of("valid", "auroc")
    if row is None or row["low"] != row["low"]:
        return [*sentences, "The AUROC on valid, or its interval, is not defined."]
    compared = (
        "better than" if row["low"] > CHANCE else "worse than" if row["high"] < CHANCE else "not distinguishable from"
    )
    interval = f"{row['value']:.3f}, with a 95 % interval of {row['low']:.3f} to {row['high']:.3f}"
    sentences.append(f"The AUROC on valid, the mean over folds, is {interval}: {compared} chance (0.5).")
    return [*sentences, *_beside_shortcuts()[1], *_beside_the_regression()]


class Beside(NamedTuple):
    """The best shortcut on the folds' own splits: its name, its AUROC on `valid`, and whether the models beat it."""

    name: str
    auroc: float
    beaten: bool


def _beside_shortcuts() -> tuple[Beside | None, list[str]]:
    """The best shortcut, and in words the difference of the model's AUROC to it on the same photographs, paired."""
    probes = frame(paths.PROBES)
    if isinstance(probes, Missing):
        return None, []
    tried = probes[~probes["target"].isin(["source", "label by name"])].dropna(subset=["auroc"])
    if tried.empty:
        return None, ["No shortcut could be tested; the reasons are below."]
    best = tried.loc[pd.to_numeric(tried["auroc"]).idxmax()]
    name = str(best.probe).replace("_", " ")
    reached = f"The best shortcut, {name}, reaches {best.auroc:.3f}"
    controls, control = frame(paths.SUMMARY / "controls.csv"), "thumbnail" if best.probe == "thumbnail" else "shortcut"
    if isinstance(controls, Missing) or "split" not in controls:
        return None, [f"{reached}; the model is not compared with it, since the controls have not been run."]
    of = (controls["control"] == control) & (controls["split"] == "valid") & (controls["score"] == "auroc")
    paired = controls[of].dropna(subset=["low", "high"])
    if paired.empty:
        return None, [f"{reached}; the folds' splits define no interval of the model's difference to it."]
    row = paired.iloc[0]
    beaten = "beats it" if row["low"] > 0 else "is worse than it" if row["high"] < 0 else "is not shown to beat it"
    apart = f"{row['difference']:+.3f} [{row['low']:+.3f}, {row['high']:+.3f}]"
    trained = f"trained on the folds' own splits it has {row['value']:.3f} on valid"
    words = f"{reached}; {trained}, from which the model's differs by {apart} (paired): it {beaten}."
    return Beside(name, float(row["value"]), bool(row["low"] > 0)), [words]


def _beside_the_regression() -> list[str]:
    """Whether the control, a regression on frozen features, is enough; of a run whose folds have one, too, not."""
    table = frame(paths.COST_QUALITY)
    chosen = None if isinstance(table, Missing) else cheapest(table)
    if chosen is None or chosen["rung"] != "regression" or FOLDS_REGRESSION in set(table["rung"]):
        return []
    what = "The logistic regression on the frozen backbone's features is the cheapest model that is not worse"
    return [f"{what} (AUROC {chosen['auroc']:.3f} on valid, mean over the folds): use it, as models/controls."]
