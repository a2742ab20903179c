"""A fresh clone: dvc.lock names the results of the shipped run, and nobody has them. What README says works there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT, Project, make_project
from test_readme import in_code
from trees import class_tree

# Commands that are no matter of a clone, or need what a test has not: they install, activate, reach a cluster, or serve
# until they are stopped (tests/test_serve.py)
ELSEWHERE = ("make ", ". .venv/bin/activate", "RAY_ADDRESS=", "glaucoma serve")
NEEDS_RESULTS = ("glaucoma predict", "glaucoma results", "glaucoma compare")
PLACES = {"/path/to/photographs": "photos", "photographs/": "photos/", "eye.jpg": "photos/normal/eye000.jpg"}


@pytest.fixture
def clone(tmp_path: Path) -> Project:
    """This checkout with the shipped dvc.lock and metrics, a tiny configuration, an empty cache, and photographs."""
    project = make_project(tmp_path / "glaucoma")
    for name in ("dvc.lock", "data/dvc.lock"):
        shutil.copy2(ROOT / name, project / name)
    shutil.copytree(ROOT / "metrics", project / "metrics", dirs_exist_ok=True)
    class_tree(project / "photos", size=200)
    shutil.move(min((project / "photos/normal").iterdir()), project / "photos/normal/eye000.jpg")
    with (project / ".gitignore").open("a") as ignored:
        ignored.write("/photos/\n")
    project.git("add", "-A")
    project.git("commit", "-qm", "As it is cloned")
    return project


def test_no_plot_is_looked_for_where_a_fresh_clone_has_nothing(clone: Project):
    """`dvc exp run` asks, when it saves, whether each plot is a folder; of a lost folder's files DVC cannot tell."""
    code = "from dvc.repo import Repo; print(len(Repo().index._plot_sources))"
    assert int(clone.run("python", "-c", code).stdout) > 5


@pytest.mark.slow  # trains the tiny study and two experiments
def test_every_command_that_readme_names_runs_in_a_fresh_clone(clone: Project):
    def run(line: str) -> None:
        for theirs, ours in PLACES.items():
            line = line.replace(theirs, ours)
        ran = clone.start("sh", "-c", line)
        out, err = ran.communicate(timeout=1200)
        assert ran.returncode in ((0, 4) if "audit" in line else (0,)), f"{line}\n{out}\n{err}"
        assert "Traceback" not in err

    lines = [line for line in in_code((ROOT / "README.md").read_text("utf-8")) if " " in line]
    lines = [line for line in lines if line.startswith(("dvc ", "glaucoma ", "GLAUCOMA_", *ELSEWHERE))]
    lines = [line for line in dict.fromkeys(lines) if not line.startswith(ELSEWHERE) and "…" not in line]
    assert len(lines) >= 10
    run("dvc repro")
    for message in ("Results", "Again"):  # so that there is a run before this one to compare with
        clone.git("add", "-A")
        clone.git("commit", "-q", "--allow-empty", "-m", message)
    for line in sorted(lines, key=lambda line: not line.startswith(NEEDS_RESULTS)):
        run(line)
