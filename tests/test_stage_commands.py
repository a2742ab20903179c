"""Stage scripts as commands: messages and exit codes for invalid input and full disks."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project, make_project, run_stage

from glaucoma.synthetic.tree import make_sample

STAGES = sorted(file.stem for file in (ROOT / "stages").glob("[!_]*.py"))


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose sample was made and indexed by the scripts alone, without DVC. Read-only."""
    project = make_project(tmp_path_factory.mktemp("indexed") / "glaucoma")
    for stage in ("sample", "index"):
        project.script(stage)
    return project


@pytest.fixture
def scripts(indexed: Project, tmp_path: Path) -> Project:
    """Such a project that tests may change."""
    return indexed.copy(tmp_path / "glaucoma")


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def complaint(said: str) -> str:
    """A failed command's message on stderr, after checking that it consists of sentences with a remedy."""
    assert "Traceback" not in said
    assert "error: " in said
    assert "→ " in said
    return said


# Flags


@pytest.mark.parametrize("stage", STAGES)
def test_each_stage_explains_itself(stage: str, capsys: pytest.CaptureFixture):
    run_stage(stage, ROOT, "--help")
    shown = capsys.readouterr().out
    assert "--params FILE" in shown
    assert len(shown.split("\n\n")[1]) > 30


@pytest.mark.workflow
@pytest.mark.slow
def test_another_process_makes_the_same_sample(indexed: Project, tmp_path: Path):
    make_sample(tmp_path / "sample", images=40, size=96, seed=0)
    assert files(indexed / "data/sample") == files(tmp_path / "sample")


def test_a_fold_that_is_no_number_is_refused(capsys: pytest.CaptureFixture):
    run_stage("crossval", ROOT, "--fold", "three", code=2)
    assert "invalid int value: 'three'" in capsys.readouterr().err


@pytest.mark.workflow
@pytest.mark.slow
def test_a_stage_runs_from_anywhere_with_the_parameters_it_is_given(scripts: Project, tmp_path: Path):
    scripts.set({"data.image_size": 64}, "larger.yaml")
    scripts.script("pixels", "--params", "larger.yaml", cwd=tmp_path)
    assert (scripts / "data/pixels.npy").stat().st_size == 40 * 64 * 64 * 3 + 128


# Parameters


def test_unusable_parameters_are_sentences_and_change_no_file(scripts: Project):
    before = files(scripts / "metrics") | files(scripts / "data")
    (scripts / "params.yaml").unlink()
    ran = scripts.script("index", ok=False)
    assert ran.returncode == 2
    assert "does not exist" in complaint(ran.stderr)
    assert files(scripts / "metrics") | files(scripts / "data") == before


def test_under_dvc_unusable_parameters_fail_the_stage_with_the_same_sentence(scripts: Project):
    with (scripts / "params.yaml").open("a") as params:
        params.write("\nepoch: 3\n")
    ran = scripts.dvc("repro", "data/dvc.yaml:sample", ok=False)
    assert "epoch is not a known key; did you mean epochs?" in ran.stderr
    assert "exited with 2" in ran.stderr
    assert "the last good results: `dvc checkout`" in ran.stderr
    assert "Traceback" not in ran.stderr


# Data


@pytest.mark.parametrize(("root", "says"), [("nowhere", "nowhere"), ("empty", "is empty")])
def test_a_folder_that_is_not_there_or_empty_is_named(scripts: Project, capsys, root: str, says: str):
    (scripts / "empty").mkdir()
    scripts.set({"data.root": root})
    run_stage("index", scripts.root, code=3)
    said = complaint(capsys.readouterr().err)
    assert says in said
    assert "data.root" in said


def test_under_dvc_a_folder_that_is_not_there_is_named_too(scripts: Project):
    scripts.set({"data.root": "nowhere"})
    ran = scripts.dvc("repro", "index", ok=False)
    assert "No such file or directory" in ran.stderr
    assert "nowhere" in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("stage", ["audit", "pixels", "explore", "summary"])
