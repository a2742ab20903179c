"""Models of earlier commits, tags and experiments, via DVC, in a project with one stage that writes them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import small
from conftest import Project
from ruamel.yaml import YAML

from glaucoma.base.errors import DataError, WeightsError
from glaucoma.base.files import sha256_file
from glaucoma.model.artifacts import save_model
from glaucoma.predict.inference import find_models, load_classifier
from glaucoma.predict.revisions import FETCHED, parse, read_at

ROOT = Path(__file__).resolve().parents[1]
OUTS = ["models/stage3.keras", "models/stage3.json"]
OUTS += [f"models/crossval/fold{fold}.{kind}" for fold in range(2) for kind in ("keras", "json")]
FOLDER = "models/controls"  # tracked as one


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """Models under tag v1, others in the next commit, others in experiment `tried`; and this project's artifacts."""
    project = Project(tmp_path_factory.mktemp("registry") / "project")
    project.root.mkdir()
    project.git("init", "-q")
    project.dvc("init", "-q")
    yaml = YAML()
    artifacts = yaml.load(ROOT / "dvc.yaml")["artifacts"]
    yaml.dump(
        {"stages": {"train": {"cmd": "true", "outs": [*OUTS, FOLDER]}}, "artifacts": artifacts}, project / "dvc.yaml"
    )
    for version in (1, 2, 3):
        for out in (*OUTS, f"{FOLDER}/fold0.keras"):
            if out.endswith(".keras"):
                (project / out).unlink(missing_ok=True)
                save_model(small.tiny_network(version), project / out, {"seed": version})
        project.dvc("commit", "-fq")
        if version == 3:
            project.dvc("exp", "save", "-q", "--name", "tried")
            break
        project.git("add", "-A")
        project.git("commit", "-qm", f"Version {version}")
        if version == 1:
            project.git("tag", "v1")
            for name in artifacts:
                project.git("tag", "-a", f"{name}@v1.0.0", "-m", "A registry's version: GTO wants tags annotated")
    return project


@pytest.fixture(autouse=True)
def _inside(registry: Project, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(registry.root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", registry.environment["DVC_SITE_CACHE_DIR"])
    yield
    shutil.rmtree(registry / FETCHED, ignore_errors=True)


@pytest.mark.parametrize(("rev", "seed"), [("v1", 1), ("HEAD~1", 1), ("HEAD", 2), ("tried", 3)])
def test_a_model_of_a_revision_is_the_one_of_then_with_its_sidecar(registry, rev, seed):
    now = sha256_file("models/stage3.keras")
    (found,) = find_models(f"{rev}:stage3")
    one = load_classifier(found)
    assert one.card["seed"] == seed
    small.same_arrays(one.network.get_weights(), small.tiny_network(seed).get_weights())
    assert sha256_file("models/stage3.keras") == now


@pytest.mark.parametrize("name", ["stage3", "crossval", "controls", "controls/fold0"])
def test_in_a_clone_whose_cache_lacks_it_a_model_is_not_at_hand_rather_than_unknown(
    registry, tmp_path, monkeypatch, name
):
    registry.git("clone", "-q", ".", str(tmp_path / "clone"))
    monkeypatch.chdir(tmp_path / "clone")
    with pytest.raises(WeightsError, match=f"models/{name}.* of revision HEAD is neither in DVC's cache nor"):
        find_models(f"HEAD:{name}")
    with pytest.raises(DataError, match="of HEAD is neither in DVC's cache nor could be fetched"):
        read_at("HEAD", Path(FOLDER, "fold0.json"))
    with pytest.raises(DataError, match=r"revision HEAD has no models/none\.json"):
        read_at("HEAD", Path("models/none.json"))


def test_a_folder_of_a_revision_is_the_ensemble_of_then():
    assert [path.name for path in find_models("v1:crossval")] == ["fold0.keras", "fold1.keras"]
    assert [path.name for path in find_models("v1:crossval/fold1")] == ["fold1.keras"]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("v9:stage3", "there is no revision v9 here(.|\n)*dvc exp show"),
        ("v1:stage9", "no model stage9 in revision v1(.|\n)*crossval/fold0(.|\n)*stage3"),
    ],
)
def test_what_is_not_there_is_refused_in_a_sentence(name, said):
    with pytest.raises(WeightsError, match=said):
        find_models(name)


def test_a_model_that_the_cache_has_not_is_refused_with_what_brings_it(registry):
    cache = registry / ".dvc/cache"
    cache.rename(registry / "elsewhere")
    try:
        with pytest.raises(WeightsError, match=r"stage3.* of revision v1 is neither in DVC's cache(.|\n)*dvc pull"):
            find_models("v1:stage3")
        assert not list((registry / FETCHED).rglob("*.keras"))
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        (registry / "elsewhere").rename(cache)


def test_outside_of_a_project_there_are_no_revisions(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(WeightsError, match="no DVC project"):
        find_models("v1:stage3")


@pytest.mark.parametrize("name", ["stage3", "models/stage3.keras", r"C:\models\stage3.keras", "v1:", ":stage3"])
def test_what_names_no_revision_is_taken_for_none(name):
    assert parse(name) is None


@pytest.mark.workflow
@pytest.mark.slow
def test_dvc_gets_each_artifact_of_a_tagged_version(registry, tmp_path):
    for name in ("stage3", "stage3-sidecar", "folds"):
        registry.dvc("artifacts", "get", str(registry.root), name, "--rev", "v1.0.0", "-o", str(tmp_path / name))
    assert load_classifier(tmp_path / "folds" / "fold1.keras").card["seed"] == 1
    (tmp_path / "stage3").rename(tmp_path / "one.keras")
    (tmp_path / "stage3-sidecar").rename(tmp_path / "one.json")
    assert load_classifier(tmp_path / "one.keras").card["seed"] == 1


def test_every_artifact_is_something_that_a_stage_leaves():
    yaml = YAML(typ="safe", pure=True)
    pipeline = yaml.load(ROOT / "dvc.yaml")
    outs = {out for stage in pipeline["stages"].values() for out in stage.get("outs", [])}
    for artifact in pipeline["artifacts"].values():
        assert any(out == artifact["path"] or out.startswith(f"{artifact['path']}/") for out in outs)
