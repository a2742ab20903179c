"""All trials of a search as a table, named as scikit-learn's `cv_results_`, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from glaucoma.base.errors import DataError, many
from glaucoma.base.params import Trial, columns
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import LOWER_IS_BETTER, cost, scores
from glaucoma.train.trainer import Snapshot

__all__ = ["best_of", "rank", "tied", "timings"]

DIGITS = 9  # to which scores are compared: the order of additions tells nothing


def rank(
    trials: Sequence[Trial],
    finished: Mapping[Trial, Snapshot],
    errors: Mapping[Trial, str],
    test: Split,
    metric: str,
    miss: float = 1.0,
) -> tuple[pd.DataFrame, Trial]:
    """Score every trial on `test` and rank them by `metric`.

    Trials that tie share a rank. Among them the lower log loss comes first, which sees what a count of right decisions
    does not, then the cheaper training, of fewer epochs, then the grid's order. Failed trials come last.

    Args:
        trials: of the grid, in its order.
        finished: what each trial that did not fail ended with.
        errors: why the others failed.
        test: what they are scored on.
        metric: a score of `glaucoma.evaluate.scores`, or `cost`.
        miss: what a missed abnormal image costs, in false alarms; `cost` is the mean over the images.

    Returns:
        The table in order of rank: `rank_test_<metric>`, `param_*`, `mean_test_*` for every score, `status`, `error`;
        and the best trial.

    Raises:
        DataError: `metric` is not defined on `test`, which lacks a class.
    """
    rows = []
    for place, (trial, shown) in enumerate(zip(trials, columns(trials), strict=True)):
        row = {f"param_{name}": value for name, value in shown.items()}
        if trial in finished:
            found = scores(test.abnormal, log_odds=finished[trial].log_odds["test"])
            found["cost"] = cost(found, miss)
            row |= {f"mean_test_{name}": np.nan if value is None else value for name, value in found.items()}
        ok = trial in finished
        rows.append({**row, "status": "ok" if ok else "failed", "error": errors.get(trial, ""), "place": place})
    table = pd.DataFrame(rows).drop(columns="mean_test_n")
    if table[f"mean_test_{metric}"].isna().all():
        only = "abnormal" if test.abnormal.any() else "normal"
        raise DataError(
            f"{metric} is not defined on the images that trials are ranked on: all {len(test)} are {only}",
            "set search.metric to accuracy; finished trials are kept",
        )
    score = table[f"mean_test_{metric}"].astype(float).round(DIGITS)
    ranks = score.rank(method="min", ascending=metric in LOWER_IS_BETTER, na_option="bottom").astype(int)
    table.insert(0, f"rank_test_{metric}", ranks)
    table["loss"] = table["mean_test_log_loss"].round(DIGITS)
    table = table.sort_values([f"rank_test_{metric}", "loss", "param_epochs", "place"], ignore_index=True)
    best = trials[table["place"].iloc[0]]
    return table.drop(columns=["place", "loss"]), best


def tied(table: pd.DataFrame) -> int:
    """How many trials share the best score, 1 where one is better than all others; `table` as `rank` returns it."""
    return int((table.iloc[:, 0] == 1).sum())


def best_of(table: pd.DataFrame) -> str:
    """How the best trial was found, in words; `table` as `rank` returns it."""
    if (count := tied(table)) == 1:
        return f"best of {many(len(table), 'trial')}"
    metric = table.columns[0].removeprefix("rank_test_")
    score = f"{metric.replace('_', ' ')} {table[f'mean_test_{metric}'].iloc[0]:.3f}"
    rule = "fewest epochs" if metric == "log_loss" else "lowest log loss"
    return f"{rule} of the {count} of {many(len(table), 'trial')} that tie at {score}"


def timings(trials: Sequence[Trial], finished: Mapping[Trial, Snapshot]) -> pd.DataFrame:
    """Seconds of training of each trial that finished, as measured when it was trained; grid order."""
    both = zip(trials, columns(trials), strict=True)
    rows = [{**shown, "seconds": finished[trial].seconds} for trial, shown in both if trial in finished]
    return pd.DataFrame(rows)
