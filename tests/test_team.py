"""A team: two clones, a folder as DVC remote, a bare Git repository; nothing is trained twice, no named result lost."""

from __future__ import annotations

import json
import re
import shutil
import time
from pathlib import Path

import pytest
from conftest import ROOT, Project
from dvc.cli.parser import get_main_parser
from test_pipeline import LAST, ran
from trees import class_tree

from glaucoma import cli
from glaucoma.base.files import sha256_file
from glaucoma.base.yaml12 import read_yaml

WORKFLOW = ROOT / ".github/workflows/ci.yml"
PATIENCE = 240  # seconds


def share(project: Project, folder: Path) -> None:
    """Give a committed project a folder as DVC remote and a bare repository as Git remote, and push all to both."""
    project.dvc("remote", "add", "--default", "store", str(folder / "store"))
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "Share")
    project.git("branch", "-M", "main")
    project.git("init", "-q", "--bare", "--initial-branch=main", str(folder / "origin.git"))
    project.git("remote", "add", "origin", str(folder / "origin.git"))
    project.git("push", "-q", "--set-upstream", "origin", "main")
    project.dvc("push", "--run-cache")


def clone(folder: Path, name: str) -> Project:
    """Another member's clone."""
    project = Project(folder / name / "glaucoma")
    project.root.parent.mkdir()
    project.run("git", "clone", "-q", str(folder / "origin.git"), str(project.root), cwd=folder)
    return project


def commit(project: Project, message: str) -> None:
    project.git("add", "-A")
    project.git("commit", "-q", "-m", message)


# Results


