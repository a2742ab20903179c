"""The user's workflow: `dvc repro`, experiments and queues."""

from __future__ import annotations

import csv
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from glaucoma.base.params import load_params

SEARCHES = ["stage1", "stage2", "stage3"]
PREPARATION = ["index", "audit", "explore", "pixels"]
LAST = ["crossval@0", "crossval@1", "summary", "explain", "report"]
ALL = ["data/dvc.yaml:sample", *PREPARATION, "backbone", "controls", *SEARCHES, *LAST]
PATIENCE = 240  # seconds after which a test that waits gives up


def ran(output: str) -> list[str]:
    """The stages that DVC says it ran, in order."""
    return re.findall(r"Running stage '([^']+)'", output)


def rows(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as text:
        return list(csv.DictReader(text))


def trials(project: Project) -> set[Path]:
    """The trials in the journal."""
    return set((project / ".state/trials").glob("*/record.json"))


@pytest.fixture(autouse=True)
def _nothing_of_the_finished_project_changes(finished: Project):
    before = finished.metrics()
    yield
    assert finished.metrics() == before


# Repeating


def test_the_first_repro_runs_every_stage_once(finished: Project):
    assert sorted(ran(finished.repro)) == sorted(ALL)
    assert "Traceback" not in finished.repro
    assert finished.git("status", "--porcelain") == ""


def test_a_second_repro_runs_nothing(project: Project):
    again = project.dvc("repro")

    assert ran(again.stdout) == []
    assert "Data and pipelines are up to date." in again.stdout
    assert project.git("status", "--porcelain") == ""


@pytest.mark.slow
def test_forced_stages_write_the_same_bytes_again(project: Project):
    again = project.dvc("repro", "--force", "--single-item", *PREPARATION, "summary")

    assert sorted(ran(again.stdout)) == sorted([*PREPARATION, "summary"])
    # dvc.lock has the hash of every output, including tables and pictures
    assert project.git("status", "--porcelain") == ""


def test_a_search_trained_anew_comes_to_the_same_scores_and_pictures(finished: Project, project: Project):
    shutil.rmtree(project / ".state")

    project.dvc("repro", "--force", "--single-item", "stage1")

    assert project.metrics() == finished.metrics()
    for report in (finished / "reports/stage1").iterdir():
        assert (project / f"reports/stage1/{report.name}").read_bytes() == report.read_bytes(), report.name


def test_results_come_back_by_checkout_after_everything_is_deleted(finished: Project, project: Project):
    for name in ("data/sample", "reports", "models", "metrics"):
        shutil.rmtree(project / name)

    project.dvc("checkout")
    project.git("checkout", "metrics")

    assert project.metrics() == finished.metrics()
    assert ran(project.dvc("repro").stdout) == []


# Experiments


def test_another_final_learning_rate_trains_the_folds_again_and_searches_nothing(project: Project):
    project.set({"lr": 0.0001})
    planned = ran(project.dvc("repro", "--dry").stdout)
    assert {"crossval@0", "crossval@1"} <= set(planned) <= set(LAST)


@pytest.mark.slow
def test_folds_that_are_not_there_are_refused_before_anything_is_trained_and_fewer_train_nothing(project: Project):
    before = trials(project)
    project.set({"crossval.folds": [0, 12], "stage1.grid.batch_size": [8]})  # the index depends on neither
    refused = project.dvc("repro", ok=False)
    assert "crossval.folds asks for 12, but the folds are 0–9" in refused.stderr
    assert len(ran(refused.stdout)) == 1
    assert trials(project) == before

    project.set({"crossval.folds": [0], "stage1.grid.batch_size": [16]})
    assert sorted(ran(project.dvc("repro").stdout)) == ["controls", "explain", "report", "summary"]
    assert trials(project) == before


def test_a_change_of_a_font_runs_the_report_alone_and_one_of_training_code_searches_and_folds(project: Project):
    def changed(file: str) -> set[str]:
        (project / file).write_text((project / file).read_text() + "\n# a change\n")
        status = json.loads(project.dvc("status", "--json").stdout)
        project.git("checkout", file)
        return {stage.split(":")[-1].split("@")[0] for stage in status}

    assert changed("src/glaucoma/report/style.py") == {"report"}
    assert changed("src/glaucoma/train/trainer.py") == {*SEARCHES, "crossval", "controls"}


def test_a_number_that_dvc_writes_in_scientific_notation_stays_a_number(project: Project):
    project.dvc("exp", "run", "-S", "lr=0.00001", "explore")

    assert re.search(r"^lr: 1e-05\b", (project / "params.yaml").read_text(), re.MULTILINE)
    assert load_params(project / "params.yaml").lr == 1e-05


@pytest.mark.slow
def test_a_queued_experiment_leaves_the_workspace_alone_and_a_fold_it_leaves_out_is_in_none_of_its_results(
    finished: Project, project: Project
):
    project.dvc("exp", "run", "--queue", "-n", "onefold", "-S", "crossval.folds=[0]")
    try:
        project.dvc("queue", "start", "--jobs", "1")
        end = time.monotonic() + PATIENCE
        while "Success" not in (status := project.dvc("queue", "status").stdout):
            assert "Failed" not in status, status
            assert time.monotonic() < end, status
            time.sleep(0.5)
    finally:
        project.dvc("queue", "stop", "--kill")

    assert project.metrics() == finished.metrics()
    assert sorted(ran(project.dvc("queue", "logs", "onefold").stdout)) == ["controls", "explain", "report", "summary"]
    project.dvc("exp", "apply", "onefold")
    assert [row["fold"] for row in rows(project / "reports/summary/folds.csv")] == ["0"]
    assert {row["fold"] for row in rows(project / "reports/summary/predictions.csv")} == {"0"}

    # and DVC shows what changed
    assert "crossval.folds" in project.dvc("params", "diff").stdout
    difference = project.dvc("metrics", "diff").stdout
    assert re.search(r"metrics/summary\.json\s+test_brier\s+", difference)
    shown = project.dvc("exp", "show", "--csv").stdout
    assert "onefold" in shown
    assert "lr" in shown.splitlines()[0].split(",")


def test_scores_can_be_shown_and_the_dag_drawn(finished: Project):
    shown = finished.dvc("metrics", "show", "--json").stdout
    for name in (*(f"metrics/{stage}.json" for stage in SEARCHES), "metrics/crossval/fold1.json"):
        assert name in shown
    assert "f1_macro" in shown
    drawn = finished.dvc("dag", "--dot").stdout
    for stage in ALL:
        assert f'"{stage}"' in drawn


def test_every_declared_plot_is_drawn(project: Project):
    pipeline = YAML(typ="safe", pure=True).load(project / "dvc.yaml")
    declared = [next(iter(plot)) if isinstance(plot, dict) else plot for plot in pipeline["plots"]]
    declared += [f"metrics/search/{stage}.csv" for stage in SEARCHES]

    project.dvc("plots", "show", "--out", "charts")
    page = (project / "charts/index.html").read_text()
    shown = project.dvc("plots", "show", "--json", "--out", "charts").stdout

    drawn = json.loads(shown)
    assert "errors" not in drawn
    assert sorted(drawn["data"]) == sorted(declared)
    for name, revisions in drawn["data"].items():
        (plot,) = revisions
        if plot["type"] == "image":
            assert Path(plot["url"]).read_bytes() == (project / name).read_bytes()
            assert Path(plot["url"]).name in page
        else:
            assert plot["content"]["data"]["values"], name
            assert "<DVC_METRIC" not in json.dumps(plot["content"]), name


# Warm starts


def test_the_share_of_images_that_a_warm_start_has_seen_is_reported(finished: Project, project: Project):
    """Fold 1 from another working directory, with `crossval.warm_start: stage2`, which fold 0 trained."""
    for fold in (0, 1):
        for split in ("test", "valid"):
            assert finished.json(f"metrics/crossval/fold{fold}.json")[split]["contamination"] == 0
    project.set({"crossval.warm_start": "stage2", "lr": 0.0001}, "other.yaml")
    script = str(project / "stages/crossval.py")
    project.run("python", script, "--params", "other.yaml", "--fold", "1", cwd=project.root.parent)

    assert project.json("models/crossval/fold1.json")["configuration"]["lr"] == 0.0001
    index = rows(project / "data/index.csv")
    learnt = {row["image"] for row in index if row["fold"] == "0" and row["split"] == "train"}
    scores = project.json("metrics/crossval/fold1.json")
    for split in ("test", "valid"):
        images = {row["image"] for row in index if row["fold"] == "1" and row["split"] == split}
        assert scores[split]["contamination"] == len(images & learnt) / len(images)
    assert scores["test"]["contamination"] > 0
