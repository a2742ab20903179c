"""What a stage reads, DVC watches: each parameter and each file of the project, so that no result is ever stale."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from conftest import Project, run_stage
from pydantic import BaseModel

from glaucoma.base import stage as base_stage
from glaucoma.base.params import Params, Section, load_params
from glaucoma.base.yaml12 import read_yaml

ROOT = Path(__file__).resolve().parents[1]
STAGES = read_yaml(ROOT / "dvc.yaml")["stages"]
FOLDS = {"crossval.folds", "search.fold"}  # stages refuse folds that are not there; each fold is a stage of its own
# Left out of a stage's parameters, since one of its dependencies follows from them
FOLLOWS = {
    "models/backbone": {"data.image_size", "data.crop"},
    "models/stage1.keras": {"head.blocks", "head.dropout"},
    "models/stage2.keras": {"head.blocks", "head.dropout", "stage2.unfreeze_last"},
    "metrics/stage1.json": {"stage1.grid"},  # it has the grid's hash
    "metrics/stage2.json": {"stage2.grid"},
}
DECIDED = {
    "data/pixels.csv": "data/index.csv",
    "metrics/crossval": "reports/summary",
    "metrics/timing/crossval": "reports/summary",
}
SELECTION = {"model4": {"crossval.model": "model4", "crossval.warm_start": "none"}}
SELECTION |= {"regression": {"crossval.model": "regression", "crossval.warm_start": "none"}}
TRAINED = ("model4", "nested")  # not in the journal
SELECTION |= {"nested": {"search.nested": True}, "leak": {"crossval.warm_start": "stage2"}}


@dataclass
class Reading:
    """The parameters (dotted keys) and the project's files that were read."""

    root: str
    keys: set[str] = field(default_factory=set)
    files: set[str] = field(default_factory=set)
    paths: dict[int, str] = field(default_factory=dict)
    kept: list[Params] = field(default_factory=list)

    def load(self, file: str) -> Params:
        """Load parameters whose reading is noted."""
        params = load_params(file)
        self.kept.append(params)
        self._walk(params, "")
        return params

    def note(self, section: Section, name: str) -> None:
        """Note what reading an attribute of a section reads."""
        prefix = self.paths.get(id(section))
        if prefix is None:
            return
        if name == "model_dump":
            self.keys |= set(leaves(section, prefix))
        elif name in type(section).model_fields and not isinstance(section.__dict__[name], BaseModel):
            self.keys.add(prefix + name)

    def opened(self, event: str, arguments: tuple) -> None:
        """Note an audit event of Python, if it is that a file of the project is opened for reading."""
        if event != "open" or not isinstance(arguments[0], str) or "r" not in (arguments[1] or "r"):
            return
        name = os.path.relpath(Path(arguments[0]).absolute(), self.root)
        hidden = any(part.startswith(".") for part in Path(name).parts)  # .state, .dvc, files that are being written
        if not hidden and name not in ("params.yaml", "assets"):
            self.files.add(name)

    def _walk(self, section: BaseModel, prefix: str) -> None:
        self.paths[id(section)] = prefix
        for name in type(section).model_fields:
            if isinstance(inner := section.__dict__[name], BaseModel):
                self._walk(inner, f"{prefix}{name}.")


def leaves(section: BaseModel, prefix: str) -> Iterator[str]:
    for name in type(section).model_fields:
        inner = section.__dict__[name]
        yield from leaves(inner, f"{prefix}{name}.") if isinstance(inner, BaseModel) else [prefix + name]


listening: list[Reading] = []  # an audit hook cannot be removed
sys.addaudithook(lambda event, arguments: [one.opened(event, arguments) for one in listening] and None)


def reading(project: Project, monkeypatch: pytest.MonkeyPatch, name: str, *words: object) -> Reading:
    """Run a stage in this process, and note what it reads."""
    found = Reading(str(project.root))
    get = Section.__getattribute__

    def noting(section: Section, attribute: str) -> Any:
        found.note(section, attribute)
        return get(section, attribute)

    with monkeypatch.context() as patch:
        patch.setattr(base_stage, "load_params", found.load)
        patch.setattr(Section, "__getattribute__", noting)
        listening[:] = [found]
        try:
            run_stage(name, project.root, *words)
        finally:
            listening.clear()
    return found


def within(name: str, folders: Mapping[str, object] | list[str], separator: str) -> bool:
    return any(name == one or name.startswith(one + separator) for one in folders)


def unwatched(name: str, found: Reading) -> tuple[list[str], list[str]]:
    """The keys and the files that the stage read and that none of its dependencies covers."""
    stage = STAGES[name]
    deps = [dep.replace("${data.root}", "data/sample") for dep in stage["deps"]]
    made = [
        one if isinstance(one, str) else next(iter(one)) for kind in ("outs", "metrics") for one in stage.get(kind, ())
    ]
    made = [one.replace("${item.fold}", "0") for one in made]
    known = list(stage.get("params", ()))
    known += [key for dep, keys in FOLLOWS.items() if dep in deps for key in keys] + sorted(FOLDS)
    keys = [] if "params.yaml" in deps else [key for key in sorted(found.keys) if not within(key, known, ".")]
    covered = deps + made + [file for file, dep in DECIDED.items() if dep in deps]
    return keys, [file for file in sorted(found.files) if not within(file, covered, "/")]


@pytest.mark.parametrize("name", STAGES)
def test_dvc_watches_each_parameter_and_each_file_that_a_stage_reads(project: Project, monkeypatch, name: str):
    found = reading(project, monkeypatch, name, *(["--fold", "0"] if name == "crossval" else []))
    assert found.keys
    assert unwatched(name, found) == ([], [])


@pytest.mark.parametrize("how", [pytest.param(how, marks=[pytest.mark.slow] * (how in TRAINED)) for how in SELECTION])
def test_dvc_watches_what_a_fold_reads_whatever_its_model(project: Project, monkeypatch, how: str):
    project.set(SELECTION[how])
    found = reading(project, monkeypatch, "crossval", "--fold", "0")
    assert unwatched("crossval", found) == ([], [])
