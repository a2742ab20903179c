"""Compare with the published figures, but only if the protocol is the published one or differs by fixing a leak."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.confidence import proportion_interval
from glaucoma.base.files import write_csv
from glaucoma.base.params import Params
from glaucoma.base.yaml12 import parse_yaml
from glaucoma.dataset.splits import read_clusters
from glaucoma.evaluate.over_folds import fold_intervals
from glaucoma.evaluate.scores import ABNORMAL, NORMAL
from glaucoma.evaluate.summary import SPLITS, FoldResults, describe, read_index_metrics

__all__ = [
    "comparable",
    "comparison_table",
    "protocol_table",
    "published",
    "readings_table",
    "write_against_published",
]

FEW = 3  # differing items that a note names individually
OPTIMISTIC = "published folds 1–9 start from weights trained on most of their own test images"
MENDED = {  # differences, as in protocol.csv, that still allow a comparison, and the note on each
    ("crossval.warm_start", "fold"): "here no fold's start has seen its test images, so only fold 0 is like for like",
    ("search.nested", "True"): "here each fold chooses stages 1 and 2 within its own train split",
}
FILE = "which is like for like only if that file holds Keras' ImageNet weights"  # backbone.weights without internet


@cache
def published() -> dict[str, Any]:
    """The published figures from `published.yaml` beside this module (protocol, summary, folds, searches)."""
    return parse_yaml((files(__package__) / "published.yaml").read_bytes(), "published.yaml")


def protocol_table(params: Params, index: dict[str, int]) -> pd.DataFrame:
    """Compare each item of the protocol.

    Args:
        params: of this run.
        index: metrics/index.json: images, normal, abnormal, files, folds.

    Returns:
        A row per item; columns item (a key of params.yaml, or `index.` and a key of metrics/index.json), published,
        here (both as text), same (`yes` or `no`). The order of lists does not matter.
    """
    protocol = published()["protocol"]
    given = params.public().model_dump()
    rows = [(f"index.{key}", value, index.get(key)) for key, value in protocol["index"].items()]
    rows += [(key, value, _at(given, key)) for key, value in protocol["params"].items()]
    return pd.DataFrame(
        [(item, _text(theirs), _text(ours), "yes" if _same(theirs, ours) else "no") for item, theirs, ours in rows],
        columns=["item", "published", "here", "same"],
    )


def comparable(protocol: pd.DataFrame) -> bool:
    """Whether every item of the protocol is the same, or differs only by fixing a leak (`MENDED`)."""
    return all(_allowed(row) for row in _differing(protocol).itertuples())


def comparison_table(
    protocol: pd.DataFrame, folds: pd.DataFrame, summary: pd.DataFrame, bounds: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Compare this run's scores with the published ones.

    Args:
        protocol: from `protocol_table`.
        folds: a row per fold; columns fold, test_accuracy, test_f1_macro, valid_accuracy, valid_f1_macro.
        summary: rows named by score, columns mean, std, min, 25%, 50%, 75%, max.
        bounds: 95 % intervals of `here`: columns score, statistic, low, high; a row per fold and one for the mean.

    Returns:
        Columns score, statistic (mean … max, then `fold 0` …), published, here, low, high, difference (here -
        published), note. `here` to `difference` are empty unless the protocols are `comparable`; the first row's note
        says whether they are, and why.
    """
    figures = published()
    rows = [
        (score, statistic, value, _cell(summary, score, statistic))
        for score, statistics in figures["summary"].items()
        for statistic, value in statistics.items()
    ]
    by_fold = folds.set_index("fold")
    rows += [
        (score, f"fold {fold['fold']}", fold[score], _cell(by_fold, fold["fold"], score))
        for score in figures["summary"]
        for fold in figures["folds"]
    ]
    table = pd.DataFrame(rows, columns=["score", "statistic", "published", "here"])
    if bounds is None:
        bounds = pd.DataFrame(columns=["score", "statistic", "low", "high"])
    table = table.merge(bounds[["score", "statistic", "low", "high"]], on=["score", "statistic"], how="left")
    table["difference"] = table["here"] - table["published"]
    if not comparable(protocol):
        table[["here", "low", "high", "difference"]] = float("nan")
    table["note"] = [_note(_differing(protocol), len(protocol)), *[""] * (len(table) - 1)]
    return table


