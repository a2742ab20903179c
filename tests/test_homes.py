"""Which study a fold's model belongs to: the folds asked for, however they are named, linked or fetched."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project
from ruamel.yaml import YAML

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError, WeightsError
from glaucoma.base.files import write_json
from glaucoma.predict.homes import decision_for, home_of
from glaucoma.predict.inference import find_models
from glaucoma.predict.revisions import read_at


def entry(temperature: float) -> dict:
    return {"thresholds": {"youden": 0.3}, "probabilities": {"youden": 0.57}, "temperature": temperature}


def model(path: Path, **card: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"not opened")
    write_json(path.with_suffix(".json"), {"input": {"size": 64}, "seed": 1, **card})
    return path


def study(root: Path, trained: range, asked: list[int]) -> Path:
    """A project whose folds of `trained` lie there, and whose params.yaml asks for others."""
    for fold in trained:
        model(root / paths.fold_files(fold)["model"], fold=fold)
    (root / "params.yaml").write_text(f"crossval: {{folds: {asked}}}\n")
    folds = {str(fold): entry(1.0 + fold) for fold in asked}
    decisions = {"ensemble": entry(9.0), "ensemble_of": "out-of-fold means", "folds": folds}
    write_json(root / paths.DECISIONS["crossval"], decisions)
    return root


def stems(models: list[Path]) -> list[str]:
    return [one.stem for one in models]


# Only the folds that are asked for


@pytest.mark.parametrize("named", ["crossval", "models/crossval", "{here}/models/crossval"])
def test_folds_that_left_the_parameters_are_named_and_not_used(tmp_path, monkeypatch, capsys, named):
    monkeypatch.chdir(study(tmp_path, range(12), [10, 2, 0]))
    assert stems(find_models(named.format(here=tmp_path))) == ["fold0", "fold2", "fold10"]
    said = capsys.readouterr().err
    assert "fold1.keras, fold3.keras" in said
    assert "fold10" not in said


def test_from_another_folder_the_projects_own_parameters_decide(tmp_path, monkeypatch):
    study(tmp_path / "one", range(5), [3])
    monkeypatch.chdir(study(tmp_path / "two", range(5), [0, 1]))
    assert stems(find_models(tmp_path / "one/models/crossval")) == ["fold3"]
    assert stems(find_models("../one/models/crossval")) == ["fold3"]


def test_exports_beside_them_are_of_the_same_folds(tmp_path, monkeypatch):
    monkeypatch.chdir(study(tmp_path, range(4), [1, 2]))
    for file in Path("models/crossval").glob("*.keras"):
        file.rename(file.with_suffix(".onnx"))
    assert stems(find_models("crossval")) == ["fold1", "fold2"]


def test_a_fold_that_is_missing_is_refused_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(study(tmp_path, range(3), [0, 2, 7, 11]))
    with pytest.raises(WeightsError, match=r"lacks fold7, fold11(.|\n)*dvc repro(.|\n)*crossval/fold0"):
        find_models("crossval")
    assert stems(find_models("crossval/fold2")) == ["fold2"]


@pytest.mark.parametrize("card", [{"input": {"size": 96}}, {"seed": 2}, {"configuration": {"lr": 0.1}}])
def test_folds_that_were_not_trained_alike_are_no_ensemble(tmp_path, monkeypatch, card):
    monkeypatch.chdir(study(tmp_path, range(3), [0, 1, 2]))
    model(Path("models/crossval/fold2.keras"), **card)
    with pytest.raises(WeightsError, match=rf"different trainings(.|\n)*fold2.keras: {next(iter(card))}"):
        find_models("crossval")


def test_a_folder_of_models_that_is_no_projects_is_taken_whole(tmp_path):
    for i, size in enumerate((64, 96)):
        model(tmp_path / f"mine/fold{i}.keras", input={"size": size})
    assert stems(find_models(tmp_path / "mine")) == ["fold0", "fold1"]


# However the models are reached, what was fitted for them is found


def as_cache(root: Path) -> None:
    """Outputs as DVC leaves them with cache.type symlink."""
    for number, file in enumerate(sorted((root / "models/crossval").glob("*.keras"))):
        kept = root / f".dvc/cache/files/md5/{number:02x}/{'0' * 30}"
        kept.parent.mkdir(parents=True)
        file.rename(kept)
        file.symlink_to(kept)


def as_disk(root: Path) -> None:
    """All models on a larger disk."""
    (root / "models").rename(root / "disk")
    (root / "models").symlink_to(root / "disk")


@pytest.mark.parametrize("linked", [None, as_cache, as_disk])
@pytest.mark.parametrize("named", ["crossval", "{root}/models/crossval", "{root}/favourite"])
def test_links_and_other_paths_change_nothing(tmp_path, monkeypatch, linked, named):
    root = study(tmp_path / "study", range(2), [0, 1])
    if linked:
        linked(root)
    (root / "favourite").symlink_to("models/crossval")
    monkeypatch.chdir(root if named == "crossval" else tmp_path)
    models = find_models(named.format(root=root))
    assert decision_for(models)[0] == {**entry(9.0), "ensemble_of": "out-of-fold means"}
    assert decision_for(models[1:])[0] == entry(2.0)


def test_the_target_of_a_linked_folder_of_models_is_the_project_s(tmp_path, monkeypatch):
    monkeypatch.chdir(study(tmp_path, range(2), [0, 1]))
    as_disk(tmp_path)
    assert decision_for([tmp_path / "disk/crossval/fold1.keras"])[0] == entry(2.0)


def test_the_thresholds_of_other_folds_are_none_of_these(tmp_path, monkeypatch):
    monkeypatch.chdir(study(tmp_path, range(3), [0, 1, 2]))
    (tmp_path / "params.yaml").write_text("crossval: {folds: [0, 1]}\n")
    found, why = decision_for(find_models("crossval"))
    assert found is None
    assert "decision.json is of folds 0, 1, 2, and these are 0, 1" in why
    assert "dvc repro summary" in why


def test_where_there_are_no_thresholds_that_is_said(tmp_path, monkeypatch):
    monkeypatch.chdir(study(tmp_path, range(1), [0]))
    Path("reports/summary/decision.json").unlink()
    assert "decision.json does not exist" in decision_for(find_models("crossval"))[1]
    stranger = model(tmp_path / "stage3.keras")
    assert home_of([stranger]) is None
    assert "models/crossval and models/controls" in decision_for([stranger])[1]
    write_json(paths.DECISIONS["crossval"], {"pooled": {"thresholds": {}}})
    with pytest.raises(DataError, match="older release"):
        decision_for(find_models("crossval"))


# Of a revision


@pytest.fixture(scope="module")
def inner(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project in a folder of a larger repository: folds 0 and 1, their thresholds, and results of DVC and of Git."""
    top = Project(tmp_path_factory.mktemp("larger") / "repository")
    project = Project(top.root / "studies" / "eyes")
    project.root.mkdir(parents=True)
    top.git("init", "-q")
    (top / "README").write_text("of another project")
    top.git("add", "-A")
    top.git("commit", "-qm", "Before the study")
    project.dvc("init", "-q", "--subdir")
    outs = [f"models/crossval/fold{fold}.keras" for fold in range(2)]
    for out in outs:
        (project / out).parent.mkdir(parents=True, exist_ok=True)
        (project / out).write_text(out)
    write_json(
        project / "reports/summary/decision.json",
        {"ensemble": ENTRY, "ensemble_of": "the mean", "folds": {"0": ENTRY, "1": ENTRY}},
    )
    (project / "reports/summary/predictions_valid.csv").write_text("fold,label,log_odds\n0,normal,-1.0\n")
    (project / "own.csv").write_text("tracked by Git\n")
    stages = {"train": {"cmd": "true", "outs": [*outs, "reports/summary"]}}
    YAML().dump({"stages": stages}, project / "dvc.yaml")
    project.dvc("commit", "-fq")
    project.git("add", "-A")
    project.git("commit", "-qm", "Results")
    return project


