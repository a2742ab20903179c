"""The command `glaucoma` before a run; `glaucoma profile` is tested separately."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, Project, run_glaucoma, run_stage
from trees import class_tree, fold_tree

from glaucoma.base.files import atomic_path
from glaucoma.base.profiles import merge, rewrite, shipped
from glaucoma.base.yaml12 import parse_yaml
from glaucoma.train.crossval import _environment


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


# What `glaucoma check` passes, `dvc repro` does not refuse for its parameters


def set_params(**changes: object) -> None:
    """Sections of params.yaml with changed keys, e.g. data={"root": "photos"}."""
    Path("params.yaml").write_text(rewrite(shipped(), merge(parse_yaml(shipped(), ""), changes)))


def test_folds_that_will_not_be_drawn_are_refused_with_both_ways_out(capsys: pytest.CaptureFixture):
    class_tree(Path("photos"))
    set_params(data={"root": "photos"}, crossval={"n_folds": 4})
    assert run_glaucoma("check") == 2
    said = capsys.readouterr().err
    assert "crossval.folds asks for 4, 5, 6, 7, 8, 9, but the folds are 0–3 (crossval.n_folds is 4)" in said
    assert "set crossval.folds to [0, 1, 2, 3]" in said
    set_params(data={"root": "photos"}, crossval={"n_folds": 4, "folds": [3, 1]}, search={"fold": 4})
    assert run_glaucoma("check") == 2
    assert "search.fold asks for 4" in capsys.readouterr().err
    set_params(data={"root": "photos"}, crossval={"n_folds": 4, "folds": [3, 1]})
    assert run_glaucoma("check") == 0


@pytest.mark.parametrize("frozen", [True, False])
def test_folds_that_the_photographs_bring_are_those_that_can_be_asked_for(frozen: bool, capsys: pytest.CaptureFixture):
    if frozen:
        class_tree(Path("photos"))
        Path("photos/folds.csv").write_text("image,fold,split\na,0,test\na,2,train\n")
    else:
        fold_tree(Path("photos"))
        Path("photos/Fold1").rename("photos/Fold7")
    there = [0, 2] if frozen else [0, 2, 7]
    set_params(data={"root": "photos"}, crossval={"folds": [0, 1, 2]})
    assert run_glaucoma("check") == 2
    assert f"asks for 1, but the folds are {there} (by " in capsys.readouterr().err
    set_params(data={"root": "photos"}, crossval={"folds": there})
    assert run_glaucoma("check") == 0


def test_the_index_refuses_folds_that_are_not_there_before_anything_is_trained(tmp_path: Path, capsys):
    class_tree(Path("photos"))
    set_params(data={"root": str(tmp_path / "photos")}, crossval={"n_folds": 3, "folds": [0, 3]})
    run_stage("index", tmp_path, code=2)
    assert "crossval.folds asks for 3, but the folds are 0–2" in capsys.readouterr().err
    assert not Path("data/index.csv").exists()


def test_a_home_folder_is_spelt_out_for_dvc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    class_tree(tmp_path / "photos")
    set_params(data={"root": "~/photos"})
    assert run_glaucoma("check") == 2
    assert f"DVC does not expand ~\n  → write {tmp_path / 'photos'}" in capsys.readouterr().err
    assert run_glaucoma("profile", "--data", "~/photos") == 0
    assert run_glaucoma("check") == 0


@pytest.mark.parametrize(
    ("root", "said"),
    [
        ("data", "which holds data/"),
        (".", "which holds "),
        ("..", "which holds "),
        ("models/crossval", "which holds models/crossval/"),
        ("reports/audit/mine", "which lies in reports/audit, that a stage writes"),
        (".state/photos", "which DVC ignores"),
        ("kept/photos", None),
    ],
)
def test_a_folder_that_stages_write_to_is_refused_as_data_root(bare: Project, monkeypatch, capsys, root, said):
    monkeypatch.chdir(bare.root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", bare.environment["DVC_SITE_CACHE_DIR"])
    Path(root).mkdir(parents=True, exist_ok=True)
    class_tree(Path(root))
    bare.set({"data.root": root})
    assert run_glaucoma("check") == (2 if said else 0)
    assert (said or "") in capsys.readouterr().err


def test_what_dvc_cannot_take_a_hash_of_is_named(capsys: pytest.CaptureFixture):
    class_tree(Path("photos"))
    set_params(data={"root": "photos"})
    Path("photos/normal/gone.txt").symlink_to("nowhere")
    os.mkfifo("photos/abnormal/pipe")
    Path("photos/.dvcignore").touch()
    assert run_glaucoma("check") == 3
    said = capsys.readouterr().err
    assert "photos/normal/gone.txt: a link that leads nowhere" in said
    assert "photos/abnormal/pipe: a pipe, socket or device" in said
    assert "photos/.dvcignore: DVC takes no .dvcignore" in said


def test_weights_that_are_not_there_are_refused_before_the_run(capsys: pytest.CaptureFixture):
    Path("My.h5").touch()
    set_params(backbone={"weights": "my.h5"})
    assert run_glaucoma("check") == 5
    assert "backbone.weights is my.h5, which does not exist; there is My.h5 (another letter case)" in (
        capsys.readouterr().err
    )


# Where output goes


def test_a_reader_that_leaves_and_a_terminal_of_another_encoding_are_no_errors(tmp_path: Path):
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONDONTWRITEBYTECODE": "1"}
    told = "from glaucoma.base.stage import guarded; import sys; sys.exit(guarded(lambda: print({}) or {}))"

    def run(what: str, code: int = 0, **options: object) -> subprocess.CompletedProcess:
        command = [sys.executable, "-c", told.format(what, code)]
        return subprocess.run(command, env=environment, stderr=subprocess.PIPE, check=False, **options)

    asked = run(ascii("0.5 ± 0.1 → \u00e9 … \udce9"), 4, stdout=subprocess.PIPE)
    assert (asked.returncode, asked.stdout, asked.stderr) == (4, b"0.5 +- 0.1 -> \\xe9 ... \xe9\n", b"")
    read, write = os.pipe()
    os.close(read)
    left = run("'many lines\\n' * 100000", stdout=write)
    os.close(write)
    assert (left.returncode, left.stderr) == (141, b"")
    with Path("/dev/full").open("w") as full:
        filled = run("1", stdout=full)
    assert filled.returncode == 7
    assert filled.stderr.startswith(b"error: the disk is full")
    assert b"Traceback" not in filled.stderr


def test_help_that_nobody_reads_to_its_end_is_no_error():
    read, write = os.pipe()
    os.close(read)
    code = "import sys; from glaucoma.cli import main; main(['--help'])"
    asked = subprocess.run([sys.executable, "-c", code], stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert asked.returncode in (0, 141)  # argparse passes over what it cannot write
    assert asked.stderr == b""


@pytest.mark.parametrize(
    "words", [("audit", "photos", "--output"), ("evaluate", "x", "photos", "--output"), ("compare", "HEAD", "--csv")]
)
def test_a_place_that_results_cannot_go_to_is_refused_before_the_work(words, capsys: pytest.CaptureFixture):
    class_tree(Path("photos"))
    Path("taken").mkdir() if words[0] == "compare" else Path("taken").touch()
    assert run_glaucoma(*words, "taken") == 2
    kind = "a folder\n  → name a file" if words[0] == "compare" else "a file\n  → name a folder"
    assert f"{words[-1]} is {Path('taken').absolute()}, which is {kind}" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("audit", "photos", "--output"), ("compare", "HEAD", "--csv")])
def test_a_place_that_the_file_system_refuses_is_a_sentence(words, capsys: pytest.CaptureFixture):
    class_tree(Path("photos"))
    assert run_glaucoma(*words, "/sys/kernel/none/here") == 7
    said = capsys.readouterr().err
    assert "cannot be opened or written" in said
    assert "Traceback" not in said


def test_a_link_into_dvcs_cache_is_replaced_and_the_cache_left(tmp_path: Path):
    kept = tmp_path / "cache/files/md5/ab" / ("0" * 30)
    kept.parent.mkdir(parents=True)
    kept.write_text("an output of then")
    Path("out.csv").symlink_to(kept)
    with atomic_path("out.csv") as temporary:
        temporary.write_text("new")
    assert (Path("out.csv").read_text(), kept.read_text()) == ("new", "an output of then")
    assert not Path("out.csv").is_symlink()


def test_another_python_says_that_the_environment_is_not_active(bare: Project):
    command = [sys.executable, "-S", "-E", bare / "stages/index.py"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "is not the Python of this project's environment" in ran.stderr
    assert "make setup" in ran.stderr
    assert "Traceback" not in ran.stderr


def test_check_refuses_where_dvc_would_run_stages_by_another_python(bare: Project, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(bare.root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", bare.environment["DVC_SITE_CACHE_DIR"])
    own, other = Path(sys.executable).parent, tmp_path / "bin"
    other.mkdir()
    monkeypatch.setenv("PATH", str(other))
    for python, says in (
        (None, "`python`, which is not on the PATH"),
        ("#!/bin/sh\necho /usr\n", "not of the environment"),
    ):
        if python:
            (other / "python").write_text(python)
            (other / "python").chmod(0o755)
        assert run_glaucoma("check") == 1
        said = capsys.readouterr().err
        assert says in said
        assert f"put {own} first on the PATH" in said
    monkeypatch.setenv("PATH", f"{own}{os.pathsep}{other}")
    assert run_glaucoma("check") == 0


def test_folds_side_by_side_call_this_python_whether_activated_or_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "/usr/bin")
    assert _environment()["PATH"].split(os.pathsep) == [str(Path(sys.executable).parent), "/usr/bin"]
