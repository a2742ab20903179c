"""What reviewers ask for: calibration, predictive values, net benefit and precision, against known truths."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

from glaucoma.base.confidence import wilson_interval
from glaucoma.evaluate.agreement import agreement, by_class, curve
from glaucoma.evaluate.decisions import decision_curve, decisions
from glaucoma.evaluate.usefulness import miss_range, net_benefit, operating_points, precision, predictive_values

MISS = 5.0


def drawn(patients: int, photographs: int, seed: int, apart: float = 1.5) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients; a patient has up to so many photographs, which resemble each other."""
    random = np.random.default_rng(seed)
    groups = np.repeat(np.arange(patients), random.integers(1, photographs + 1, patients))
    ill = random.random(patients) < 0.5
    told = 1.2 * (apart * (ill - 0.5) + random.normal(0, 0.7, patients))[groups] + random.normal(0, 0.7, len(groups))
    return ill[groups], expit(told), groups


def found(table: pd.DataFrame, column: str = "value") -> pd.Series:
    return table.set_index("measure")[column]


def test_a_model_that_is_right_on_average_has_intercept_0_slope_1_and_oe_1():
    random = np.random.default_rng(3)
    probability = expit(random.normal(0, 1.5, 4000))
    abnormal, groups = random.random(4000) < probability, np.arange(4000)
    table = agreement(abnormal, probability, groups).set_index("measure")
    for name in ("intercept", "slope", "observed_expected"):
        assert table.at[name, "low"] < table.at[name, "ideal"] < table.at[name, "high"], name
    sharper = found(agreement(abnormal, expit(2 * logit(probability)), groups))
    assert sharper["slope"] == pytest.approx(table.at["slope", "value"] / 2, rel=1e-6)
    assert found(agreement(abnormal, expit(logit(probability) + 1), groups))["intercept"] == pytest.approx(
        table.at["intercept", "value"] - 1, rel=1e-6
    )


def test_slope_and_skill_are_those_of_the_textbook():
    abnormal, probability, groups = drawn(200, 1, 1)
    table = found(agreement(abnormal, probability, groups))
    fitted = LogisticRegression(C=np.inf, tol=1e-10).fit(logit(probability)[:, None], abnormal)
    assert table["slope"] == pytest.approx(fitted.coef_[0, 0], rel=1e-4)
    share = abnormal.mean()
    assert table["brier_skill"] == pytest.approx(1 - np.mean((probability - abnormal) ** 2) / (share * (1 - share)))
    same = np.full(200, share)
    assert found(agreement(abnormal, same, groups))["brier_skill"] == pytest.approx(0)


def test_what_cannot_be_known_is_empty():
    one_class = agreement(np.ones(30, bool), np.full(30, 0.7), np.arange(30))
    assert one_class["value"].isna().all()
    parted = np.repeat([True, False], 40)
    table = agreement(parted, np.where(parted, 0.9, 0.1) + np.linspace(0, 0.05, 80), np.arange(80)).set_index("measure")
    assert np.isnan(table.at["slope", "value"])  # a line parts the classes: no slope is steep enough
    assert table.at["observed_expected", "value"] > 0
    assert len(curve(parted[38:42], np.linspace(0.2, 0.8, 4), np.arange(4))) == 0


@pytest.mark.slow
@pytest.mark.parametrize(("patients", "photographs", "apart"), [(100, 1, 3.0), (90, 3, 1.5)])
def test_intervals_cover_the_truth(patients: int, photographs: int, apart: float):
    """Wider runs, 40 to 400 patients: 92–98 % each; a slope's needs 30 patients of each class."""
    whole = drawn(30_000, photographs, 9, apart)
    truth = {**found(agreement(*whole)), **net_benefit(*whole, MISS).set_index("at")["more"].drop("")}
    hits: dict[str, list[bool]] = {name: [] for name in truth}
    for seed in range(200):
        sample = drawn(patients, photographs, seed, apart)
        rows = {**agreement(*sample).set_index("measure").T, **net_benefit(*sample, MISS).set_index("at").drop("").T}
        for name, row in rows.items():
            if row["low"] == row["low"]:
                hits[name].append(row["low"] <= truth[name] <= row["high"])
    for name, told in hits.items():
        assert len(told) > 150, name
        assert 0.90 <= np.mean(told) <= 0.99, name  # 92–98 % and two standard errors


