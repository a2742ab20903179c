"""Cost and quality: the recommended rung, its interval, and invalid input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score
from test_summary import fold

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv, write_csv, write_json
from glaucoma.evaluate.ladder import RUNGS, cheapest, cost_quality, final_rung, ladder_lines, read_costs, read_ladder
from glaucoma.evaluate.over_folds import mean_differences
from glaucoma.evaluate.summary import read_folds
from glaucoma.report.score_figures import ladder_figure

COSTS = {"thumbnail": 0.1, "regression": 2.0, "stage1": 5.0, "stage2": 20.0, "final": 60.0}


def predictions(signal: dict[str, float], folds: int = 3, images: int = 60, noise: int = 0) -> pd.DataFrame:
    """Rungs with the given signal strength; all share the same noise except the first `noise` rungs."""
    tables = []
    for number in range(folds):
        draw = np.random.default_rng(number)
        abnormal, shared = np.arange(images) % 2 == 0, draw.normal(size=images)
        for i, (rung, gain) in enumerate(signal.items()):
            z = gain * abnormal + (draw.normal(size=images) if i < noise else shared)
            table = pd.DataFrame({"image": [f"{number}-{k:03}" for k in range(images)], "log_odds": z})
            table["label"] = np.where(abnormal, "abnormal", "normal")
            tables.append(table.assign(rung=rung, fold=number, patient=""))
    return pd.concat(tables, ignore_index=True)


def judged(told: pd.DataFrame, costs: dict[str, float] = COSTS) -> pd.DataFrame:
    cost = pd.DataFrame({"rung": list(costs), "seconds": list(costs.values()), "images_per_second": 50.0})
    return cost_quality(told, cost, seed=0, resamples=500)


def test_aurocs_are_means_over_the_folds_and_the_intervals_those_of_the_paired_bootstrap():
    told = predictions({"regression": 1.0, "final": 1.4}, noise=1)
    table = judged(told).set_index("rung")
    for rung, part in told.groupby("rung"):
        each = [roc_auc_score(one["label"] == "abnormal", one["log_odds"]) for _, one in part.groupby("fold")]
        assert table.loc[rung, "auroc"] == pytest.approx(np.mean(each), abs=1e-12)
    of = [told[told["rung"] == rung] for rung in ("final", "regression")]
    expected = mean_differences(*of, seed=0, resamples=500).set_index("score").loc["auroc"]
    row = table.loc["regression"]
    assert row["difference"] == pytest.approx(expected["difference"], abs=1e-12)
    assert row["difference_low"] == pytest.approx(expected["low"], abs=1e-9)
    assert row["difference_high"] == pytest.approx(expected["high"], abs=1e-9)
    assert table["verdict"].to_dict() == {
        "regression": "worse" if expected["high"] < -0.01 else "open",
        "final": "best",
    }


def test_the_cheapest_rung_that_is_shown_not_to_be_worse_is_named_and_the_regression_is_recommended():
    table = judged(predictions({"thumbnail": 0.2, "regression": 2.0, "stage1": 2.0, "final": 2.01}))
    assert table["rung"].tolist() == ["thumbnail", "regression", "stage1", "final"]
    assert table["verdict"].tolist() == ["worse", "not worse", "not worse", "best"]
    assert cheapest(table)["rung"] == "regression"
    lines = ladder_lines(table)
    assert lines[0].startswith("the cheapest rung that is shown not to be worse than the best by more than 0.01")
    assert "regression (" in lines[0]
    assert "2 s of training a fold" in lines[0]
    assert "glaucoma predict controls" in lines[1]
    slower = judged(predictions({"regression": 2.0, "stage1": 2.0}), {"regression": 9.0, "stage1": 3.0})
    assert cheapest(slower)["rung"] == "stage1"
    untimed = judged(predictions({"regression": 2.0, "stage1": 2.0}), {"stage1": 3.0})
    assert cheapest(untimed)["rung"] == "regression"


def test_a_regression_that_the_folds_have_is_not_called_a_network():
    table = judged(
        predictions({"regression": 2.0, "folds_regression": 2.0}), {"regression": 2.0, "folds_regression": 5.0}
    )
    assert cheapest(table)["rung"] == "regression"
    assert "C and flips of the folds' own regression gain 0.01 at most" in ladder_lines(table)[1]
    table = judged(
        predictions({"regression": 1.0, "folds_regression": 3.0}), {"regression": 2.0, "folds_regression": 5.0}
    )
    assert "glaucoma predict crossval" in ladder_lines(table)[1]
    assert "network" not in ladder_lines(table)[0]
    assert [final_rung(model) for model in ("final", "regression", "model4")] == ["final", "folds_regression", "model4"]


def test_what_the_images_leave_open_is_said_and_not_chosen():
    table = judged(predictions({"regression": 1.2, "final": 1.3}, noise=2))
    assert set(table["verdict"]) == {"best", "open"}
    best = table.loc[table["verdict"] == "best", "rung"].iat[0]
    assert cheapest(table)["rung"] == best
    if best == "final":
        assert "regression is cheaper" in ladder_lines(table)[1]
        assert "leave open" in ladder_lines(table)[1]


def test_a_thumbnail_that_suffices_is_a_warning():
    table = judged(predictions({"thumbnail": 3.0, "final": 3.0}))
    assert "look for a shortcut" in ladder_lines(table)[1]


def test_a_rung_of_one_fold_is_compared_on_that_fold_and_never_named():
    told = predictions({"regression": 1.0, "final": 1.5, "model4": 9.0}, noise=1)
    told = told[(told["rung"] != "model4") | (told["fold"] == 1)]
    table = judged(told, {**COSTS, "model4": 0.01}).set_index("rung")
    row = table.loc["model4"]
    assert (row["folds"], row["images"]) == (1, 60)
    of = told[(told["fold"] == 1) & (told["rung"] == "final")]
    assert row["difference"] == pytest.approx(row["auroc"] - roc_auc_score(of["label"] == "abnormal", of["log_odds"]))
    assert row["verdict"] == "not worse"
    assert table.loc["final", "verdict"] == "best"
    assert cheapest(table.reset_index())["rung"] == "final"


def test_copies_and_patients_widen_the_interval():
    told = predictions({"final": 1.0})
    cost = pd.DataFrame(columns=["rung", "seconds", "images_per_second"])
    alone = cost_quality(told, cost, seed=0).iloc[0]
    same = {image: image[:-1] for image in told["image"]}  # ten images are one photograph
    together = cost_quality(told, cost, seed=0, clusters=same).iloc[0]
    assert together["high"] - together["low"] != pytest.approx(alone["high"] - alone["low"], abs=1e-6)
    assert np.isnan(alone["seconds"])


def test_images_of_one_class_define_nothing_and_break_nothing(tmp_path):
    told = predictions({"regression": 1.0, "final": 1.0}).assign(label="normal")
    table = judged(told)
    assert table["auroc"].isna().all()
    assert cheapest(table) is None
    assert "no rung's AUROC is defined" in ladder_lines(table)[0]
    ladder_figure(table, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").is_file()


def test_the_figure_is_the_same_for_the_same_table(tmp_path):
    table = judged(predictions(dict.fromkeys(RUNGS, 1.0), noise=4))
    for name in ("one.png", "other.png"):
        ladder_figure(table, tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


@pytest.fixture
def run(tmp_path, monkeypatch) -> pd.DataFrame:
    """Write a run of two folds with controls and stages; return the final networks' predictions."""
    monkeypatch.chdir(tmp_path)
    tables = []
    for number in range(2):
        fold(number)
        files = paths.fold_files(number)
        table = read_csv(files["report"] / "predictions.csv", dtype=str).assign(fold=number)
        tables.append(table)
        rungs = pd.concat([table.assign(rung=stage) for stage in ("stage1", "stage2")])
        write_csv(files["report"] / "ladder.csv", rungs)
        ladder = {"stage1": 1.0 + number, "stage2": 3.0, "final": 9.0}
        write_json(files["timing"], {"seconds": 9.0, "images_per_second": 40.0, "ladder": ladder})
    both = pd.concat(tables)
    names = ("thumbnail", paths.REGRESSION, "regression_max")
    write_csv(paths.CONTROLS / "predictions.csv", pd.concat([both.assign(control=name) for name in names]))
    cost = {"seconds": 0.5, "images_per_second": 60.0}
    write_json(paths.CONTROLS_TIMING, {"thumbnail": cost, paths.REGRESSION: cost})
    return both