def readings_table() -> pd.DataFrame:
    """The published confusion matrices, as printed and with corrected class names.

    The report encodes its labels alphabetically (abnormal = 0) but prints them under [Normal, Abnormal], so the class
    names are swapped and its printed sensitivity is the specificity. Accuracy and macro F1 are the same either way.

    Returns:
        Two rows per search: search, reading (`as printed`, `corrected`), tp, fn, tn, fp, then sensitivity and
        specificity, each with `_low` and `_high` (exact 95 % interval over images), accuracy.
    """
    rows = []
    for search, found in published()["searches"].items():
        right = found["confusion"]
        for reading, (sick, well) in (("as printed", (NORMAL, ABNORMAL)), ("corrected", (ABNORMAL, NORMAL))):
            tp, fn, tn, fp = right[sick][sick], right[sick][well], right[well][well], right[well][sick]
            row = {"search": search, "reading": reading, "tp": tp, "fn": fn, "tn": tn, "fp": fp}
            for score, hits, of in (("sensitivity", tp, tp + fn), ("specificity", tn, tn + fp)):
                low, high = proportion_interval(hits / of, of)
                row |= {score: hits / of, f"{score}_low": low, f"{score}_high": high}
            rows.append({**row, "accuracy": (tp + tn) / (tp + fn + tn + fp)})
    return pd.DataFrame(rows)


def _differing(protocol: pd.DataFrame) -> pd.DataFrame:
    return protocol[protocol["same"] == "no"]


def _allowed(row: Any) -> bool:
    return (row.item, row.here) in MENDED or (row.item == "backbone.weights" and row.here != "none")


def _note(differing: pd.DataFrame, items: int) -> str:
    if differing.empty:
        return f"same protocol; {OPTIMISTIC}"
    if all(_allowed(row) for row in differing.itertuples()):
        named = "; ".join(
            f"{row.item} is {row.here}, published {row.published}: {MENDED.get((row.item, row.here), FILE)}"
            for row in differing.itertuples()
        )
        return f"same protocol but for {named}; {OPTIMISTIC}"
    if len(differing) <= FEW:
        named = "; ".join(f"{row.item} is {row.here}, published {row.published}" for row in differing.itertuples())
        return f"not compared: the protocol differs only in {named}"
    some = ", ".join(differing["item"].head(FEW))
    return f"not compared: {len(differing)} of {items} items of the protocol differ ({some} …), see protocol.csv"


def _at(values: dict, key: str) -> Any:
    for part in key.split("."):
        values = values[part]
    return values


def _same(theirs: Any, ours: Any) -> bool:
    if isinstance(theirs, list) and isinstance(ours, list):
        return sorted(theirs) == sorted(ours)
    return theirs == ours


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(item) for item in value)
    return "" if value is None else str(value)


def _cell(table: pd.DataFrame, row: Any, column: str) -> float:
    known = row in table.index and column in table.columns
    return float(table.at[row, column]) if known else float("nan")


def write_against_published(results: FoldResults, params: Params) -> str:
    """Write protocol.csv, published.csv and published_searches.csv into reports/summary/.

    Returns:
        A sentence on whether the protocols are comparable, with the reason or the caveats.

    Raises:
        DataError: metrics/index.json is missing or damaged.
    """
    protocol = protocol_table(params, read_index_metrics(paths.METRICS / "index.json"))
    bounds = _bounds(results, params.seed) if comparable(protocol) else None  # takes seconds, so only for a comparison
    table = comparison_table(protocol, results.folds, describe(results), bounds)
    write_csv(paths.SUMMARY / "protocol.csv", protocol)
    write_csv(paths.SUMMARY / "published.csv", table)
    write_csv(paths.SUMMARY / "published_searches.csv", readings_table())
    return str(table["note"].iat[0])


def _bounds(results: FoldResults, seed: int) -> pd.DataFrame:
    """Intervals of each split's scores, with names that start with `test_` or `valid_`."""
    clusters = read_clusters() if paths.INDEX.is_file() else {}
    tables = []
    for split in SPLITS:
        found = fold_intervals(results.pooled(split), seed=seed, clusters=clusters)
        tables.append(found.assign(score=split + "_" + found["score"]))
    return pd.concat(tables, ignore_index=True)
