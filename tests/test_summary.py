"""The summary of all folds, and the comparison with the published figures."""

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_stage

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv, read_json, write_csv, write_json
from glaucoma.base.params import Params, load_params
from glaucoma.base.profiles import load_profile
from glaucoma.evaluate.over_folds import mean_roc
from glaucoma.evaluate.published import comparable, comparison_table, protocol_table, published, readings_table
from glaucoma.evaluate.scores import predictions_table, scores
from glaucoma.evaluate.subgroups import examples
from glaucoma.evaluate.summary import SCORES, describe, headline, read_folds, read_selection, readable, selection_note
from glaucoma.evaluate.summary_tables import write_judgement, write_ladder
from glaucoma.model.symptoms import FILE, Symptom, symptoms_table

CONSTANT = Symptom("same_answer", 0.01, "answers the same", "too little was learnt", "raise lr")
STATISTICS = ["mean", "std", "min", "25%", "50%", "75%", "max"]


def fold(
    number: int, root: Path = Path(), contamination: float = 0.0, seconds: float | None = 5.0, constant: bool = False
) -> None:
    """Write the results of fold `number`: 8 test images that are in no other fold's test, 6 valid ones."""
    draw = np.random.default_rng(number)
    found, tables = {"fold": number}, []
    for split, size in (("test", 8), ("valid", 6)):
        abnormal = np.arange(size) % 2 == 0
        log_odds = 5 * (0.4 * abnormal - 0.2 + draw.normal(0, 0.25, size))
        found[split] = scores(abnormal, log_odds=log_odds) | {"contamination": contamination}
        # content ids may consist of digits only
        table = predictions_table([f"{number:032d}{k:032d}" for k in range(size)], abnormal, log_odds=log_odds)
        tables.append(table.assign(split=split, patient="", source=""))
    files = paths.fold_files(number)
    write_json(root / files["metrics"], found)
    write_csv(root / files["report"] / "predictions.csv", pd.concat(tables))
    write_csv(root / files["report"] / FILE, symptoms_table({f"fold {number}": [CONSTANT] if constant else []}))
    if seconds is not None:
        write_json(root / files["timing"], {"seconds": seconds + number})


@pytest.fixture
def folds(tmp_path, monkeypatch):
    """Results of three folds in the working folder."""
    monkeypatch.chdir(tmp_path)
    for number in range(3):
        fold(number)


def as_published(**changes: object) -> tuple[Params, dict]:
    """The shipped params with the report's protocol, changed by dotted keys; and the report's index metrics."""
    protocol = published()["protocol"]
    raw = load_params(ROOT / "params.yaml").model_dump()
    for key, value in (protocol["params"] | changes).items():
        *parents, last = key.split(".")
        section = raw
        for parent in parents:
            section = section[parent]
        section[last] = value
    return Params.model_validate(raw), protocol["index"]


def published_folds() -> pd.DataFrame:
    return pd.DataFrame(published()["folds"])


def test_exactly_the_folds_asked_for_are_read(folds):
    fold(9)
    results = read_folds([2, 0])
    assert results.folds["fold"].tolist() == [0, 2]
    assert sorted(results.predictions["fold"].unique()) == [0, 2]
    assert [path.name for path in results.stale] == ["fold1.json", "fold9.json"]


def test_a_missing_fold_is_named(folds):
    with pytest.raises(DataError, match=r"metrics/crossval/fold7\.json(.|\n)*`dvc repro`"):
        read_folds([0, 7])
    Path("reports/crossval/fold1/predictions.csv").unlink()
    with pytest.raises(DataError, match=r"reports/crossval/fold1/predictions\.csv"):
        read_folds([0, 1])