def test_every_rung_that_the_run_has_is_read_with_its_costs(run):
    told = read_ladder(read_folds([0, 1]))
    assert told["rung"].unique().tolist() == ["thumbnail", "regression", "stage1", "stage2", "final"]
    assert told.groupby("rung").size().eq((run["split"] == "valid").sum()).all()
    costs = read_costs([0, 1]).set_index("rung")
    assert costs["seconds"].to_dict() == {
        "thumbnail": 0.5,
        "regression": 0.5,
        "stage1": 1.5,
        "stage2": 3.0,
        "final": 9.0,
    }
    write_csv(paths.search_files("model4")["report"] / "ladder.csv", run[run["fold"] == 0].assign(rung="model4"))
    write_json(paths.cost_file("model4"), {"seconds": 70.0, "images_per_second": 10.0})
    assert "model4" in set(read_ladder(read_folds([0, 1]))["rung"])
    assert read_costs([0, 1]).set_index("rung").loc["model4", "seconds"] == 70.0
    named = read_ladder(read_folds([0, 1]), "model4")  # its folds are the final networks; its search is left out
    assert "final" not in set(named["rung"])
    of_regressions = set(read_ladder(read_folds([0, 1]), "folds_regression")["rung"])
    assert {"regression", "folds_regression"} < of_regressions
    assert "final" not in of_regressions
    assert (named["rung"] == "model4").sum() == (run["split"] == "valid").sum()


