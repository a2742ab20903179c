"""Models 4 and 5: run by their own commands in a small project, skipped by `dvc repro`, selectable for folds."""

from __future__ import annotations

import json

import pytest
from conftest import GRID, Project, make_project
from ruamel.yaml import YAML

SMALL = {
    "model4.grid": {**GRID, "lr": [0.001, 0.0001]},
    "model5.grid": GRID,
    "model5.backbone": {"name": "MobileNetV3Small", "weights": "none"},  # the default takes minutes to trace
    "crossval.warm_start": "none",
    "crossval.model": "model4",
}


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with pixels and small grids for both models."""
    project = make_project(tmp_path_factory.mktemp("free") / "glaucoma")
    project.set(SMALL)
    for stage in ("sample", "index", "audit", "pixels"):
        project.script(stage)
    return project


@pytest.mark.slow  # processes that train
@pytest.mark.parametrize(("name", "trials", "blocks"), [("model4", 2, 3), ("model5", 1, 1)])
def test_each_leaves_what_stage_3_leaves(prepared: Project, name: str, trials: int, blocks: int):
    prepared.script("free", "--model", name)
    metrics = prepared.json(f"metrics/{name}.json")
    assert (metrics["trials"], metrics["failed"]) == (trials, 0)
    card = prepared.json(f"models/{name}.json")
    assert card["head"]["blocks"] == blocks
    assert card["backbone"]["name"] == ("EfficientNetB0" if name == "model4" else "MobileNetV3Small")
    extra = YAML(typ="safe", pure=True).load(prepared / "extra/dvc.yaml")["stages"]["free"]
    for kind in ("outs", "metrics", "plots"):
        for out in extra[kind]:
            path = next(iter(out)) if isinstance(out, dict) else out
            assert (prepared / path.replace("${item.model}", name)).exists()
    assert f"{name}: best of" in prepared.run("glaucoma", "results", ok=False).stdout


@pytest.mark.slow
def test_a_fold_takes_the_backbone_and_the_head_of_the_model_that_is_named(prepared: Project):
    prepared.script("crossval", "--fold", "0")
    card = json.loads((prepared / "models/crossval/fold0.json").read_bytes())
    assert (card["model"], card["head"]["blocks"]) == ("model4", 3)
    assert card["configuration"]["lr"] == 0.001  # from the final configuration, as in every fold


def test_dvc_runs_neither_and_misses_neither_unless_it_is_asked_to(bare: Project):
    assert "stages/free.py" not in bare.dvc("repro", "--dry", "--force").stdout
    assert "free" not in bare.dvc("stage", "list", "--all", "--name-only").stdout
    bare.set({"free_models": ["model5"]})
    shown = bare.dvc("repro", "--dry", "--force", "--single-item", "extra/dvc.yaml").stdout
    assert "stages/free.py --model model5" in shown
    assert "model4" not in shown
