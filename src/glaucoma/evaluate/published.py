"""Comparison with the published figures, made only where the protocol is the published one."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import pandas as pd
from ruamel.yaml import YAML

from glaucoma.params import Params

__all__ = ["comparison_table", "protocol_table", "published"]

FEW = 3  # differing items that a note names one by one


@cache
def published() -> dict[str, Any]:
    """The report's figures, as `published.yaml` beside this module holds them (protocol, summary, folds, searches)."""
    return YAML(typ="safe", pure=True).load((files(__package__) / "published.yaml").read_text("utf-8"))


def protocol_table(params: Params, index: dict[str, int]) -> pd.DataFrame:
    """Compare each item of the protocol.

    Args:
        params: of this run.
        index: of metrics/index.json: images, normal, abnormal, files, folds.

    Returns:
        A row per item; columns item (a key of params.yaml, or `index.` and a key of metrics/index.json), published,
        here (both as text), same (`yes` or `no`). Lists are the same in any order.
    """
    protocol = published()["protocol"]
    given = params.model_dump()
    rows = [(f"index.{key}", value, index.get(key)) for key, value in protocol["index"].items()]
    rows += [(key, value, _at(given, key)) for key, value in protocol["params"].items()]
    return pd.DataFrame(
        [(item, _text(theirs), _text(ours), "yes" if _same(theirs, ours) else "no") for item, theirs, ours in rows],
        columns=["item", "published", "here", "same"],
    )


def comparison_table(protocol: pd.DataFrame, folds: pd.DataFrame, summary: pd.DataFrame) -> pd.DataFrame:
    """Set this run's scores beside the published ones.

    Args:
        protocol: as `protocol_table` returns it.
        folds: a row per fold; columns fold, test_accuracy, test_f1_macro, valid_accuracy, valid_f1_macro.
        summary: rows named by score, columns mean, std, min, 25%, 50%, 75%, max.

    Returns:
        Columns score, statistic (mean … max, then `fold 0` …), published, here, difference (here - published), note.
        `here` and `difference` are empty unless every item of the protocol is the same; the first row's note says
        which of the two is the case, and why.
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
    table["difference"] = table["here"] - table["published"]
    differing = protocol[protocol["same"] == "no"]
    if len(differing):
        table[["here", "difference"]] = float("nan")
    table["note"] = [_note(differing, len(protocol)), *[""] * (len(table) - 1)]
    return table


def _note(differing: pd.DataFrame, items: int) -> str:
    if differing.empty:
        return "same protocol; published folds 1–9 start from weights trained on most of their own test images"
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