def test_a_run_without_controls_stages_or_timings_has_the_final_network_alone(run):
    (paths.CONTROLS / "predictions.csv").unlink()
    paths.CONTROLS_TIMING.unlink()
    for number in range(2):
        (paths.fold_files(number)["report"] / "ladder.csv").unlink()
        paths.fold_files(number)["timing"].unlink()
    results = read_folds([0, 1])
    table = cost_quality(read_ladder(results), read_costs([0, 1]), seed=0, resamples=50)
    assert table["rung"].tolist() == ["final"]
    assert table["verdict"].tolist() == ["best"]
    assert table["seconds"].isna().all()
    assert "final (the final network)" in ladder_lines(table)[0]


@pytest.mark.parametrize(
    ("file", "said"),
    [
        (paths.CONTROLS / "predictions.csv", "dvc repro -f controls"),
        (paths.fold_files(1)["report"] / "ladder.csv", "dvc repro"),
    ],
)
def test_predictions_of_other_images_are_refused(run, file: Path, said: str):
    table = read_csv(file, dtype=str)
    write_csv(file, table.assign(image=table["image"].str[::-1]))
    with pytest.raises(DataError, match="other images") as error:
        read_ladder(read_folds([0, 1]))
    assert said in str(error.value)


def test_a_real_run_keeps_every_rung_of_every_fold_and_says_which_to_take(finished):
    for number in (0, 1):
        report = finished / paths.fold_files(number)["report"]
        ours = read_csv(report / "predictions.csv", dtype={"image": str})[["split", "image", "label"]]
        kept = read_csv(report / "ladder.csv", dtype={"image": str})
        assert kept["rung"].unique().tolist() == ["stage1", "stage2"]
        for _, part in kept.groupby("rung"):
            assert part[["split", "image", "label"]].to_numpy().tolist() == ours.to_numpy().tolist()
        costs = finished.json(paths.fold_files(number)["timing"])["ladder"]
        assert 0 < costs["stage1"] < costs["stage2"] < costs["final"]
    table = read_csv(finished / paths.COST_QUALITY)
    assert table["rung"].tolist() == ["thumbnail", "regression", "stage1", "stage2", "final"]
    assert table[["seconds", "images_per_second"]].gt(0).all(axis=None)
    valid = read_csv(finished / paths.SUMMARY / "folds.csv")["valid_auroc"].mean()
    assert table.set_index("rung").loc["final", "auroc"] == pytest.approx(valid)
    assert ladder_lines(table)[0] in finished.run("glaucoma", "results").stdout
    page = (finished / paths.PAGE).read_text()
    assert "The cheapest rung that is shown not to be worse" in page
    assert not any(b"seconds" in content for content in finished.metrics().values())