def test_a_stage_run_before_the_one_it_needs_says_which(bare: Project, capsys, stage: str):
    run_stage(stage, bare.root, code=3)
    assert "dvc repro" in complaint(capsys.readouterr().err)


def test_a_training_that_cannot_begin_says_why(scripts: Project, capsys):
    run_stage("pixels", scripts.root)
    run_stage("stage1", scripts.root, code=5)
    assert "there is no model at models/backbone/backbone.keras" in complaint(capsys.readouterr().err)
    run_stage("crossval", scripts.root, "--fold", 77, code=3)
    assert "there is no fold 77; the index has 0, 1" in complaint(capsys.readouterr().err)
    scripts.set({"crossval.folds": [0, 77]})  # the index, made before, does not look again
    for stage in ("controls", "crossval"):
        run_stage(stage, scripts.root, *(("--fold", 0) if stage == "crossval" else ()), code=2)
        assert "crossval.folds asks for 77, but the folds are 0–9 (of data/index.csv)" in complaint(
            capsys.readouterr().err
        )


# Ctrl-C and the disk


def test_ctrl_c_while_tensorflow_is_imported_is_a_sentence(bare: Project):
    process = bare.start("python", "stages/stage1.py")
    loaded = Path(f"/proc/{process.pid}/maps")
    if not loaded.exists():
        process.kill()
        pytest.skip("only Linux tells what a process has loaded")
    while "tensorflow" not in loaded.read_text():
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130
    assert said == "error: stopped by Ctrl-C before the work began\n"


@pytest.fixture
def small_disk(scripts: Project) -> Iterator[Callable[[str, str], Path]]:
    """Mounts a file system of a given size over an empty folder of the project."""
    mounted = []

    def mount(folder: str, size: str) -> Path:
        target = scripts / folder
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target)]
        if os.name != "posix" or not shutil.which("mount") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a small file system can be mounted only by root")
        mounted.append(target)
        return target

    yield mount
    for target in mounted:
        for _ in range(20):
            if subprocess.run(["umount", str(target)], capture_output=True).returncode == 0:
                break
            time.sleep(0.1)


@pytest.mark.parametrize(
    ("stage", "folder", "size"),
    [
        ("explore", "reports/explore", "60k"),  # enough for its tables, not for its pictures
        ("backbone", "models", "2m"),
        ("pixels", "data", "40k"),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_no_half_written_file(
    scripts: Project, small_disk: Callable[[str, str], Path], capsys, stage: str, folder: str, size: str
):
    if stage == "pixels":
        index = (scripts / "data/index.csv").read_bytes()
        scripts.set({"data.root": "photographs"})
        (scripts / "data/sample").rename(scripts / "photographs")
        if len(index) > 38_000:
            size = f"{len(index) // 1024 + 16}k"
    if stage == "explore":
        run_stage("audit", scripts.root)
    disk = small_disk(folder, size)
    if stage == "pixels":
        (disk / "index.csv").write_bytes(index)

    run_stage(stage, scripts.root, code=7)

    assert "the disk is full" in complaint(capsys.readouterr().err)
    left = files(disk)
    assert not [name for name in left if name.rsplit("/", 1)[-1].startswith(".")]
    assert "pixels.npy" not in left
    assert "backbone.keras" not in left
    for name, content in left.items():  # existing files are complete
        if name.endswith(".csv"):
            assert content.endswith(b"\n")
        if name.endswith(".png"):
            assert content.endswith(b"IEND\xaeB`\x82")


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(scripts: Project):
    resource = pytest.importorskip("resource", reason="limits of this kind are a matter of POSIX")
    before = (scripts / "data/index.csv").read_bytes()
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))}
    ran = scripts.script("index", ok=False, **limit)
    assert ran.returncode == 7
    assert "the disk is full" in complaint(ran.stderr)
    assert (scripts / "data/index.csv").read_bytes() == before
    assert not list((scripts / "data").glob(".index*"))
