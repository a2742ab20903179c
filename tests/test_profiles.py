"""Profiles: differences from the shipped parameters, and `glaucoma profile`, which writes them into params.yaml."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, run_glaucoma
from PIL import Image, ImageDraw

from glaucoma.base.errors import ParamsError
from glaucoma.base.params import check_params
from glaucoma.base.profiles import load_profile, merge, nested, read_profile, rewrite, shipped
from glaucoma.base.yaml12 import parse_yaml, read_yaml
from glaucoma.train.recommend import RULES, take_auto_out

FILES = sorted(file for file in (ROOT / "profiles").glob("*.yaml") if file.stem != "previous")
SHIPPED = parse_yaml(shipped(), "shipped.yaml")


def leaves(section: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in section.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def comments(text: str) -> list[str]:
    return [line.partition("#")[2] for line in text.splitlines() if "#" in line]


# Differences


def test_params_yaml_is_what_is_shipped():
    same = (ROOT / "params.yaml").read_text() == shipped()
    assert same, "copy params.yaml to src/glaucoma/shipped.yaml if these are to be the shipped parameters"


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_profile_is_valid_and_holds_only_what_it_changes(file: Path):
    fixed, auto = take_auto_out(read_profile(file), file.name)
    check_params(merge(SHIPPED, fixed), file.name)
    before = dict(leaves(SHIPPED))
    assert not [key for key, value in leaves(fixed) if before[key] == value]
    assert set(auto) <= before.keys()
    assert fixed or auto


def test_mappings_merge_key_by_key_and_lists_replace():
    base = {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert merge(base, {"a": {"c": [9]}, "e": {"f": None}}) == {"a": {"b": 1, "c": [9]}, "d": 3, "e": {"f": None}}
    assert base == {"a": {"b": 1, "c": [1, 2]}, "d": 3}
    assert nested({"a.b": 1, "a.c.d": [2], "e": 3}) == {"a": {"b": 1, "c": {"d": [2]}}, "e": 3}


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"lr": 1e-05},
        {"stage1.grid.epochs": [1], "stage2.grid.epochs": [1, 2, 3], "stage3.grid.lr": [0.1, 1e-05]},
        {"stage1.grid.schedule": ["cosine"], "stage3.grid.warmup": [0, 2]},  # keys that are not in the shipped grids
        {"free_models": ["model4"], "audit.waive": ["tiny", "no"]},
        {"data.root": "/photographs of: a clinic # 1", "backbone.weights": "0.5"},
        {"data.classes": {"0": "abnormal", "1": "normal", "it's": "normal"}},
        {"search.nested": True, "crossval.folds": [3]},
    ],
    ids=lambda change: " ".join(change) or "nothing",
)
def test_what_is_rewritten_holds_the_values_and_every_comment(change: dict[str, Any]):
    values = merge(SHIPPED, nested(change))
    text = rewrite(shipped(), values)
    assert parse_yaml(text, "params.yaml") == values
    assert comments(text) == comments(shipped()) or "data.root" in change
    assert text.count("\n\n") == shipped().count("\n\n")
    if not change:
        assert text == shipped()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("stage1:\n  grid:\n    lrs: [0.1]\n", "stage1.grid.lrs is not a known key; did you mean stage1.grid.lr?"),
        ("zzz: 1\n", "zzz is not a known key"),
        ("stage1: 5\n", "stage1 is 5"),
        ("stage1:\n  grid:\n    lr: []\n", "stage1.grid.lr is []"),
        ("lr: 1\nlr: 2\n", 'line 2: found duplicate key "lr"'),
        ("- lr\n", "has no keys"),
        ("", "has no keys"),
        ("lr: auto\n", "lr is 'auto'"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_by_its_name(tmp_path: Path, content: str, says: str):
    file = tmp_path / "mine.yaml"
    file.write_text(content)
    with pytest.raises(ParamsError) as caught:
        load_profile(file)
    assert says in caught.value.found
    assert "mine.yaml" in caught.value.found


def test_auto_is_taken_out_where_there_is_a_rule_and_refused_elsewhere():
    fixed, auto = take_auto_out(
        {"epochs": "auto", "lr": 1, "data": {"layout": "auto", "crop": "auto"}, "stage1": {"grid": {"epochs": "auto"}}},
        "mine.yaml",
    )
    assert fixed == {"lr": 1, "data": {"layout": "auto"}, "stage1": {"grid": {}}}
    assert auto == ["data.crop", "epochs", "stage1.grid.epochs"]
    for key in ("lr", "stage1.grid.lr", "backbone.name"):
        with pytest.raises(ParamsError, match=rf"mine\.yaml: {key} cannot be auto"):
            take_auto_out(nested({key: "auto"}), "mine.yaml")
    known = dict(leaves(SHIPPED))
    assert set(RULES) <= known.keys()


# The command


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with the shipped parameters and profiles."""
    root = tmp_path / "project"
    (root / "profiles").mkdir(parents=True)
    (root / "params.yaml").write_text(shipped())
    for file in FILES:
        shutil.copy(file, root / "profiles")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def profile(project: Path, capsys: pytest.CaptureFixture):
    """Run `glaucoma profile`; return its output, or its error if it fails with the expected code."""

    def run(*arguments: str, code: int = 0) -> str:
        ended = run_glaucoma("profile", *arguments)
        said = capsys.readouterr()
        assert ended == code, said.err
        return said.err if code else said.out

    return run