@pytest.fixture(scope="module")
def shared(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A shared finished project in its own folder. Read-only."""
    folder = tmp_path_factory.mktemp("shared")
    project = finished.copy(folder / "first" / "glaucoma")
    share(project, folder)
    return project


@pytest.fixture
def team(shared: Project, tmp_path: Path) -> tuple[Project, Project]:
    """Two members' clones with their own remotes: the first has all results, the second has pulled nothing."""
    folder = tmp_path / "team"
    first = shared.copy(folder / "first" / "glaucoma")
    for name in ("store", "origin.git"):
        shutil.copytree(shared.root.parents[1] / name, folder / name)
    first.dvc("remote", "modify", "store", "url", str(folder / "store"))
    first.git("remote", "set-url", "origin", str(folder / "origin.git"))
    commit(first, "Remote of this test")
    first.git("push", "-q")
    return first, clone(folder, "second")


@pytest.mark.slow
def test_a_colleague_pulls_every_result_and_nothing_is_trained(team, finished):
    _, second = team
    assert ran(second.dvc("repro", "--dry", "--allow-missing").stdout) == []  # as in CI, before anything is pulled
    second.dvc("pull")
    assert ran(second.dvc("repro").stdout) == []
    assert second.metrics() == finished.metrics()
    for name in ("models/crossval/fold1.keras", "reports/index.html"):
        assert sha256_file(second / name) == sha256_file(finished / name)
    told = second.run("glaucoma", "compare", "HEAD~1", "--markdown").stdout
    assert told.startswith("**No difference is shown")


@pytest.mark.slow
def test_an_experiment_goes_from_one_to_the_other_and_what_both_changed_comes_together(team):
    first, second = team
    second.dvc("pull")

    # a colleague tries another learning rate and shares the experiment
    tried = second.dvc("exp", "run", "-n", "slower", "-S", "lr=0.0005", timeout=560)
    assert {"crossval@0", "crossval@1"} <= set(ran(tried.stdout)) <= set(LAST)
    second.dvc("exp", "push", "origin", "slower")
    first.dvc("exp", "pull", "origin", "slower")
    first.dvc("exp", "apply", "slower")
    assert first.metrics() == second.metrics()
    assert ran(first.dvc("repro").stdout) == []
    commit(first, "Slower")
    first.git("push", "-q")

    # meanwhile the colleague has changed another parameter: dvc.lock conflicts
    second.git("checkout", "-q", "--force", "HEAD")
    second.dvc("checkout")
    second.set({"thresholds.sensitivity": 0.9})
    assert set(ran(second.dvc("repro").stdout)) == {"summary", "report"} | set(ran(second.dvc("repro", "--dry").stdout))
    commit(second, "Sensitivity")
    second.run("git", "pull", "-q", "--no-rebase", "--no-edit", ok=False)
    conflicts = second.git("diff", "--name-only", "--diff-filter=U").split()
    assert "dvc.lock" in conflicts

    ended = {}
    for side in ("theirs", "ours"):
        project = second.copy(second.root.parent / side / "glaucoma")
        project.git("checkout", f"--{side}", "--", *(name for name in conflicts if name != "params.yaml"))
        if "params.yaml" in conflicts:
            project.git("checkout", "--theirs", "--", "params.yaml")
        project.set({"lr": 0.0005, "thresholds.sensitivity": 0.9})
        again = project.dvc("repro", "--pull", timeout=560)
        assert not {"stage1", "stage2", "stage3", "crossval@0", "crossval@1", "controls"} & set(ran(again.stdout)), side
        commit(project, "Both")
        assert ran(project.dvc("repro").stdout) == []
        ended[side] = project.metrics()
    assert ended["theirs"] == ended["ours"]


@pytest.mark.slow
def test_cleaning_up_loses_nothing_that_has_a_name(team):
    first, second = team
    first.git("tag", "-a", "v1", "-m", "First")
    before = {
        name: sha256_file(first / name) for name in ("models/crossval/fold0.keras", "models/crossval/fold1.keras")
    }
    first.set({"lr": 0.0005})
    first.dvc("repro", timeout=560)
    first.dvc("exp", "save", "-n", "kept")
    of_kept = sha256_file(first / "models/crossval/fold0.keras")
    first.set({"lr": 0.0007})
    first.dvc("repro", timeout=560)  # an unnamed run
    unnamed = sha256_file(first / "models/crossval/fold0.keras")
    first.dvc("push", "--run-cache")
    first.git("checkout", "-q", "params.yaml", "dvc.lock", "metrics")
    first.dvc("checkout", "--force")
    first.git("push", "-q", "origin", "main", "v1")
    first.dvc("exp", "push", "origin", "kept")

    def held(folder: Path) -> int:
        return sum(path.is_file() for path in folder.rglob("*"))

    counts = held(first / ".dvc/cache"), held(first.root.parents[1] / "store")
    keep = ["--all-branches", "--all-tags", "--all-experiments"]
    first.dvc("gc", *keep, "--force")
    first.dvc("gc", *keep, "--cloud", "--force")
    assert held(first / ".dvc/cache") < counts[0]
    assert held(first.root.parents[1] / "store") < counts[1]

    second.git("fetch", "-q", "--tags", "origin")
    second.dvc("exp", "pull", "origin", "kept")
    second.git("checkout", "-q", "v1")
    second.dvc("pull")
    assert {name: sha256_file(second / name) for name in before} == before
    second.dvc("exp", "apply", "kept")
    assert sha256_file(second / "models/crossval/fold0.keras") == of_kept != unnamed


# A registry of models


@pytest.mark.slow
def test_a_version_is_registered_promoted_and_fetched_from_a_bare_repository(team, tmp_path):
    first, _ = team
    origin, here = str(first.root.parents[1] / "origin.git"), Project(tmp_path / "elsewhere")
    here.root.mkdir()
    first.run("gto", "register", "folds", "--version", "v1.0.0", "--message", "First")
    first.run("gto", "assign", "folds", "--version", "v1.0.0", "--stage", "prod")
    first.git("push", "-q", "--tags", "origin")
    shown = here.run("gto", "show", "--repo", origin, "--json").stdout
    assert "folds" in shown
    assert "v1.0.0" in shown

    here.dvc("artifacts", "get", origin, "folds", "--rev", "v1.0.0", "-o", "one")
    here.dvc("artifacts", "get", origin, "folds", "--stage", "prod", "-o", "other")
    for name in ("fold0.keras", "fold1.keras", "fold1.json"):
        expected = sha256_file(first / f"models/crossval/{name}")
        assert sha256_file(here / f"one/{name}") == sha256_file(here / f"other/{name}") == expected

    # and pulls only the models of that version
    third = clone(first.root.parents[1], "third")
    third.git("checkout", "-q", "folds@v1.0.0")
    third.dvc("pull", "crossval")
    assert sha256_file(third / "models/crossval/fold1.keras") == sha256_file(first / "models/crossval/fold1.keras")
    assert not (third / "models/stage1.keras").exists()
    predicted = third.run("glaucoma", "predict", "folds@v1.0.0:crossval", "--format", "csv", str(some(first)))
    assert len(predicted.stdout.splitlines()) == 2


def some(project: Project) -> Path:
    return sorted((project / "data/sample").rglob("*.jpg"))[0]


# Photographs


def stages_of(project: Project, *stages: str) -> set[str]:
    return set(ran(project.dvc("repro", *stages).stdout))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return class_tree(tmp_path / "photos", images=40)


WANTED = {"data.root": "photos", "data.crop": "none", "crossval.n_folds": 4, "audit.waive": ["shortcut"]}


@pytest.mark.slow
def test_photographs_that_dvc_tracks_come_with_a_pull(bare: Project, photos: Path):
    folder = bare.root.parent
    shutil.move(photos, bare / "photos")
    bare.dvc("add", "photos")
    bare.set(WANTED)
    assert {"index", "pixels"} <= stages_of(bare, "pixels")
    commit(bare, "Photographs")
    share(bare, folder)

    second = clone(folder, "second")
    second.dvc("pull", "photos.dvc", "pixels", "index", "audit")
    assert not stages_of(second, "pixels")
    assert second.json("metrics/index.json")["images"] == 40


@pytest.mark.slow
def test_photographs_of_a_registry_are_imported_and_brought_up_to_date(bare: Project, photos: Path):
    registry = Project(bare.root.parent / "registry")
    registry.root.mkdir()
    registry.git("init", "-q")
    registry.dvc("init", "-q")
    shutil.move(photos, registry / "photos")
    registry.dvc("add", "photos")
    commit(registry, "Photographs")

    bare.dvc("import", str(registry.root), "photos")
    bare.set(WANTED)
    assert "index" in stages_of(bare, "index")
    commit(bare, "Imported")

    class_tree(registry.root.parent / "more", images=44)
    shutil.copytree(registry.root.parent / "more", registry / "photos", dirs_exist_ok=True)
    registry.dvc("add", "photos")
    commit(registry, "Four more")
    assert not stages_of(bare, "index")
    bare.dvc("update", "photos.dvc")
    assert "index" in stages_of(bare, "index")
    assert bare.json("metrics/index.json")["images"] == 44


@pytest.mark.slow
@pytest.mark.parametrize("how", ["tracked", "copied", "absolute"])
def test_a_queued_copy_finds_photographs_that_git_ignores(how: str, bare: Project, photos: Path):
    """Tracked by DVC; or named with --copy-paths; or elsewhere, by an absolute path."""
    root = photos if how == "absolute" else shutil.move(photos, bare / "photos")
    if how == "tracked":
        bare.dvc("add", "photos")
    if how == "copied":
        (bare / ".gitignore").write_text((bare / ".gitignore").read_text() + "/photos/\n")
    bare.set({**WANTED, "data.root": str(root) if how == "absolute" else "photos"})
    commit(bare, "Photographs")
    more = ["--copy-paths", "photos"] if how == "copied" else []
    bare.dvc("exp", "run", "--queue", "-n", "small", "-S", "data.image_size=40", *more, "pixels")
    try:
        bare.dvc("queue", "start", "--jobs", "1")
        end = time.monotonic() + PATIENCE
        while "Success" not in (status := bare.dvc("queue", "status").stdout):
            assert "Failed" not in status, bare.dvc("queue", "logs", "small").stdout
            assert time.monotonic() < end, status
            time.sleep(0.5)
    finally:
        bare.dvc("queue", "stop", "--kill")
    (ref,) = [ref for ref in bare.git("for-each-ref", "--format=%(refname)").split() if ref.endswith("/small")]
    assert json.loads(bare.git("show", f"{ref}:metrics/index.json"))["images"] == 40


# Continuous integration


def steps() -> list[dict]:
    return [step for job in read_yaml(WORKFLOW)["jobs"].values() for step in job["steps"]]


def test_the_workflow_uses_official_actions_alone_each_pinned_by_its_hash():
    used = [step["uses"] for step in steps() if "uses" in step]
    assert used
    assert all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}", one) for one in used)
    # pull request content reaches a shell only as a variable, never as script text
    assert not any("${{" in step.get("run", "") for step in steps())


