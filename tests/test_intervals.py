"""Intervals, comparisons, thresholds, calibration and the decision curve."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logit
from scipy.stats import binom, binomtest, norm
from sklearn import metrics

from glaucoma.base.confidence import auroc_interval, proportion_interval
from glaucoma.base.errors import DataError
from glaucoma.evaluate.calibration import (
    apply_platt,
    apply_temperature,
    at_bound,
    fit_platt,
    fit_temperature,
    reliability,
)
from glaucoma.evaluate.comparison import compare, delong, mcnemar, paired
from glaucoma.evaluate.decisions import (
    RULES,
    calibration_table,
    choose_threshold,
    decision_curve,
    decisions,
    out_of_fold,
    rules,
    thresholds_table,
)
from glaucoma.evaluate.intervals import WITHOUT, intervals, weighted_scores
from glaucoma.evaluate.over_folds import differences, fold_intervals, mean_differences, mean_intervals
from glaucoma.evaluate.scores import SCORES, scores
from glaucoma.evaluate.subgroups import qualities, subgroup_scores, worst_errors
from glaucoma.model.log_odds import ALL, Threshold, averaged, averaged_by

ABNORMAL = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0], dtype=bool)
PROBABILITY = np.array([0.9, 0.8, 0.6, 0.1, 0.7, 0.6, 0.3, 0.2, 0.05])
LOG_ODDS = logit(PROBABILITY)


def table(abnormal, log_odds, **columns) -> pd.DataFrame:
    labels = np.where(abnormal, "abnormal", "normal")
    images = [f"i{k}" for k in range(len(labels))]
    return pd.DataFrame({"image": images, "label": labels, "log_odds": log_odds, **columns})


def draw(n: int, seed: int, distance: float = 1.5) -> pd.DataFrame:
    random = np.random.default_rng(seed)
    abnormal = random.random(n) < 0.5
    return table(abnormal, random.normal(distance * (abnormal - 0.5), 1))


@given(
    st.lists(
        st.tuples(st.booleans(), st.sampled_from([-50, -45, -2.2, -1.1, 0, 0.8, 45]), st.integers(0, 3)), max_size=25
    )
)
@settings(max_examples=80, deadline=None)
def test_a_weighted_score_is_the_score_of_as_many_copies(rows):
    abnormal = np.array([label for label, _, _ in rows], dtype=bool)
    log_odds = np.array([x for _, x, _ in rows], dtype=float)
    weights = np.array([w for _, _, w in rows], dtype=int)
    found = weighted_scores(abnormal, log_odds, weights[None])
    expected = scores(np.repeat(abnormal, weights), log_odds=np.repeat(log_odds, weights))
    for name in SCORES:
        value = np.nan if expected[name] is None else expected[name]
        assert found[name][0] == pytest.approx(value, nan_ok=True, abs=1e-9), name


def test_an_interval_holds_its_score_and_is_the_same_each_time():
    found = intervals(draw(150, 1), seed=0)
    assert (found["resamples"] == 2000).all()
    inside = found[~found["score"].isin(WITHOUT)]
    assert found[found["score"].isin(WITHOUT)][["low", "high"]].isna().all(axis=None)
    assert ((inside["low"] <= inside["value"]) & (inside["value"] <= inside["high"])).all()
    pd.testing.assert_frame_equal(found, intervals(draw(150, 1), seed=0))


def test_copies_and_photographs_of_one_patient_are_no_more_evidence():
    once = draw(60, 2)
    ten = pd.concat([once] * 10, ignore_index=True)
    narrow = intervals(ten.assign(image=[f"other{k}" for k in range(600)]), seed=0).set_index("score")
    for many in (ten, ten.assign(image=[f"x{k}" for k in range(600)], patient=list(once["image"]) * 10)):
        found = intervals(many, seed=0).set_index("score")
        pd.testing.assert_frame_equal(
            found[["low", "high"]], intervals(once, seed=0).set_index("score")[["low", "high"]]
        )
        assert found.loc["auroc", "groups"] == 60
        width = found["high"] - found["low"]
        assert width["auroc"] > 2 * (narrow["high"] - narrow["low"])["auroc"]


def test_what_one_class_does_not_define_has_no_interval():
    found = intervals(draw(20, 3).assign(label="normal"), seed=0).set_index("score")
    assert found.loc["auroc", ["value", "low", "high"]].isna().all()
    assert found.loc["specificity", ["value", "low", "high"]].notna().all()


def test_copies_of_one_photograph_are_no_more_evidence():
    once = draw(60, 2)
    copies = once.assign(image=[f"copy{k}" for k in range(60)])
    same = dict(zip([*once["image"], *copies["image"]], list(once["image"]) * 2, strict=True))
    found = intervals(pd.concat([once, copies], ignore_index=True), seed=0, clusters=same)
    assert (found["groups"] == 60).all()
    expected = intervals(once, seed=0)
    inside = expected["score"] != "sensitivity_at_95_specificity"  # which counts false alarms in whole numbers
    pd.testing.assert_frame_equal(found[inside][["low", "high"]], expected[inside][["low", "high"]])


def test_models_that_differ_in_too_few_images_have_no_interval_of_the_difference_and_a_perfect_one_beside_a_poor_has():
    one = draw(100, 5).assign(fold=0)
    right = one.assign(log_odds=np.where(one["label"] == "abnormal", 3.0, -3.0) + 0.01 * one["log_odds"])
    nearly = right.assign(log_odds=np.where(np.arange(100) < 4, -1, 1) * right["log_odds"])
    few = mean_differences(right, nearly, seed=0).set_index("score")
    assert (few.loc["accuracy", "difference"], len(few)) == (pytest.approx(-0.04), len(SCORES))
    assert few[["low", "high"]].isna().all(axis=None)
    better = mean_differences(one, right, seed=0).set_index("score")
    for score in ("auroc", "accuracy", "sensitivity", "specificity", "mcc"):
        assert 0 < better.loc[score, "low"] < better.loc[score, "difference"] < better.loc[score, "high"], score
    assert better.loc["brier", "high"] < 0


def test_a_score_at_the_end_of_its_range_is_not_known_for_certain():
    rows = table([True] * 10 + [False] * 30, [2.0] * 10 + [-2.0] * 30)
    found = intervals(rows, seed=0).set_index("score")
    square = norm.ppf(0.975) ** 2  # Wilson with no failure: n / (n + z²)
    assert found.loc["sensitivity", "low"] == pytest.approx(10 / (10 + square))
    assert found.loc["specificity", "low"] == pytest.approx(30 / (30 + square))
    assert found.loc["auroc", "method"] == "newcombe"
    assert 0.7 < found.loc["auroc", "low"] < 1
    assert (found.loc[["sensitivity", "specificity", "accuracy", "auroc"], "high"] == 1).all()
    assert found.loc["f1_macro", "low"] < found.loc["f1_macro", "high"] == 1
    assert found.loc["ece", ["low", "high"]].isna().all()
    patients = intervals(rows.assign(patient=[f"p{k // 2}" for k in range(40)]), seed=0).set_index("score")
    assert patients.loc["sensitivity", "low"] == pytest.approx(5 / (5 + square))


def test_a_better_score_has_no_lower_interval_up_to_the_end_of_its_range():
    for found_by in (intervals, lambda rows, **how: mean_intervals(rows.assign(fold=np.arange(100) % 2), **how)):
        ends = []
        for hits in range(46, 51):
            abnormal = np.arange(100) < 50
            log_odds = np.where(abnormal, 1.0, -1.0)
            log_odds[: 50 - hits] = -1
            rows = found_by(table(abnormal, log_odds), seed=0, resamples=500).set_index("score")
            ends.append(rows.loc[["sensitivity", "auroc", "accuracy"], ["low", "high"]])
        for lower, higher in pairwise(ends):
            assert (lower < higher).all(axis=None)


def test_resamples_that_differ_by_rounding_alone_agree_and_leave_no_interval_without_a_width():
    random = np.random.default_rng(0)
    abnormal = np.arange(40) < 20
    found = intervals(table(abnormal, 20 * abnormal + random.normal(size=40)), seed=0).set_index("score")
    assert found.loc["auroc", "low"] == pytest.approx(auroc_interval(1.0, 20, 20)[0])
    assert not (found["low"] == found["high"]).any()


def test_resamples_that_lack_a_class_are_counted():
    rows = pd.concat([draw(5, seed).assign(fold=seed) for seed in (1, 3)], ignore_index=True)
    rows["image"] = [f"i{k}" for k in range(10)]
    assert rows.groupby("fold")["label"].nunique().eq(2).all()
    found = mean_intervals(rows, seed=0, resamples=200).set_index("score")
    assert 0 < found.loc["auroc", "resamples"] < 200
    assert found.loc["brier", "resamples"] > found.loc["auroc", "resamples"]


def test_a_mean_over_folds_is_less_sure_the_more_its_folds_share_their_images():
    parts = [draw(80, seed).assign(fold=seed) for seed in range(4)]
    apart = pd.concat(parts, ignore_index=True).assign(image=[f"i{k}" for k in range(320)])
    same = pd.concat([parts[0].assign(fold=fold) for fold in range(4)], ignore_index=True)
    width = {}
    for name, table_ in (("apart", apart), ("same", same)):
        found = fold_intervals(table_, seed=0).set_index(["score", "statistic"])
        assert set(found.index.get_level_values("statistic")) == {"mean", *(f"fold {fold}" for fold in range(4))}
        bounds = found.loc[("auroc", "mean")]
        aurocs = [metrics.roc_auc_score(p["label"] == "abnormal", p["log_odds"]) for _, p in table_.groupby("fold")]
        assert bounds["low"] < np.mean(aurocs) < bounds["high"]
        width[name] = bounds["high"] - bounds["low"]
    alone = intervals(parts[0], seed=0).set_index("score").loc["auroc"]
    assert width["same"] == pytest.approx(alone["high"] - alone["low"])  # four times the same images are one fold
    assert width["apart"] == pytest.approx(width["same"] / 2, rel=0.25)  # four times as many images


def test_two_models_are_compared_in_the_mean_of_their_folds_and_on_the_same_draws():
    parts = [draw(80, seed).assign(fold=seed) for seed in range(3)]
    one = pd.concat(parts, ignore_index=True).assign(image=[f"i{k:03}" for k in range(240)])
    better = one.assign(log_odds=one["log_odds"] + 2 * (one["label"] == "abnormal"))
    found = mean_differences(one, better.sample(frac=1, random_state=0), seed=0).set_index("score")
    aurocs = [metrics.roc_auc_score(p["label"] == "abnormal", p["log_odds"]) for _, p in one.groupby("fold")]
    assert found.loc["auroc", "first"] == pytest.approx(np.mean(aurocs))
    assert 0 < found.loc["auroc", "low"] < found.loc["auroc", "difference"] < found.loc["auroc", "high"]
    # a model compared with itself differs in no resample, as it would with separate draws
    itself = mean_differences(one, one, seed=0)
    assert (itself["difference"] == 0).all()
    assert itself[["low", "high"]].isna().all(axis=None)
    with pytest.raises(DataError, match="the same images in the same folds"):
        mean_differences(one, better.iloc[1:], seed=0)


@given(st.integers(1, 60), st.integers(0, 60))
@settings(max_examples=40, deadline=None)
def test_an_exact_interval_is_that_of_the_binomial_test(n, hits):
    hits = min(hits, n)
    low, high = proportion_interval(hits / n, n)
    exact = binomtest(hits, n).proportion_ci(method="exact")
    assert (low, high) == pytest.approx((exact.low, exact.high))


def test_the_aurocs_score_interval_meets_its_equation_at_both_ends():
    for value, m, n in ((0.8, 30, 50), (0.5, 10, 10), (1.0, 12, 40), (0.0, 5, 5)):
        low, high = auroc_interval(value, m, n)
        assert low <= value <= high
        for end in (low, high):
            if 0 < end < 1:
                k = (m + n) / 2 - 1
                variance = end * (1 - end) * (1 + k * ((1 - end) / (2 - end) + end / (1 + end))) / (m * n)
                assert abs(value - end) == pytest.approx(norm.ppf(0.975) * np.sqrt(variance), rel=1e-5)


def holds(hits: int, samples: int) -> bool:
    """Whether so many hits agree, at 5 % on either side, with an interval that covers 92 to 98 %."""
    return bool(binom.cdf(hits, samples, 0.92) > 0.05 and binom.sf(hits - 1, samples, 0.98) > 0.05)


@pytest.mark.slow
def test_intervals_cover_the_truth_as_often_as_they_say():
    truth = norm.cdf(1.5 / np.sqrt(2))
    hits = 0
    for seed in range(400):
        row = intervals(draw(120, seed), seed=seed, resamples=1000).set_index("score").loc["auroc"]
        hits += row["low"] <= truth <= row["high"]
    assert holds(hits, 400)


@pytest.mark.slow
def test_differences_of_equal_models_of_few_patients_exclude_0_as_seldom_as_they_say():
    # 16 patients of up to four photographs: percentiles of the same resamples include 0 in 88 to 93 %
    hits = dict.fromkeys(("auroc", "accuracy", "mcc", "brier", "log_loss"), 0)
    for seed in range(300):
        random = np.random.default_rng(seed)
        who = np.repeat(np.arange(16), np.resize(np.arange(1, 5), 16))
        sick = random.permutation(np.arange(16) < 8)
        tables = []
        for _ in range(2):
            answers = np.sqrt(0.7) * random.normal(size=16)[who] + np.sqrt(0.3) * random.normal(size=len(who))
            tables.append(table(sick[who], 0.4 * (sick[who] - 0.5) + answers).assign(patient=who.astype(str), fold=0))
        found = differences(*tables, seed=seed, resamples=200).set_index("score")
        for score in hits:
            hits[score] += found.loc[score, "low"] <= 0 <= found.loc[score, "high"]
    assert {score: n for score, n in hits.items() if not holds(n, 300)} == {}


@pytest.mark.slow
def test_photographs_of_one_patient_cover_the_truth_only_where_patients_are_drawn():
    truth = {"auroc": norm.cdf(1.5 / np.sqrt(2)), "sensitivity": norm.cdf(0.75), "accuracy": norm.cdf(0.75)}
    hits = dict.fromkeys([(unit, score) for unit in ("patients", "images") for score in truth], 0)
    for seed in range(300):
        random = np.random.default_rng(seed)
        who = np.repeat(np.arange(80), random.integers(1, 5, 80))  # 1 to 4 photographs each, seven tenths alike
        sick = (random.random(80) < 0.5)[who]
        alike, own = random.normal(size=80)[who], random.normal(size=len(who))
        images = table(sick, 1.5 * (sick - 0.5) + np.sqrt(0.7) * alike + np.sqrt(0.3) * own)
        for unit, rows in (("patients", images.assign(patient=[f"p{w}" for w in who])), ("images", images)):
            found = intervals(rows, seed=seed, resamples=500).set_index("score")
            for score, value in truth.items():
                hits[unit, score] += found.loc[score, "low"] <= value <= found.loc[score, "high"]
    for score in truth:
        assert holds(hits["patients", score], 300), score
        assert hits["images", score] / 300 < 0.9, score


def test_delong_is_its_definition_by_placement_values():
    one, two = draw(80, 4), draw(80, 5)
    abnormal = (one["label"] == "abnormal").to_numpy()
    first = one["log_odds"].to_numpy().round(1)  # with ties
    second = (first + two["log_odds"].to_numpy()) / 2
    parts = []
    for p in (first, second):
        x, y = p[abnormal][:, None], p[~abnormal]
        wins = (x > y) + 0.5 * (x == y)
        parts.append((wins.mean(1), wins.mean(0)))
    variance = sum(np.cov(parts[0][k], parts[1][k]) / len(parts[0][k]) for k in (0, 1))
    found = delong(abnormal, first, second)
    assert found["first"] == pytest.approx(metrics.roc_auc_score(abnormal, first))
    assert found["second"] == pytest.approx(metrics.roc_auc_score(abnormal, second))
    assert found["se"] == pytest.approx(np.sqrt([1, -1] @ variance @ [1, -1]))
    assert found["p"] == pytest.approx(2 * norm.sf(abs(found["difference"] / found["se"])))
    assert delong(abnormal, first, first)["p"] == 1.0


# Albumin, total protein, K-G score of 43 patients with ovarian cancer, and whether surgery failed to help (0): the data
# of DeLong et al. 1988, as the SAS/STAT user's guide prints them (PROC LOGISTIC, "Comparing ROC Curves")
OVARIAN = """
3.0 5.8 10 0 3.2 6.3 5 1 3.9 6.8 3 1 2.8 4.8 6 0 3.2 5.8 3 1 0.9 4.0 5 0 2.5 5.7 8 0 1.6 5.6 5 1 3.8 5.7 5 1
3.7 6.7 6 1 3.2 5.4 4 1 3.8 6.6 6 1 4.1 6.6 5 1 3.6 5.7 5 1 4.3 7.0 4 1 3.6 6.7 4 0 2.3 4.4 6 1 4.2 7.6 4 0
4.0 6.6 6 0 3.5 5.8 6 1 3.8 6.8 7 1 3.0 4.7 8 0 4.5 7.4 5 1 3.7 7.4 5 1 3.1 6.6 6 1 4.1 8.2 6 1 4.3 7.0 5 1
4.3 6.5 4 1 3.2 5.1 5 1 2.6 4.7 6 1 3.3 6.8 6 0 1.7 4.0 7 0 3.7 6.1 5 1 3.3 6.3 7 1 4.2 7.7 6 1 3.5 6.2 5 1
2.9 5.7 9 0 2.1 4.8 7 1 2.8 6.2 8 0 4.0 7.0 7 1 3.3 5.7 6 1 3.7 6.9 5 1 3.6 6.6 5 1"""


@pytest.mark.parametrize(
    ("column", "auroc", "z", "p"),
    [
        (0, 0.7365591397849462, 0.1127782690445276, 0.9102063472010342),
        (1, 0.6478494623655914, -0.7452183896579927, 0.45613970750747357),
    ],
    ids=["albumin", "total protein"],
)
def test_delong_gives_a_published_implementations_numbers_on_delongs_own_data(column, auroc, z, p):
    # z and p as MLstatkit 0.1.91 (PyPI), Delong_test, gives them for the K-G score against the other
    data = np.array(OVARIAN.split(), dtype=float).reshape(-1, 4)
    found = delong(data[:, 3] == 0, data[:, 2], -data[:, column])
    assert (found["first"], found["second"]) == pytest.approx((0.7258064516129031, auroc))
    assert (found["z"], found["p"]) == pytest.approx((z, p), rel=1e-9)


def test_mcnemar_is_a_sign_test_of_the_images_they_differ_on():
    first, second = np.array([1, 1, 1, 1, 1, 0, 1, 1], bool), np.array([0, 0, 0, 0, 0, 1, 1, 1], bool)
    assert mcnemar(first, second) == pytest.approx(2 * (1 + 6) / 2**6)  # 5 of 6, both tails of ½
    assert mcnemar(first, first) == 1.0


def test_noise_is_no_difference_and_a_better_model_is_one():
    one = draw(200, 6)
    noisy = one.assign(log_odds=one["log_odds"] + np.random.default_rng(0).normal(0, 0.04, 200))
    same = compare(*paired(one, noisy)).set_index("score")
    assert same.loc["auroc", "low"] <= 0 <= same.loc["auroc", "high"]
    assert same.loc["auroc", "p"] > 0.05
    better = one.assign(log_odds=np.where(one["label"] == "abnormal", 1.4, -1.4))
    found = compare(*paired(one, better)).set_index("score")
    assert found.loc["auroc", "low"] > 0
    assert found.loc["auroc", "p"] < 0.001
    assert found.loc["accuracy", "test"] == "McNemar"


def test_copies_and_photographs_of_one_patient_count_once_in_a_comparison_too():
    one, two = draw(60, 6), draw(60, 6, distance=2)
    two["label"] = one["label"]
    once = compare(*paired(one, two)).set_index("score")
    tables = []
    for run in (one, two):
        copies = run.assign(image=[f"copy{k}" for k in range(60)])
        tables.append(pd.concat([run, copies], ignore_index=True))
    same = dict(zip(tables[0]["image"], list(one["image"]) * 2, strict=True))
    patients = [tables[0], tables[1].assign(patient=list(one["image"]) * 2)]  # known to one of the runs suffices
    for found in (compare(*paired(*tables), clusters=same), compare(*paired(*patients))):
        found = found.set_index("score")
        assert found.loc["auroc", "groups"] == 60
        assert found.loc["auroc", "n"] == 120
        for score in ("auroc", "sensitivity", "brier"):
            assert found.loc[score, "low"] == pytest.approx(once.loc[score, "low"])
            assert found.loc[score, "high"] == pytest.approx(once.loc[score, "high"])


def test_only_images_of_both_runs_are_compared_and_changed_labels_are_refused():
    one = draw(10, 7)
    assert [len(table) for table in paired(one, one.iloc[3:])] == [7, 7]
    with pytest.raises(DataError, match="no image in common"):
        paired(one.iloc[:3], one.iloc[3:])
    with pytest.raises(DataError, match="another label"):
        paired(one, one.assign(label=one["label"].map({"normal": "abnormal", "abnormal": "normal"})))


def test_thresholds_are_those_worked_out_by_hand():
    def between(one: float, other: float):
        return pytest.approx((logit(one) + logit(other)) / 2)

    def chosen(rule: str) -> float:
        return choose_threshold(rule, ABNORMAL, log_odds=LOG_ODDS, miss=5)

    found = {rule: chosen(rule) for rule in RULES}
    assert found["fixed"] == 0
    # abnormal 0.1 0.6 0.8 0.9, normal 0.05 0.2 0.3 0.6 0.7; above 0.3: 3 of 4 and 3 of 5; above 0.7: 2 of 4 and 5 of 5
    assert found["youden"] == between(0.7, 0.8)
    assert found["sensitivity_95"] == between(0.05, 0.1)
    assert found["specificity_95"] == between(0.7, 0.8)
    assert found["least_cost"] == between(0.05, 0.1)  # 4 false alarms; above 0.3 a miss and 2, which is 7
    assert rules(0.9, 0.6)[2:4] == ("sensitivity_90", "specificity_60")
    assert chosen("sensitivity_75") == between(0.3, 0.6)  # above 0.3: 3 of 4, 3 of 5
    assert chosen("specificity_60") == between(0.3, 0.6)
    assert chosen("specificity_80") == between(0.6, 0.7)  # 0.6 is tied, 0.7 left
    assert choose_threshold("youden", np.ones(3, bool), log_odds=LOG_ODDS[:3]) is None
    # at the ends, all or no images are called abnormal, and JSON can store the thresholds
    assert choose_threshold("sensitivity_95", ABNORMAL, log_odds=-LOG_ODDS) in (-ALL, *(-LOG_ODDS - 1e-9))
    assert choose_threshold("specificity_95", ABNORMAL[:5], log_odds=np.array([0.0, 0, 0, 0, 1])) == ALL
    assert [Threshold.of(p).log_odds for p in (0, 0.5, 1)] == [-ALL, 0, ALL]


def test_a_mean_of_probabilities_keeps_the_ranks_that_they_have_lost():
    each = np.random.default_rng(0).normal(0, 3, (5, 40))
    np.testing.assert_allclose(expit(averaged(each)), expit(each).mean(axis=0))
    table = pd.Series(each.T.ravel()), pd.Series(np.repeat(np.arange(40), 5))
    np.testing.assert_allclose(averaged_by(*table), averaged(each))
    for sure in (40.0, -40.0, 700.0):
        ranks = averaged(sure + np.linspace(0, 1, 40) + np.zeros((5, 1)))
        np.testing.assert_allclose(ranks, sure + np.linspace(0, 1, 40))
    # one extremely confident model of ten counts for a tenth
    assert expit(averaged(np.array([-40.0] + [2.0] * 9))) == pytest.approx(0.9 * expit(2))


def test_calibration_finds_the_temperature_that_was_put_in():
    found = draw(4000, 8, distance=2)
    abnormal = (found["label"] == "abnormal").to_numpy()
    x = found["log_odds"].to_numpy()
    true = expit(2 * x)  # the posterior of two unit normals at ±1
    temperature = fit_temperature(abnormal, log_odds=6 * x)
    assert temperature == pytest.approx(3, rel=0.1)
    assert np.abs(apply_temperature(6 * x, temperature) - true).max() < 0.05
    platt = fit_platt(abnormal, log_odds=6 * x + 30)
    assert platt == {"slope": pytest.approx(1 / 3, rel=0.1), "intercept": pytest.approx(-10, rel=0.1)}
    assert np.abs(apply_platt(6 * x + 30, platt) - true).max() < 0.05
    assert not at_bound(platt["slope"])
    assert fit_temperature(np.ones(3, bool), log_odds=x[:3]) is None
    assert fit_platt(np.ones(3, bool), log_odds=x[:3]) is None


def test_calibrations_whose_images_ask_for_more_than_their_range_say_so():
    abnormal = np.arange(20) < 10
    parted = np.where(abnormal, 1.0, -1.0)
    assert at_bound(fit_temperature(abnormal, log_odds=parted))
    assert 0.9 < apply_platt(1.0, fit_platt(abnormal, log_odds=parted)) < 0.95  # 11 of 12, by Platt's labels
    assert at_bound(fit_platt(abnormal, log_odds=-parted)["slope"])  # worse than chance: ranks are not turned round
    constant = fit_platt(abnormal[:15], log_odds=np.full(15, 3.0))
    assert apply_platt(3.0, constant) == pytest.approx((10 * 11 / 12 + 5 / 7) / 15)


def test_the_reliability_table_is_what_the_calibration_error_sums():
    rows = reliability(ABNORMAL, PROBABILITY)
    assert rows["n"].sum() == 9
    gaps = (rows["probability"] - rows["abnormal"]).abs() * rows["n"]
    assert gaps.sum() / 9 == pytest.approx(scores(ABNORMAL, log_odds=LOG_ODDS)["ece"])


def test_net_benefit_is_that_worked_out_by_hand():
    curve = decision_curve(ABNORMAL, PROBABILITY).set_index("threshold")
    assert curve.loc[0.5, "model"] == pytest.approx(3 / 9 - 2 / 9)
    assert curve.loc[0.75, "model"] == pytest.approx(2 / 9)
    assert curve.loc[0.2, "all"] == pytest.approx(4 / 9 - 5 / 9 * 0.25)


def test_thresholds_and_calibration_of_a_fold_are_fitted_on_test_and_applied_untouched_to_valid():
    parts = [
        draw(40, seed).assign(fold=fold, split=split)
        for seed, (fold, split) in enumerate([(0, "test"), (0, "valid"), (1, "test"), (1, "valid")])
    ]
    predictions = pd.concat(parts, ignore_index=True)
    predictions["image"] = [f"i{k}" for k in range(160)]
    assert "sensitivity_80" in decisions(predictions, 5, rules(sensitivity=0.8))["folds"]["1"]["thresholds"]
    found = decisions(predictions, miss=5)
    changed = predictions.copy()
    changed.loc[changed["split"] == "valid", "log_odds"] *= 2
    assert decisions(changed, miss=5) == found
    rows = thresholds_table(predictions, found).set_index(["rule", "split"])
    assert rows.loc[("sensitivity_95", "test"), "sensitivity"] >= 0.95
    assert rows.loc[("fixed", "valid"), "n"] == 80
    judged, valid = calibration_table(predictions, found)
    assert judged["method"].tolist() == ["none", "temperature", "platt"]
    assert judged["fitted_on"].tolist()[1:] == [80, 80]  # the test images of both folds
    assert judged["folds_at_bound"].tolist() == [0, 0, 0]
    assert len(valid) == 80


def test_no_calibration_of_a_fold_has_seen_the_labels_that_it_is_judged_on():
    folds = np.arange(60) % 3
    rows = [
        draw(60, 7 + fold).assign(fold=fold, split=np.where(folds == fold, "test", "valid"))[
            lambda t: t.index // 20 < 2
        ]
        for fold in range(3)
    ]
    predictions = pd.concat(rows, ignore_index=True)
    predictions["label"] = draw(60, 1)["label"].reindex([int(i[1:]) for i in predictions["image"]]).to_numpy()
    found = decisions(predictions, miss=1)
    # each image is tested in one fold and held out in both others, so that a fold's own test images are left to it
    assert {one["calibrated_on"] for one in found["folds"].values()} <= {13, 14}
    turned = predictions.copy()
    of_valid = turned["image"].isin(turned.loc[(turned["fold"] == 0) & (turned["split"] == "valid"), "image"])
    turned.loc[of_valid, "label"] = turned.loc[of_valid, "label"].map({"normal": "abnormal", "abnormal": "normal"})
    assert decisions(turned, miss=1)["folds"]["0"]["platt"] == found["folds"]["0"]["platt"]


def test_the_ensembles_threshold_and_calibration_are_of_means_of_models_that_have_not_trained_on_an_image():
    folds = np.arange(90) % 3
    whole = [draw(90, 9).assign(fold=fold, split=np.where(folds == fold, "test", "valid")) for fold in range(3)]
    for fold, rows in enumerate(whole):
        rows["log_odds"] += np.random.default_rng(fold).normal(size=90)
    predictions = pd.concat([rows[folds != (fold + 1) % 3] for fold, rows in enumerate(whole)])  # two of three each
    several = out_of_fold(predictions.reset_index(drop=True))
    assert several["models"].tolist() == [2] * 90
    for image, part in predictions.groupby("image"):
        mean = several.set_index("image").at[image, "log_odds"]
        assert expit(mean) == pytest.approx(expit(part["log_odds"]).mean())
    found = decisions(predictions, miss=1)
    abnormal = (several["label"] == "abnormal").to_numpy()
    by_hand = choose_threshold("youden", abnormal, log_odds=several["log_odds"].to_numpy())
    assert found["ensemble"]["thresholds"]["youden"] == by_hand
    assert found["ensemble"]["platt"] == fit_platt(abnormal, log_odds=several["log_odds"].to_numpy())
    few = decisions(predictions[predictions["fold"] < 2], miss=1)
    assert few["ensemble"] is None
    assert "there are only 30 photographs that two or more" in few["ensemble_of"]


def test_scores_are_told_by_group_and_the_surest_errors_come_first():
    found = draw(120, 9).assign(source=["A", "B", ""] * 40, size=np.arange(120.0), camera="one")
    rows = subgroup_scores(found, ["source", "size", "camera"], seed=0).set_index(["by", "group"])
    assert rows.index.tolist() == [
        *[("source", "A"), ("source", "B")],
        *[("size", f"{name} third") for name in ("lowest", "middle", "highest")],
    ]
    assert rows["n"].tolist() == [40] * 5
    part = found[found["source"] == "A"]
    known = scores((part["label"] == "abnormal").to_numpy(), log_odds=part["log_odds"].to_numpy())
    assert rows.loc[("source", "A"), "sensitivity"] == known["sensitivity"]
    predicted = found.assign(predicted=np.where(found["log_odds"] >= 0, "abnormal", "normal"))
    worst = worst_errors(predicted, most=3)
    assert worst["error"].tolist() == ["false negative"] * 3 + ["false positive"] * 3
    sick = predicted[(predicted["label"] == "abnormal") & (predicted["predicted"] == "normal")]
    assert worst["log_odds"].iloc[0] == sick["log_odds"].min()


def test_image_quality_is_measured_of_every_image():
    sharp = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    rows = qualities(np.stack([sharp, np.full_like(sharp, 200)]))
    assert rows["sharpness"].iloc[0] > rows["sharpness"].iloc[1]
    assert rows["brightness"].iloc[1] > rows["brightness"].iloc[0]
