"""The worst slice is found by itself, and is none where errors are the same everywhere."""

import numpy as np
import pandas as pd

from glaucoma.evaluate.subgroups import slices

BY = ["source", "sex", "age"]


def predictions(seed: int, worse: float = 0.0, images: int = 300) -> pd.DataFrame:
    """A model whose log-odds are off by `worse` for the women of source B, of whom more are abnormal than of others."""
    random = np.random.default_rng(seed)
    table = pd.DataFrame({"image": [f"i{i}" for i in range(images)], "patient": ""})
    table["source"], table["sex"] = random.choice(list("ABC"), images), random.choice(["f", "m"], images)
    table["age"] = random.integers(30, 90, images).astype(float)
    inside = (table["source"] == "B") & (table["sex"] == "f")
    abnormal = random.random(images) < np.where(inside, 0.7, 0.4)
    side = np.where(abnormal, 1, -1)
    table["label"] = np.where(abnormal, "abnormal", "normal")
    return table.assign(log_odds=side * (2 - worse * inside) + random.normal(0, 1.5, images))


def test_the_worst_slice_is_found_by_itself_and_named():
    table = slices(predictions(1, worse=3.0), BY, seed=0)
    worst = table.iloc[0]
    assert worst["slice"] == "source = B, sex = f"
    assert worst["p"] < 0.01
    assert worst["brier"] > 2 * worst["brier_else"]
    assert table["z"].is_monotonic_decreasing
    assert (table["n"] >= 10).all()


def test_looking_at_all_slices_raises_no_more_alarms_than_one_look():
    alarms = [slices(predictions(seed, images=120), BY, seed=0)["p"].min() <= 0.05 for seed in range(60)]
    assert sum(alarms) <= 8  # 3 expected; more than 8 in less than 1 of 200


def test_photographs_of_a_patient_are_dealt_out_as_one():
    once = predictions(3, worse=1.0, images=80)
    often = pd.concat([once.assign(image=once["image"] + str(turn)) for turn in range(5)], ignore_index=True)
    often["patient"] = often["image"].str[:-1]
    p = {name: slices(table, BY, seed=0).iloc[0] for name, table in (("once", once), ("often", often))}
    assert p["often"]["n"] == 5 * p["once"]["n"]
    assert abs(p["often"]["p"] - p["once"]["p"]) < 0.05


def test_what_is_known_of_no_image_makes_no_slice():
    table = predictions(2).assign(source="A", sex="")
    assert slices(table, ["source", "sex"], seed=0).empty
