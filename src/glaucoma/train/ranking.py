"""All trials of a search as a table, named as scikit-learn's `cv_results_`, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from glaucoma.base.errors import DataError
from glaucoma.base.params import Trial, columns
from glaucoma.dataset.splits import Split
from glaucoma.evaluate.scores import LOWER_IS_BETTER, cost, scores
from glaucoma.train.trainer import Snapshot

__all__ = ["rank", "timings"]


def rank(
    trials: Sequence[Trial],
    finished: Mapping[Trial, Snapshot],
    errors: Mapping[Trial, str],
    test: Split,
    metric: str,
    miss: float = 1.0,
) -> tuple[pd.DataFrame, Trial]:
    """Score every trial on `test` and rank them by `metric`.

    Ties go to the higher accuracy (as the report sorts), then to fewer epochs, then to the grid's order. Failed trials
    come last.

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
    keys = [f"mean_test_{metric}", "mean_test_accuracy", "param_epochs", "place"]
    table = table.sort_values(
        keys, ascending=[metric in LOWER_IS_BETTER, False, True, True], na_position="last", ignore_index=True
    )
    best = trials[table["place"].iloc[0]]
    table.insert(0, f"rank_test_{metric}", range(1, len(table) + 1))
    return table.drop(columns="place"), best


def timings(trials: Sequence[Trial], finished: Mapping[Trial, Snapshot]) -> pd.DataFrame:
    """Seconds of training of each trial that finished, as measured when it was trained; grid order."""
    both = zip(trials, columns(trials), strict=True)
    rows = [{**shown, "seconds": finished[trial].seconds} for trial, shown in both if trial in finished]
    return pd.DataFrame(rows)
