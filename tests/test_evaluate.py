"""`glaucoma evaluate`: scores on another collection, without the images of the project's own data."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_glaucoma
from PIL import Image
from sklearn.metrics import roc_auc_score
from small import images, tiny_network
from trees import picture

from glaucoma.base import paths
from glaucoma.base.files import read_csv, read_json, write_csv
from glaucoma.model.artifacts import save_model
from glaucoma.model.network import CLASSES
from glaucoma.photos.content import content_ids


@pytest.fixture(scope="module")
def developed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an ensemble of two, and another clinic's 14 photographs, 2 of which are in the project's index.

    One more is damaged, one occurs twice, one occurs under both labels.
    """
    root = tmp_path_factory.mktemp("evaluate")
    shipped = (ROOT / "params.yaml").read_text(encoding="utf-8")
    two = re.sub(r"(  folds:.*\n +- 0\n +- 1\n)( +- \d\n)+", r"\1", shipped)
    (root / "params.yaml").write_text(two, encoding="utf-8")
    for fold in range(2):
        save_model(tiny_network(seed=fold), root / f"models/crossval/fold{fold}.keras", {"classes": list(CLASSES)})
    pixels, abnormal = images(14)
    for i, (one, sick) in enumerate(zip(pixels, abnormal, strict=True)):
        path = root / "clinic" / ("glaucoma" if sick else "healthy") / f"{i:02}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(path)
    files = sorted((root / "clinic").rglob("*.png"))
    index = pd.DataFrame(
        {"path": [file.name for file in files[:2]], "fold": 0, "split": "test", "condition": "abnormal"}
    )
    index["image"] = content_ids(root, [str(file.relative_to(root)) for file in files[:2]])
    write_csv(root / paths.INDEX, index.assign(width=32, height=32))
    shutil.copy(files[2], root / "clinic/glaucoma/copy.png")
    shutil.copy(files[3], root / "clinic/healthy/both.png")
    files[-1].write_bytes(b"no image")
    return root


def evaluate(*arguments: str) -> int:
    return run_glaucoma("evaluate", *arguments)


def test_an_ensemble_is_scored_on_what_the_project_has_not_seen(developed, monkeypatch, capsys):
    monkeypatch.chdir(developed)
    assert evaluate("crossval", "clinic") == 0
    said = capsys.readouterr().out
    found = read_json("reports/external/clinic/scores.json")
    counted = {name: found[name] for name in ("listed", "known", "conflicting", "unreadable", "models", "n")}
    assert counted == {"listed": 14, "known": 2, "conflicting": 1, "unreadable": 1, "models": 2, "n": 10}
    assert "identical to an image of this project: 2" in said
    assert "under both labels: 1" in said
    assert "1 file cannot be read" in said
    table = read_csv("reports/external/clinic/predictions.csv")
    assert not set(table["image"]) & set(read_csv(paths.INDEX)["image"])
    assert roc_auc_score(table["label"] == "abnormal", table["probability"]) == pytest.approx(found["auroc"])
    bounds = read_csv("reports/external/clinic/intervals.csv").set_index("score").loc["auroc"]
    assert bounds["low"] <= found["auroc"] <= bounds["high"]
    assert bounds["n"] == 10
    alone = []
    for fold in range(2):
        assert evaluate(f"crossval/fold{fold}", "clinic", "--output", f"alone{fold}") == 0
        alone.append(read_csv(f"alone{fold}/predictions.csv")["probability"])
    np.testing.assert_allclose(np.mean(alone, axis=0), table["probability"])


def test_copies_of_the_projects_photographs_are_left_out_and_counted(tmp_path, monkeypatch, capsys):
    photographs = [picture(k) for k in range(6)]
    for k, one in enumerate(photographs[:2]):
        file = tmp_path / "ours" / f"{k}.jpg"
        file.parent.mkdir(exist_ok=True)
        one.save(file, quality=95)
    names = [f"{k}.jpg" for k in range(2)]
    index = pd.DataFrame({"path": names, "fold": 0, "split": "train", "condition": "normal"})
    write_csv(tmp_path / paths.INDEX, index.assign(image=content_ids(tmp_path / "ours", names), width=1, height=1))
    params = (ROOT / "params.yaml").read_text().replace("root: data/sample", "root: ours")
    (tmp_path / "params.yaml").write_text(params)
    there = [photographs[0].resize((150, 150)), photographs[1].transpose(Image.Transpose.FLIP_LEFT_RIGHT)]
    for k, one in enumerate([*there, *photographs[2:]]):
        file = tmp_path / "clinic" / ("glaucoma" if k % 2 else "healthy") / f"{k}.jpg"
        file.parent.mkdir(parents=True, exist_ok=True)
        one.save(file, quality=70)
    save_model(tiny_network(seed=0), tmp_path / "models/stage3.keras", {"classes": list(CLASSES)})
    monkeypatch.chdir(tmp_path)

    assert evaluate("stage3", "clinic") == 0

    assert "copies of one: 2" in capsys.readouterr().out
    found = read_json("reports/external/clinic/scores.json")
    assert {name: found[name] for name in ("listed", "known", "copies", "n")} == {
        "listed": 6,
        "known": 0,
        "copies": 2,
        "n": 4,
    }


def test_without_an_index_it_says_that_duplicates_were_not_looked_for(developed, tmp_path, monkeypatch, capsys):
    shutil.copytree(developed, tmp_path / "project", ignore=shutil.ignore_patterns("data", "reports"))
    monkeypatch.chdir(tmp_path / "project")
    assert evaluate("models/crossval/fold0.keras", "clinic") == 0
    assert "not checked" in capsys.readouterr().out
    assert read_json("reports/external/clinic/scores.json")["known"] is None


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("stage9", "clinic"), 5, "no model stage9"),
        (("crossval", "nowhere"), 3, "the collection nowhere does not exist"),
    ],
)
def test_what_cannot_be_used_is_a_sentence(developed, monkeypatch, capsys, arguments, code, said):
    monkeypatch.chdir(developed)
    assert evaluate(*arguments) == code
    assert said in capsys.readouterr().err


def test_a_collection_that_the_project_was_developed_with_is_refused(developed, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(developed)
    seen = sorted((developed / "clinic/glaucoma").glob("*.png"))[:2]
    known = set(read_csv(paths.INDEX)["image"])
    for name, file in zip(("glaucoma", "healthy"), seen, strict=True):
        (tmp_path / "same" / name).mkdir(parents=True)
        shutil.copy(file, tmp_path / "same" / name)
    names = [file.relative_to(tmp_path / "same").as_posix() for file in (tmp_path / "same").rglob("*.png")]
    assert set(content_ids(tmp_path / "same", names)) == known
    assert evaluate("crossval", str(tmp_path / "same")) == 3
    assert "was not developed with" in capsys.readouterr().err