ENTRY = {"thresholds": {"youden": 0.1}, "probabilities": {"youden": 0.52}, "temperature": 1.5}


def test_in_a_folder_of_a_larger_repository_revisions_are_read_alike(inner, monkeypatch):
    monkeypatch.chdir(inner.root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", inner.environment["DVC_SITE_CACHE_DIR"])
    models = find_models("HEAD:crossval")
    assert [path.read_text() for path in models] == [f"models/crossval/fold{fold}.keras" for fold in range(2)]
    assert decision_for(models) == ({**ENTRY, "ensemble_of": "the mean"}, "")
    assert home_of(models).valid.is_file()
    assert read_at("HEAD", Path("own.csv")) == "tracked by Git\n"
    assert read_at("HEAD", Path("reports/summary/predictions_valid.csv")).startswith("fold,label")
    with pytest.raises(DataError, match=r"revision HEAD has no reports/other\.csv"):
        read_at("HEAD", Path("reports/other.csv"))
    with pytest.raises(WeightsError, match="revision HEAD~1 has no project in this folder"):
        find_models("HEAD~1:crossval")
    with pytest.raises(ParamsError, match="v9 is not a Git revision"):
        read_at("v9", Path("own.csv"))


def test_a_repository_that_git_refuses_is_told_as_such(tmp_path, monkeypatch):
    project = Project(tmp_path / "project")
    project.root.mkdir()
    project.git("init", "-q")
    project.dvc("init", "-q")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", project.environment["DVC_SITE_CACHE_DIR"])
    (project / ".git").rename(tmp_path / "away")
    with pytest.raises(WeightsError, match="Git refuses this folder"):
        find_models("HEAD:crossval")