def test_the_curve_follows_what_happens_within_its_band():
    random = np.random.default_rng(0)
    probability = random.uniform(0.02, 0.98, 3000)
    truth = expit(0.5 * logit(probability) + 0.4)
    table = curve(random.random(3000) < truth, probability, np.arange(3000))
    expected = expit(0.5 * logit(table["probability"]) + 0.4)
    assert np.abs(table["abnormal"] - expected).max() < 0.08
    assert ((table["low"] < expected) & (expected < table["high"])).mean() > 0.8
    table = by_class(random.random(3000) < truth, probability)
    assert table[["normal", "abnormal"]].to_numpy().sum() == 3000


def test_net_benefit_is_that_of_the_curve_and_is_told_against_the_better_of_all_and_none():
    abnormal, probability, groups = drawn(300, 1, 2)
    table = net_benefit(abnormal, probability, groups, 3.0)
    own = table[table["at"] == "miss_cost"].iloc[0]
    row = decision_curve(abnormal, probability).set_index("threshold").loc[0.25]
    assert own["threshold"] == 0.25 == miss_range(3.0)[1]
    assert own["model"] == pytest.approx(row["model"])
    assert own["all"] == pytest.approx(row["all"])
    assert own["more"] == pytest.approx(row["model"] - max(row["all"], 0))
    everyone = net_benefit(abnormal, np.ones(300), groups, 3.0)
    assert everyone["more"].tolist()[:2] == [0, 0]
    assert everyone["low"].isna().all()  # the two never differ, which shows nothing


def test_operating_points_have_wilsons_intervals_and_photographs_of_a_patient_count_less():
    random = np.random.default_rng(4)
    rows = {"fold": 0, "split": ["test", "valid"] * 100, "label": ["abnormal", "abnormal", "normal", "normal"] * 50}
    table = pd.DataFrame({**rows, "image": [f"i{i}" for i in range(200)], "patient": ""})
    table["log_odds"] = np.where(table["label"] == "abnormal", 1.0, -1.0) + random.normal(0, 1, 200)
    points = operating_points(table, decisions(table, 5)).set_index("rule")
    fixed = points.loc["fixed"]
    valid = table[(table["split"] == "valid") & (table["label"] == "abnormal")]
    value = (valid["log_odds"] >= 0).mean()
    assert (fixed["sensitivity"], fixed["sensitivity_cases"]) == (value, pytest.approx(50))
    assert (fixed["sensitivity_low"], fixed["sensitivity_high"]) == pytest.approx(wilson_interval(value, 50))
    twice = pd.concat([table, table.assign(image=table["image"] + "b")]).assign(patient=lambda t: t["image"].str[:4])
    twice["patient"] = twice["image"].str.removesuffix("b")
    again = operating_points(twice, decisions(twice, 5)).set_index("rule").loc["fixed"]
    assert again["sensitivity_cases"] == pytest.approx(50)  # a second photograph that says the same adds nothing


def test_predictive_values_follow_the_prevalence_and_hold_their_value():
    point = {"rule": "fixed", "sensitivity": 0.9, "specificity": 0.8}
    point |= {"sensitivity_cases": 60.0, "specificity_cases": 80.0}
    perfect = {**point, "rule": "perfect", "specificity": 1.0}
    table = predictive_values(pd.DataFrame([point, perfect]), (0.05, 0.5)).set_index(["rule", "prevalence"])
    assert table.at[("fixed", 0.05), "ppv"] == pytest.approx(0.9 * 0.05 / (0.9 * 0.05 + 0.2 * 0.95))
    assert table.at[("fixed", 0.5), "npv"] == pytest.approx(0.8 / 0.9)
    assert table.at[("perfect", 0.05), "ppv"] == 1 == table.at[("perfect", 0.05), "ppv_high"]
    assert 0.3 < table.at[("perfect", 0.05), "ppv_low"] < 0.9
    for name in ("ppv", "npv"):
        assert ((table[f"{name}_low"] < table[name]) & (table[name] <= table[f"{name}_high"])).all()


def test_images_needed_are_those_that_give_the_wanted_interval():
    low, high = wilson_interval(0.8, 100)
    rows = [("sensitivity", 0.8, low, high), ("specificity", 0.9, np.nan, np.nan), ("auroc", 0.9, 0.82, 0.95)]
    table = precision(pd.DataFrame(rows, columns=["score", "value", "low", "high"]), 100, 120).set_index("score")
    needed = table.at["sensitivity", "needed"]
    low, high = wilson_interval(0.8, needed)
    assert (high - low) / 2 == pytest.approx(0.03, abs=1e-4)
    assert np.isnan(table.at["specificity", "needed"])
    assert table.at["auroc", "needed"] > 220  # its half-width is 0.065