def edit(project: Path, old: str, new: str) -> None:
    text = (project / "params.yaml").read_text()
    assert old in text
    (project / "params.yaml").write_text(text.replace(old, new, 1))


def test_data_alone_changes_one_line_and_what_was_there_comes_back(project: Path, profile, tmp_path: Path):
    edit(project, "\nepochs: 1 ", "\nepochs: 7 ")
    before = (project / "params.yaml").read_text()
    profile("--data", str(tmp_path))
    changed = set((project / "params.yaml").read_text().splitlines()) ^ set(before.splitlines())
    assert len(changed) == 2
    assert any(str(tmp_path) in line for line in changed)

    profile("previous")
    assert (project / "params.yaml").read_text() == before


def test_a_profile_changes_the_shipped_parameters_and_keeps_what_is_said_of_the_photographs(project: Path, profile):
    edit(project, "\nepochs: 1 ", "\nepochs: 7 ")
    edit(project, "\nlr: 0.00005 ", "\nlr: 0.5 ")
    edit(project, "    healthy: normal\n", "    healthy: normal\n    sick: abnormal\n")
    edit(project, "unreadable: stop", "unreadable: drop")
    edit(project, "waive: [] ", "waive: [tiny] ")
    edited = (project / "params.yaml").read_text()

    profile("published", "--data", "/elsewhere")
    found = read_yaml(project / "params.yaml")
    expected = load_profile(project / "profiles/published.yaml").model_dump()
    expected["data"] |= {"root": "/elsewhere", "unreadable": "drop"}
    expected["data"]["classes"]["sick"] = "abnormal"
    assert check_params(found, "params.yaml").model_dump() == expected  # waivers for other photographs are dropped
    assert {*comments(shipped())} == {*comments((project / "params.yaml").read_text())}
    assert (project / "profiles/previous.yaml").read_text() == edited

    edit(project, "waive: [] ", "waive: [tiny] ")
    profile("published", "--data", "/elsewhere")
    assert read_yaml(project / "params.yaml")["audit"] == {"waive": ["tiny"]}


def test_what_was_shipped_comes_back_even_where_params_yaml_is_broken(project: Path, profile):
    (project / "params.yaml").write_text("lr: [1\n")
    said = profile("published", code=2)
    assert "params.yaml is not valid YAML: line 2" in said
    profile("shipped")
    assert (project / "params.yaml").read_text() == shipped()
    assert (project / "profiles/previous.yaml").read_text() == "lr: [1\n"


def test_the_same_profile_again_changes_nothing_and_keeps_what_came_before_it(project: Path, profile):
    profile("published")
    profile("published")
    assert (project / "profiles/previous.yaml").read_text() == shipped()


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["nosuch"], 2, "there is no profile nosuch"),
        ([], 2, "give a profile, --data, or both"),
        (["previous"], 2, "profiles/previous.yaml does not exist"),
        (["recommended"], 3, "data/sample has no photographs yet"),
        (["recommended", "--data", "/no/such/folder"], 3, "does not exist"),
        (["recommended", "--data", "empty"], 3, "is empty"),
        (["recommended", "--data", "texts"], 3, "0 images, 1 other file"),
        (["recommended", "--data", "one"], 3, "no images of a class"),
        (["recommended", "--data", "few"], 3, "has only 3 normal and 4 abnormal images; 20 of each class are needed"),
        (["recommended", "--data", "damaged"], 3, "none of 44 photographs from damaged can be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_used_is_a_sentence_and_changes_nothing(project: Path, profile, arguments, code, said):
    for name, counts in {"one": (30, 0), "few": (3, 4), "damaged": (22, 22), "empty": (0, 0), "texts": (0, 0)}.items():
        for condition, count in zip(("normal", "abnormal"), counts, strict=True):
            for i in range(count):
                (project / name / condition).mkdir(parents=True, exist_ok=True)
                (project / name / condition / f"{i}.jpg").write_bytes(b"no image %d" % i)
        (project / name).mkdir(exist_ok=True)
    (project / "texts/notes.txt").write_text("none")
    told = profile(*arguments, code=code)
    assert said in told
    assert "→ " in told
    assert (project / "params.yaml").read_text() == shipped()
    assert not (project / "profiles/previous.yaml").exists()


@pytest.mark.slow
def test_photographs_decide_and_the_time_it_takes_is_measured(project: Path, profile):
    rng = np.random.default_rng(0)
    for condition, count in (("normal", 40), ("abnormal", 22)):
        (project / "eyes" / condition).mkdir(parents=True)
        for i in range(count):
            eye = Image.fromarray(rng.integers(0, 90, (120, 120, 3), np.uint8))
            ImageDraw.Draw(eye).ellipse((24, 24, 96, 96), (250, 200, 90))
            eye.save(project / "eyes" / condition / f"{i}.png")
    said = profile("recommended", "--data", "eyes")
    params = read_yaml(project / "params.yaml")
    assert "auto" not in dict(leaves({**params, "data": {**params["data"], "layout": None, "patients": None}})).values()
    assert params["data"] | {"classes": {}} == SHIPPED["data"] | {
        "classes": {}, "root": "eyes", "crop": "none", "image_size": 128,
    }  # fmt: skip
    assert params["fit"]["class_weight"] == "balanced"
    assert "62 photographs (40 normal, 22 abnormal)" in said
    for key, value in {"data.crop": "none", "data.image_size": 128, "fit.class_weight": "balanced"}.items():
        assert f"{key}: {value} – " in said
    assert "the run will take about " in said
    assert "images/s when training every layer" in said