@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("metrics/crossval/fold1.json", "{", "is no JSON"),
        ("metrics/crossval/fold1.json", "[]", "lacks test"),
        ("metrics/crossval/fold1.json", '{"test": {"n": 8}}', "lacks test"),
        ("reports/crossval/fold1/predictions.csv", "", "is no table"),
        ("reports/crossval/fold1/predictions.csv", "image,split\na,test\n", "is no table"),
        (
            "reports/crossval/fold1/predictions.csv",
            "image,patient,source,split,label,predicted,probability,log_odds\na,,,test,RG,NRG,0.1,-2\n",
            "classes other than",
        ),
        (
            "reports/crossval/fold1/predictions.csv",
            "image,patient,source,split,label,predicted,probability\na,,,test,normal,normal,0.1\n",
            "has no column log_odds; predictions of an older release",
        ),
        (
            "reports/crossval/fold1/predictions.csv",
            "image,patient,source,split,label,predicted,probability,log_odds\na,,,test,normal,normal,0.1,\n",
            "no finite numbers",
        ),
        (
            "reports/crossval/fold1/predictions.csv",
            "image,patient,source,split,label,predicted,probability,log_odds\na,,,test,normal,normal,0.1,-2\n",
            "lists 1 test images where metrics count 8",
        ),
    ],
)
def test_a_damaged_result_is_named_with_the_command_that_repairs_it(folds, file, content, said):
    Path(file).write_text(content)
    with pytest.raises(DataError) as error:
        read_folds([0, 1])
    assert str(error.value).startswith(f"{file} ")
    assert said in str(error.value)
    assert "dvc repro --force --single-item crossval@1" in str(error.value)


def test_the_description_is_that_of_pandas(folds):
    results = read_folds([0, 1, 2])
    table = describe(results)
    assert list(table.columns) == ["count", *STATISTICS]
    values = [read_json(f"metrics/crossval/fold{k}.json")["test"]["auroc"] for k in range(3)]
    assert table.loc["test_auroc", "mean"] == pytest.approx(np.mean(values))
    assert table.loc["test_auroc", "std"] == pytest.approx(np.std(values, ddof=1))
    assert table.loc["test_auroc", "50%"] == sorted(values)[1]


def test_the_reports_folds_describe_to_the_reports_summary():
    table = published_folds().drop(columns="fold").describe().T
    for score, statistics in published()["summary"].items():
        for name, value in statistics.items():
            assert table.loc[score, name] == pytest.approx(value, abs=0.0011), (score, name)


def test_the_headline_has_fourteen_keys_the_highest_contamination_and_how_many_folds_are_warned_of(folds):
    fold(1, contamination=0.63, constant=True)
    found = headline(read_folds([0, 1, 2]))
    assert len(found) == 14
    assert found["warned_folds"] == 1
    assert {"valid_sensitivity_at_95_specificity", "test_brier"} <= set(found)
    assert found["contamination"] == 0.63
    rows = [read_json(f"metrics/crossval/fold{k}.json") for k in range(3)]
    assert found["valid_f1_macro"] == pytest.approx(np.mean([row["valid"]["f1_macro"] for row in rows]))


def test_a_score_that_one_fold_lacks_is_described_over_the_others(folds):
    path = Path("metrics/crossval/fold0.json")
    found = read_json(path)
    found["test"]["auroc"] = None
    write_json(path, found)
    table = describe(read_folds([0, 1, 2]))
    assert table.loc["test_auroc", "count"] == 2
    assert table.loc["test_f1_macro", "count"] == 3
    alone = read_folds([0])
    assert "test_auroc" not in headline(alone)
    params = load_params(ROOT / "params.yaml")
    said = readable(write_judgement(read_folds([0, 1, 2]), params), 0.0)
    assert said.startswith("mean over folds, with 95 % interval")
    assert "lack a class in a fold" in said


def test_pooled_predictions_keep_their_ids_and_folds(folds):
    pooled = read_folds([0, 1, 2]).pooled("test")
    assert list(pooled.columns) == [
        "fold",
        "image",
        "patient",
        "source",
        "label",
        "predicted",
        "probability",
        "log_odds",
    ]
    assert len(pooled) == 24
    assert pooled["image"].str.len().eq(64).all()
    assert pooled["image"].is_unique