def test_every_command_of_the_workflow_is_one_that_there_is():
    said = "\n".join(step["run"] for step in steps() if "run" in step)
    for words in re.findall(r"(?:^|\$\(|elif )dvc ([^|;)\n]*?)(?: 2>.*?)?(?=[|;)\n]|$)", said, re.MULTILINE):
        assert get_main_parser().parse_args(words.split())
    (words,) = re.findall(r"glaucoma (compare .*? --markdown)", said)
    assert cli.parser().parse_args(words.replace('"', "").split()).markdown
    for target in re.findall(r"make (\w+)", said):
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.slow
def test_the_workflows_script_writes_a_comment_from_a_pull_requests_clone(team):
    first, _ = team
    first.git("checkout", "-q", "-b", "other")
    first.set({"thresholds.sensitivity": 0.9})
    first.dvc("repro")
    commit(first, "Sensitivity")
    first.git("push", "-q", "origin", "other")
    first.dvc("push")
    runner = clone(first.root.parents[1], "runner")
    runner.git("checkout", "-q", "other")
    (script,) = [step["run"] for step in steps() if step.get("name") == "Scores against main"]
    script = script.replace(". .venv/bin/activate", "")
    runner.environment |= {"BASE": "origin/main", "GITHUB_STEP_SUMMARY": str(runner / "summary.md")}
    runner.run("bash", "-eo", "pipefail", "-c", script)
    comment = (runner / "comment.md").read_text()
    assert "origin/main → workspace" in comment
    assert "| auroc |" in comment
    assert (runner / "summary.md").read_text() == comment
