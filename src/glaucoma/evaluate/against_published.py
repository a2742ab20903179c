"""This run beside the published figures: protocol item by item, fold by fold and summary, and both readings."""

from __future__ import annotations

import pandas as pd

from glaucoma.base import paths
from glaucoma.base.files import write_csv
from glaucoma.base.params import Params
from glaucoma.dataset.splits import read_clusters
from glaucoma.evaluate.over_folds import fold_intervals
from glaucoma.evaluate.published import comparable, comparison_table, protocol_table, readings_table
from glaucoma.evaluate.summary import SPLITS, FoldResults, describe, read_index_metrics

__all__ = ["write_against_published"]


def write_against_published(results: FoldResults, params: Params) -> str:
    """Write protocol.csv, published.csv and published_searches.csv into reports/summary/.

    Returns:
        Whether the protocols can be compared, and why or what to know, as a sentence.

    Raises:
        DataError: metrics/index.json is missing or damaged.
    """
    protocol = protocol_table(params, read_index_metrics(paths.METRICS / "index.json"))
    bounds = _bounds(results, params.seed) if comparable(protocol) else None  # seconds that only a comparison is worth
    table = comparison_table(protocol, results.folds, describe(results), bounds)
    write_csv(paths.SUMMARY / "protocol.csv", protocol)
    write_csv(paths.SUMMARY / "published.csv", table)
    write_csv(paths.SUMMARY / "published_searches.csv", readings_table())
    return str(table["note"].iat[0])


def _bounds(results: FoldResults, seed: int) -> pd.DataFrame:
    """Intervals of each split's scores, `test_` or `valid_` before their names."""
    clusters = read_clusters() if paths.INDEX.is_file() else {}
    tables = []
    for split in SPLITS:
        found = fold_intervals(results.pooled(split), seed=seed, clusters=clusters)
        tables.append(found.assign(score=split + "_" + found["score"]))
    return pd.concat(tables, ignore_index=True)
