"""The command `glaucoma` before a run; `glaucoma profile` is tested separately."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT, run_glaucoma

from glaucoma.base.profiles import shipped


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Work in a folder with the shipped parameters and profiles."""
    monkeypatch.chdir(tmp_path)
    Path("params.yaml").write_text(shipped())
    shutil.copytree(ROOT / "profiles", "profiles")


def test_the_published_profile_plans_the_reports_grids(tmp_path: Path, capsys: pytest.CaptureFixture):
    assert run_glaucoma("profile", "published", "--data", tmp_path) == 0
    assert run_glaucoma("check") == 0
    plan = capsys.readouterr().out
    assert "stage1: 32 trials in 16 runs" in plan
    assert "stage2: 36 trials in 12 runs" in plan


def test_results_that_are_not_there_are_named(capsys: pytest.CaptureFixture):
    assert run_glaucoma("results") == 3
    assert "metrics/" in capsys.readouterr().err


def test_a_data_root_that_does_not_exist_is_named_with_its_key_before_dvc_runs(capsys: pytest.CaptureFixture):
    Path("params.yaml").write_text(shipped().replace("root: data/sample ", "root: /no/such/folder "))
    assert run_glaucoma("check") == 3
    assert "data.root is /no/such/folder, which does not exist" in capsys.readouterr().err