def test_missing_timings_stop_nothing(folds):
    shutil.rmtree("metrics/timing")
    assert read_folds([0, 1]).seconds.empty


def test_the_published_protocol_is_the_published_one():
    params, index = as_published()
    table = protocol_table(params, index)
    assert (table["same"] == "yes").all()
    assert table.set_index("item").loc["stage1.grid.optimizer", "here"] == "adam, sgd, adadelta, adagrad"


def test_scores_are_set_beside_the_published_ones_where_the_protocol_is_theirs():
    folds = published_folds()
    folds["test_accuracy"] += 0.01
    summary = folds.drop(columns="fold").describe().T
    table = comparison_table(protocol_table(*as_published()), folds, summary)
    rows = table.set_index(["score", "statistic"])
    assert rows.loc[("test_accuracy", "fold 3"), "difference"] == pytest.approx(0.01)
    assert rows.loc[("test_accuracy", "mean"), "difference"] == pytest.approx(0.01, abs=0.0011)
    assert rows.loc[("valid_f1_macro", "fold 9"), "difference"] == 0
    assert len(table) == 4 * (len(STATISTICS) + 10)
    assert table["note"].iat[0].startswith("same protocol")


def test_the_shipped_profile_is_compared_though_it_mends_the_leak_and_the_note_says_so():
    params = load_profile(ROOT / "profiles/published.yaml")
    protocol = protocol_table(params, published()["protocol"]["index"])
    assert protocol.loc[protocol["same"] == "no", "item"].tolist() == ["crossval.warm_start"]
    folds = published_folds()
    bounds = pd.DataFrame({"score": ["test_accuracy"], "statistic": ["fold 3"], "low": [0.8], "high": [0.9]})
    table = comparison_table(protocol, folds, folds.drop(columns="fold").describe().T, bounds)
    assert table["here"].notna().all()
    row = table.set_index(["score", "statistic"]).loc[("test_accuracy", "fold 3")]
    assert (row["low"], row["high"]) == (0.8, 0.9)
    assert "crossval.warm_start is fold, published stage2" in table["note"].iat[0]
    assert "only fold 0 is like for like" in table["note"].iat[0]


def test_weights_from_a_file_are_compared_and_named_but_random_ones_are_not():
    given = [protocol_table(*as_published(**{"backbone.weights": weights})) for weights in ("b0.h5", "none")]
    assert [comparable(table) for table in given] == [True, False]
    folds = published_folds()
    note = comparison_table(given[0], folds, folds.drop(columns="fold").describe().T)["note"].iat[0]
    assert "backbone.weights is b0.h5" in note
    assert "only if that file holds Keras' ImageNet weights" in note


def test_the_published_confusions_are_read_both_ways():
    table = readings_table().set_index(["search", "reading"])
    # stage 1: 74 of 82 abnormal and 70 of 92 normal images are correct; the report swaps the class names
    assert table.loc[("stage1", "corrected"), ["tp", "fn", "tn", "fp"]].tolist() == [74, 8, 70, 22]
    assert table.loc[("stage1", "as printed"), ["tp", "fn", "tn", "fp"]].tolist() == [70, 22, 74, 8]
    right, printed = table.xs("corrected", level=1), table.xs("as printed", level=1)
    assert right.loc["stage1", "sensitivity"] == pytest.approx(74 / 82)
    assert (right["sensitivity"] == printed["specificity"]).all()
    assert (right["accuracy"] == printed["accuracy"]).all()
    assert (right["sensitivity_low"] < right["sensitivity"]).all()
    assert (right["sensitivity"] < right["sensitivity_high"]).all()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"epochs": 10}, "differs only in epochs is 10, published 50"),
        ({"fit.early_stopping": 3}, "differs only in fit.early_stopping is 3, published 0"),
        ({"crossval.warm_start": "none"}, "differs only in crossval.warm_start is none, published stage2"),
        ({"lr": 1e-5, "epochs": 2, "head.dropout": 0.0, "batch_size": 8}, "4 of 43 items of the protocol differ"),
    ],
)
def test_another_protocol_is_not_compared_and_the_reason_is_given(changes, reason):
    folds = published_folds()
    table = comparison_table(protocol_table(*as_published(**changes)), folds, folds.drop(columns="fold").describe().T)
    assert reason in table["note"].iat[0]
    assert table[["here", "difference"]].isna().all(axis=None)
    assert table["published"].notna().all()


