"""Controls: a regression that finds what there is, and permuted labels that find nothing unless something leaks."""

import numpy as np
import pandas as pd
import pytest

from glaucoma.data.splits import Dataset
from glaucoma.pipeline.controls import PERMUTATIONS, chance_check, control_scores


@pytest.fixture(scope="module")
def data() -> Dataset:
    """Three folds of 240 images, half of them abnormal."""
    rows = [
        (fold, "test" if i % 3 == fold else "valid" if i % 12 == fold + 4 else "train", f"{i:03}", i % 2 == 0, i)
        for fold in range(3)
        for i in range(240)
    ]
    table = pd.DataFrame(rows, columns=["fold", "split", "image", "abnormal", "row"])
    return Dataset(np.zeros((240, 1)), table)


def features(data: Dataset, signal: float) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1).normal(size=(240, 5))
    draw[:, 0] += signal * (np.arange(240) % 2 == 0)
    return {"average": draw.astype("f4"), "max": draw.astype("f4")}


def test_the_regression_finds_the_signal_and_permuted_labels_do_not(data):
    given = features(data, 3.0)
    table = control_scores(given, data, [0, 1, 2], seed=0)
    assert len(table) == (2 + PERMUTATIONS) * 3 * 2
    means = table[table["split"] == "test"].groupby("control")["auroc"].mean()
    assert means["regression_average"] > 0.95
    assert chance_check(table) == ""
    pd.testing.assert_frame_equal(table.head(24), control_scores(given, data, [0], seed=0))


def test_the_check_fails_where_permuted_labels_teach(data):
    table = control_scores(features(data, 0.0), data, [0, 1, 2], seed=0)
    assert chance_check(table) == ""
    permuted = table["control"] == "permuted_average"
    leaking = table.assign(auroc=table["auroc"].where(~permuted, 0.5 + table["auroc"] / 3))
    assert "taught AUROC 0.6" in chance_check(leaking)
