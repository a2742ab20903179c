"""A finished project for tests with DVC: a copy of this checkout with a tiny configuration, run once per session."""

from __future__ import annotations

import gc
import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from filelock import FileLock
from ruamel.yaml import YAML

from glaucoma.cli import main

ROOT = Path(__file__).resolve().parents[1]
# Tests in the background of a shell ignore Ctrl-C, and so do the processes they start
signal.signal(signal.SIGINT, signal.default_int_handler)

# While one process makes the finished project for test_pipeline, the other has files that do not wait for it
SLOWEST = ["pipeline", "fresh_clone", "team", "watched", "crossval", "stopping", "dicom", "benchmarks"]
SLOWEST += ["pool", "page", "search", "cut", "backbones", "control_models", "repro", "fit", "serve", "export"]
WORKFLOWS = {"container", "crossval", "fresh_clone", "pipeline", "team"}
LINKED = (".dvc/cache", ".git/objects", "models")  # never written in place: copies of a project share them

GRID = {"lr": [0.001], "optimizer": ["adam"], "batch_size": [16], "epochs": [1]}
TINY = {
    "lr": 0.001,
    "epochs": 1,
    "data.image_size": 32,
    "sample.images": 40,
    "sample.size": 96,
    # Two optimizers, so that a search can be interrupted between them
    "stage1.grid": {**GRID, "lr": [0.0001, 0.001], "optimizer": ["adam", "sgd"], "epochs": [1, 2]},
    "stage2.grid": GRID,
    "stage2.unfreeze_last": 4,
    "stage3.grid": GRID,
    "crossval.folds": [0, 1],
}