def test_the_order_of_a_grid_makes_no_other_protocol_but_another_image_does():
    params, index = as_published(**{"stage1.grid.lr": [0.001, 0.0001]})
    table = protocol_table(params, index | {"images": 1706})
    assert table.loc[table["same"] == "no", ["item", "published", "here"]].to_numpy().tolist() == [
        ["index.images", "1707", "1706"]
    ]


def test_the_published_searches_agree_with_themselves():
    for stage in published()["searches"].values():
        matrix = pd.DataFrame(stage["confusion"]).T
        assert matrix.sum(axis=1).to_dict() == {"normal": 92, "abnormal": 82}
    for stage in ("stage1", "stage2"):
        top = published()["searches"][stage]["top5"]
        assert {key: top[0][key] for key in ("lr", "optimizer", "batch_size", "epochs")} == published()["searches"][
            stage
        ]["final"]


def test_the_stage_writes_everything_twice_the_same_and_names_what_it_left_aside(tmp_path, capsys):
    for number in (0, 1, 5):
        fold(number, tmp_path, contamination=0.4, constant=number == 1)
    index = {"images": 16, "normal": 8, "abnormal": 8, "files": 32, "folds": 2}
    write_json(tmp_path / "metrics" / "index.json", index)
    lines = (ROOT / "params.yaml").read_text().splitlines()
    first = next(k for k, line in enumerate(lines) if line.strip().startswith("folds:"))
    kept = [line for k, line in enumerate(lines) if not (first + 2 < k <= first + 10)]
    (tmp_path / "params.yaml").write_text("\n".join(kept) + "\n")
    written = []
    for _ in range(2):
        run_stage("summary", tmp_path)
        files = [*(tmp_path / "reports" / "summary").iterdir(), *(tmp_path / "metrics").glob("[is]*.json")]
        files.remove(tmp_path / "metrics" / "index.json")
        written.append({file.name: file.read_bytes() for file in files})
    assert written[0] == written[1]
    assert {
        *["confusion.csv", "confusion_valid.csv", "folds.csv"],
        *["predictions.csv", "protocol.csv", "published.csv", "summary.csv", "summary.json"],
        *["intervals.csv", "intervals.json", "decision.json", "thresholds.csv", "calibration.csv"],
        *["reliability.csv", "decision_curve.csv", "worst.csv"],
        *["subgroups.csv", "predictions_valid.csv", "report_test.csv", "report_valid.csv"],
        *["published_searches.csv", "selection.csv", "controls.csv", "warnings.csv"],
        *["agreement.csv", "calibration_curve.csv", "probabilities.csv", "net_benefit.csv"],
        *["operating_points.csv", "predictive_values.csv", "precision.csv", "cost_quality.csv", "label_issues.csv"],
        *["slices.csv", "roc.csv", "roc_controls.csv", "examples.csv", "calibrated.csv"],
    } == set(written[0])
    told = read_json(tmp_path / paths.INTERVALS)
    assert set(told) == {"mean_over_folds", "pooled_over_folds"}
    of = told["mean_over_folds"]["valid"]["auroc"]
    assert of["value"] == pytest.approx(read_json(tmp_path / paths.SUMMARY_METRICS)["valid_auroc"])
    assert of["low"] <= of["value"] <= of["high"]
    rows = read_csv(tmp_path / "reports" / "summary" / "intervals.csv")
    assert list(dict.fromkeys(zip(rows["estimand"], rows["split"], strict=True))) == [
        *[("mean over folds", "valid"), ("mean over folds", "test")],
        *[("pooled over folds", "valid"), ("pooled over folds", "test")],
    ]
    assert read_csv(tmp_path / "reports" / "summary" / FILE)["of"].tolist() == ["fold 1"]
    said = capsys.readouterr()
    assert "fold5.json is not read" in said.err
    assert "not compared" in said.out
    table = read_csv(tmp_path / "reports" / "summary" / "folds.csv")
    assert {f"{split}_{score}" for split in ("test", "valid") for score in (*SCORES, "contamination")} <= set(table)
    assert read_csv(tmp_path / "metrics" / "timing" / "summary.csv")["mean"].tolist() == [5.5]


