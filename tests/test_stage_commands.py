"""Stage scripts as commands: what each says and returns when it is given what it cannot use, or no room to write."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Project, make_project

LIGHT = ["sample", "index", "audit", "explore", "pixels", "summary", "report"]  # import neither keras nor tensorflow
HEAVY = ["backbone", "stage1", "stage2", "stage3", "free", "crossval", "controls", "explain", "pretrain"]


@pytest.fixture(scope="session")
def indexed(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose sample is made and indexed by the scripts alone, without DVC. Only to look at."""
    project = make_project(tmp_path_factory.mktemp("indexed") / "glaucoma")
    for stage in ("sample", "index"):
        project.script(stage)
    return project


@pytest.fixture
def scripts(indexed: Project, tmp_path: Path) -> Project:
    """Such a project to do anything with."""
    return indexed.copy(tmp_path / "glaucoma")


def files(folder: Path) -> dict[str, bytes]:
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


def complaint(ran: subprocess.CompletedProcess, code: int) -> str:
    """What a failed command says: sentences with a remedy, its own exit code, and no traceback."""
    assert ran.returncode == code, ran.stdout + ran.stderr
    assert "Traceback" not in ran.stdout + ran.stderr
    assert "error: " in ran.stderr
    assert "→ " in ran.stderr
    return ran.stderr


# What they are told


@pytest.mark.parametrize("stage", [*LIGHT, *HEAVY])
def test_each_stage_explains_itself(stage: str):
    shown = subprocess.run(
        [sys.executable, str(ROOT / f"stages/{stage}.py"), "--help"], capture_output=True, text=True, cwd="/"
    )
    assert shown.returncode == 0, shown.stderr
    assert "--params FILE" in shown.stdout
    assert len(shown.stdout.split("\n\n")[1]) > 30


def test_every_stage_script_is_tried_here():
    scripts = {file.stem for file in (ROOT / "stages").glob("*.py")} - {"_checkout"}
    assert scripts == {*LIGHT, *HEAVY}


def test_a_fold_that_is_no_number_is_refused(scripts: Project):
    ran = scripts.script("crossval", "--fold", "three", ok=False)
    assert ran.returncode == 2
    assert "invalid int value: 'three'" in ran.stderr


def test_a_stage_runs_from_anywhere_with_the_parameters_it_is_given(scripts: Project, tmp_path: Path):
    scripts.set({"data.image_size": 64}, "larger.yaml")
    scripts.script("pixels", "--params", "larger.yaml", cwd=tmp_path)
    assert (scripts / "data/pixels.npy").stat().st_size == 40 * 64 * 64 * 3 + 128


# Parameters


def _append(line: str) -> Callable[[Path], object]:
    return lambda file: file.write_text(f"{file.read_text()}\n{line}\n")


def _replace(old: str, new: str) -> Callable[[Path], object]:
    def edit(file: Path) -> None:
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new, 1))

    return edit


@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (_append("epoch: 3"), "epoch is not a known key; did you mean epochs?"),
        (_replace("epochs: 1\n", "epochs: many\n"), "epochs is 'many'"),
        (_append("lr: 1"), 'found duplicate key "lr"'),
        (_append("lr: [1"), "is not valid YAML"),
        (Path.unlink, "does not exist"),
    ],
    ids=["unknown key", "wrong type", "duplicate key", "invalid YAML", "no file"],
)
def test_unusable_parameters_are_sentences_and_change_no_file(
    scripts: Project, edit: Callable[[Path], object], says: str
):
    before = files(scripts / "metrics") | files(scripts / "data")
    edit(scripts / "params.yaml")
    assert says in complaint(scripts.script("index", ok=False), 2)
    assert files(scripts / "metrics") | files(scripts / "data") == before


def test_under_dvc_unusable_parameters_fail_the_stage_with_the_same_sentence(scripts: Project):
    _append("epoch: 3")(scripts / "params.yaml")
    ran = scripts.dvc("repro", "data/dvc.yaml:sample", ok=False)
    assert "epoch is not a known key; did you mean epochs?" in ran.stderr
    assert "exited with 2" in ran.stderr
    assert "the last good results: `dvc checkout`" in ran.stderr
    assert "Traceback" not in ran.stderr


# Data


@pytest.mark.parametrize(("root", "says"), [("nowhere", "nowhere"), ("empty", "is empty")])
def test_a_folder_that_is_not_there_or_empty_is_named(scripts: Project, root: str, says: str):
    (scripts / "empty").mkdir()
    scripts.set({"data.root": root})
    said = complaint(scripts.script("index", ok=False), 3)
    assert says in said
    assert "data.root" in said


@pytest.mark.parametrize(("root", "says"), [("nowhere", "No such file or directory"), ("empty", "is empty")])
def test_under_dvc_a_folder_that_is_not_there_or_empty_is_named_too(scripts: Project, root: str, says: str):
    (scripts / "empty").mkdir()
    scripts.set({"data.root": root})
    ran = scripts.dvc("repro", "index", ok=False)
    assert says in ran.stderr
    assert root in ran.stderr
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("stage", ["audit", "pixels", "explore", "summary"])
def test_a_stage_run_before_the_one_it_needs_says_which(bare: Project, stage: str):
    said = complaint(bare.script(stage, ok=False), 3)
    assert "dvc repro" in said


@pytest.mark.parametrize(
    ("stage", "arguments", "code", "says"),
    [
        ("stage1", (), 5, "there is no model at models/backbone.keras"),
        ("crossval", ("--fold", "77"), 3, "there is no fold 77; the index has 0, 1"),
    ],
    ids=["no backbone", "no such fold"],
)
def test_a_training_that_cannot_begin_says_why(
    scripts: Project, stage: str, arguments: tuple[str, ...], code: int, says: str
):
    scripts.script("pixels")
    assert says in complaint(scripts.script(stage, *arguments, ok=False), code)


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
        ("explore", "reports/explore", "60k"),  # room for its tables, not for its pictures
        ("backbone", "models", "2m"),
        ("pixels", "data", "40k"),
    ],
)
def test_a_full_disk_is_a_sentence_and_leaves_no_half_written_file(
    scripts: Project, small_disk: Callable[[str, str], Path], stage: str, folder: str, size: str
):
    if stage == "pixels":
        index = (scripts / "data/index.csv").read_bytes()
        scripts.set({"data.root": "photographs"})
        (scripts / "data/sample").rename(scripts / "photographs")
        if len(index) > 38_000:
            size = f"{len(index) // 1024 + 16}k"
    if stage == "explore":
        scripts.script("audit")
    disk = small_disk(folder, size)
    if stage == "pixels":
        (disk / "index.csv").write_bytes(index)

    said = complaint(scripts.script(stage, ok=False), 7)

    assert "the disk is full" in said
    left = files(disk)
    assert not [name for name in left if name.rsplit("/", 1)[-1].startswith(".")]
    assert "pixels.npy" not in left
    assert "backbone.keras" not in left
    for name, content in left.items():  # what is there, is whole
        if name.endswith(".csv"):
            assert content.endswith(b"\n")
        if name.endswith(".png"):
            assert content.endswith(b"IEND\xaeB`\x82")


def test_a_limit_on_the_size_of_files_is_a_full_disk_too(scripts: Project):
    resource = pytest.importorskip("resource", reason="limits of this kind are a matter of POSIX")
    before = (scripts / "data/index.csv").read_bytes()
    limit = {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))}
    said = complaint(scripts.script("index", ok=False, **limit), 7)
    assert "the disk is full" in said
    assert (scripts / "data/index.csv").read_bytes() == before
    assert not list((scripts / "data").glob(".index*"))