@pytest.hookimpl(tryfirst=True)  # before pytest selects by markers
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what needs a finished project; run the slowest files first, so that two processes end together."""
    for item in items:
        needs, slow = "finished" in item.fixturenames, item.get_closest_marker("slow")
        if (item.path.stem.removeprefix("test_") in WORKFLOWS) if slow else needs:
            item.add_marker("workflow")
        if needs:
            item.add_marker("slow")
    names = [item.path.stem.removeprefix("test_") for item in items]
    place = {name: SLOWEST.index(name) if name in SLOWEST else len(SLOWEST) for name in names}
    items.sort(key=lambda item: place[item.path.stem.removeprefix("test_")])


def run_stage(name: str, root: Path, *words: object, code: int = 0) -> None:
    """Run a stage script with its arguments in this process, in `root`; `code` is the expected exit code.

    It takes a tenth of the time of `Project.script`, which is for tests of processes.
    """
    sys.modules.setdefault("_checkout", ModuleType("_checkout"))  # stages import it to use their own checkout
    before = Path.cwd(), sys.argv, signal.getsignal(signal.SIGINT), gc.get_threshold()
    os.chdir(root)
    sys.argv = [name, *map(str, words)]
    try:
        with pytest.raises(SystemExit) as left:
            runpy.run_path(str(ROOT / f"stages/{name}.py"), run_name="__main__")
    finally:
        folder, sys.argv, handler, threshold = before
        os.chdir(folder)
        signal.signal(signal.SIGINT, handler)
        gc.set_threshold(*threshold)
    assert left.value.code == code


def run_glaucoma(*words: object) -> int:
    """Run the command `glaucoma` in this process and working folder; return its exit code."""
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return left.value.code or 0


class Project:
    """A copy of the repository in its own folder, with the commands of a user.

    Attributes:
        root: the folder.
        repro: the output of the first `dvc repro`, if it was run.
    """

    def __init__(self, root: Path, repro: str = ""):
        self.root, self.repro = root, repro
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("DVC_", "GIT_"))},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_NO_ANALYTICS": "1",
            # Isolated from this machine's settings, and nothing is left behind
            "DVC_SITE_CACHE_DIR": str(root.parent / f".{root.name}-dvc"),
            "DVC_GLOBAL_CONFIG_DIR": str(root.parent / f".{root.name}-dvc" / "global"),
            "DVC_SYSTEM_CONFIG_DIR": str(root.parent / f".{root.name}-dvc" / "system"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "GIT_CONFIG_SYSTEM": os.devnull,
            **{f"GIT_{who}_NAME": "Tester" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "tester@example.org" for who in ("AUTHOR", "COMMITTER")},
            "COLUMNS": "200",
            "PYTHONDONTWRITEBYTECODE": "1",
        }

    def __truediv__(self, name: str) -> Path:
        return self.root / name

    def start(self, *command: str, cwd: Path | None = None, **options: Any) -> subprocess.Popen:
        """Start a command in the project, in a new process group; its output is piped as text."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command,
            cwd=cwd or self.root,
            env=self.environment,
            stdout=pipe,
            stderr=pipe,
            stdin=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
            **options,
        )

    def run(self, *command: str, ok: bool = True, timeout: float = 300, **options: Any) -> subprocess.CompletedProcess:
        """Run a command to its end; `ok` says whether it is expected to succeed."""
        process = self.start(*command, **options)
        try:
            out, err = process.communicate(timeout=timeout)
        except BaseException:
            process.kill()
            raise
        said = f"{' '.join(command)}: exit {process.returncode}\n{out}\n{err}"
        assert (process.returncode == 0) is ok, said
        return subprocess.CompletedProcess(command, process.returncode, out, err)

    def dvc(self, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """Run DVC."""
        return self.run("dvc", *arguments, **options)

    def git(self, *arguments: str) -> str:
        """Run Git and return its output."""
        return self.run("git", *arguments).stdout

    def script(self, name: str, *arguments: str, **options: Any) -> subprocess.CompletedProcess:
        """Run a stage script of this project without DVC."""
        return self.run("python", str(self / f"stages/{name}.py"), *arguments, **options)

    def set(self, values: Mapping[str, Any], file: str = "params.yaml") -> None:
        """Change values of params.yaml by their dotted keys, and write them to `file`."""
        # Comments are left out: ruamel keeps them at list items, which `values` replaces
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        params = yaml.load(self / "params.yaml")
        for key, value in values.items():
            *parents, last = key.split(".")
            section = params
            for parent in parents:
                section = section[parent]
            section[last] = value
        yaml.dump(params, self / file)

    def metrics(self) -> dict[str, bytes]:
        """The bytes of all metrics files except timings, by path."""
        files = sorted((self / "metrics").rglob("*"))
        names = [path.relative_to(self.root).as_posix() for path in files if path.is_file()]
        return {name: (self / name).read_bytes() for name in names if not name.startswith("metrics/timing/")}

    def json(self, name: str) -> Any:
        """A JSON file of the project."""
        return json.loads((self / name).read_bytes())

    def copy(self, root: Path) -> Project:
        """The same project in another folder."""

        def link_or_copy(source: str, target: str) -> None:
            inside = Path(source).relative_to(self.root).as_posix()
            if inside.startswith(LINKED):
                os.link(source, target)
            else:
                shutil.copy2(source, target)

        shutil.copytree(self.root, root, copy_function=link_or_copy, symlinks=True)
        return Project(root, self.repro)


def make_project(root: Path) -> Project:
    """A new repository with this checkout's files and the tiny configuration, committed but not run."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-co", "--exclude-standard"], cwd=ROOT, capture_output=True, check=True
    )
    for name in listed.stdout.decode().split("\0"):
        made = name.startswith(("metrics/", "tests/")) or name.endswith("dvc.lock")
        if name and not made and (ROOT / name).is_file():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, root / name)
    project = Project(root)
    project.set(TINY)
    project.git("init", "-q")
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "Start")
    return project


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Project:
    """A project after its first `dvc repro`, committed. Read-only: tests that change it use `project`.

    Test processes share it: the first to need it makes it.
    """
    base = tmp_path_factory.getbasetemp()
    root = (base if worker_id == "master" else base.parent) / "finished" / "glaucoma"
    root.parent.mkdir(exist_ok=True)
    printed = root.parent / "repro.txt"
    with FileLock(root.parent / "making.lock"):
        if not printed.is_file():
            shutil.rmtree(root, ignore_errors=True)  # left by another worker that failed
            project = make_project(root)
            ran = project.dvc("repro", timeout=560)
            project.git("add", "-A")
            project.git("commit", "-q", "-m", "First results")
            printed.write_text(ran.stdout + ran.stderr, encoding="utf-8")
    return Project(root, printed.read_text(encoding="utf-8"))


@pytest.fixture
def project(finished: Project, tmp_path: Path) -> Iterator[Project]:
    """A finished project that tests may change."""
    copied = finished.copy(tmp_path / "glaucoma")
    yield copied
    shutil.rmtree(tmp_path, ignore_errors=True)


@pytest.fixture
def bare(tmp_path: Path) -> Project:
    """A project in which nothing has been run."""
    return make_project(tmp_path / "glaucoma")