def load(warm_start: str, nested: bool = False) -> Params:
    params = load_params(ROOT / "params.yaml").model_dump()
    params["crossval"]["warm_start"], params["search"]["nested"] = warm_start, nested
    return Params.model_validate(params)


def test_the_configurations_of_all_folds_stand_in_one_table(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    row = {"stage": "stage1", "chosen_on": "fold 2, part of train", "lr": 0.1, "optimizer": "adam"}
    row |= {"batch_size": 4, "epochs": 1}
    write_csv(paths.fold_files(2)["report"] / "selection.csv", pd.DataFrame([row]))
    assert read_selection([2, 1]).to_dict("records") == [{"fold": 2, **row}]
    assert "within its own train split" in selection_note(load("fold", nested=True))
    assert "on fold 0 for all folds" in selection_note(load("fold"))
    assert "the final configuration" in selection_note(load("none"))


def test_the_area_below_the_mean_roc_curve_is_the_mean_of_the_folds_aurocs():
    draw = np.random.default_rng(3)
    tables = []
    for number, images in enumerate((13, 40, 7)):
        abnormal = np.arange(images) % 3 == 0
        log_odds = (abnormal + draw.normal(0, 1, images)).round(1) + 5 * number  # with ties, and folds of other scale
        names = [f"{number}-{k}" for k in range(images)]
        tables.append(predictions_table(names, abnormal, log_odds=log_odds).assign(fold=number))
    found = mean_roc(pd.concat(tables))
    aurocs = [scores((part["label"] == "abnormal").to_numpy(), log_odds=part["log_odds"])["auroc"] for part in tables]
    assert np.trapezoid(found["sensitivity"], found["false_alarms"]) == pytest.approx(np.mean(aurocs), abs=1e-9)
    assert found.iloc[0].tolist()[0] == 0
    assert found.iloc[-1].tolist() == [1, 1]
    assert (found.diff().dropna() >= 0).all(axis=None)
    one_class = tables[0][tables[0]["label"] == "normal"]
    assert mean_roc(one_class).empty
    assert mean_roc(pd.concat([one_class, tables[1].assign(fold=7)])).equals(mean_roc(tables[1]))


def test_examples_are_the_surest_a_typical_and_the_wrong_one_of_each_class():
    abnormal, log_odds = np.array([1, 1, 1, 1, 0, 0, 0], bool), np.array([5.0, 3, 1, -2, -4, -3, -0.5])
    table = predictions_table(list("abcdefg"), abnormal, log_odds=log_odds).assign(fold=0)
    found = examples(table)
    assert found["image"].tolist() == ["a", "b", "d", "e", "f", "g"]
    kinds = ["surest right", "typical right", "surest wrong", "surest right", "typical right", "least sure right"]
    assert found["example"].tolist() == kinds
    assert examples(table.iloc[:1])["image"].tolist() == ["a"]
    assert examples(table.iloc[:0]).empty


def test_a_run_whose_folds_have_a_regression_has_no_network_on_its_ladder(folds):
    shipped = load_params(ROOT / "params.yaml")
    params = shipped.model_copy(update={"crossval": shipped.crossval.model_copy(update={"model": "regression"})})
    assert write_ladder(read_folds([0, 1, 2]), params)["rung"].tolist() == ["folds_regression"]
