"""The command `glaucoma`: what it says before a run; `glaucoma profile` has tests of its own."""

from __future__ import annotations

import shutil

import pytest
from conftest import ROOT, Project


@pytest.fixture
def glaucoma(bare: Project):
    shutil.copy(ROOT / "params.yaml", bare / "params.yaml")  # as shipped, comments and all

    def call(*arguments: str, ok: bool = True):
        return bare.run("glaucoma", *arguments, ok=ok)

    return call


def test_the_published_profile_plans_the_report_s_grids(glaucoma, tmp_path):
    glaucoma("profile", "published", "--data", str(tmp_path))
    plan = glaucoma("check").stdout
    assert "stage1: 32 trials in 16 runs" in plan
    assert "stage2: 36 trials in 12 runs" in plan


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["profile", "nosuch"], 2, "there is no profile nosuch"),
        (["profile"], 2, "neither a profile nor --data is given"),
        (["results"], 3, "metrics/"),
    ],
)
def test_what_cannot_be_done_is_a_sentence_with_its_code(bare: Project, glaucoma, arguments, code, said):
    for file in (bare / "metrics/crossval").glob("*.json"):
        file.unlink()
    result = glaucoma(*arguments, ok=False)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_a_data_root_that_does_not_exist_is_named_with_its_key_before_dvc_runs(bare: Project, glaucoma):
    bare.set({"data.root": "/no/such/folder"})
    result = glaucoma("check", ok=False)
    assert result.returncode == 3
    assert "data.root is /no/such/folder, which does not exist" in result.stderr
