"""`glaucoma predict`, as its user types it, on a tiny network."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image, ImageOps, PngImagePlugin
from scipy.special import logit
from trees import photograph

from glaucoma.base import paths
from glaucoma.base.files import read_json, write_csv, write_json
from glaucoma.cli import main
from glaucoma.evaluate.decisions import decisions
from glaucoma.evaluate.scores import predictions_table, scores
from glaucoma.model.artifacts import save_model
from glaucoma.model.likeness import learn


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, three photographs and three files that are none."""
    top = tmp_path_factory.mktemp("predict")
    for seed in (1, 2):
        save_model(small.tiny_network(seed), top / "models" / f"fold{seed}.keras", {"fold": seed})
    (top / "eyes").mkdir()
    pixels, _ = small.images(3, size=64)
    for i, image in enumerate(pixels):
        Image.fromarray(image).save(top / "eyes" / f"eye{i}.png")
    whole = (top / "eyes" / "eye0.png").read_bytes()
    (top / "eyes" / "cut.png").write_bytes(whole[: len(whole) // 2])
    (top / "eyes" / "empty.jpg").touch()
    (top / "eyes" / "renamed.jpg").write_text("a note")
    return top


def predict(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main(["predict", *map(str, words)])
    return left.value.code


def test_a_bad_file_is_named_and_stops_nothing(folder, capsys):
    assert predict(folder / "models" / "fold1.keras", folder / "eyes", "--format", "csv") == 3
    said = capsys.readouterr()
    table = pd.read_csv(io.StringIO(said.out))
    assert table["probability"].notna().sum() == 3
    assert table["decision"].notna().tolist() == table["fault"].isna().tolist()
    assert all(name in said.err for name in ("cut.png", "empty.jpg", "renamed.jpg"))


def test_an_ensemble_gives_the_mean_and_the_spread_of_its_models(folder, capsys):
    eyes = [folder / "eyes" / f"eye{i}.png" for i in range(3)]
    each = []
    for model in ("models/fold1.keras", "models/fold2.keras", "models"):
        assert predict(folder / model, *eyes, "--format", "json", "--no-quality") == 0
        each.append(pd.DataFrame(json.loads(capsys.readouterr().out)))
    one, other, both = each
    np.testing.assert_allclose(both["probability"], (one["probability"] + other["probability"]) / 2, atol=1e-8)
    np.testing.assert_allclose(both["spread"], abs(one["probability"] - other["probability"]) / 2**0.5, atol=1e-8)


def test_the_threshold_decides_and_reaches_the_file(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"{folder / 'eyes' / 'eye0.png'}\n"))
    model = folder / "models" / "fold1.keras"
    assert predict(model, "-", "--threshold", 0, "--format", "csv", "--out", tmp_path / "out.csv") == 0
    assert pd.read_csv(tmp_path / "out.csv")["decision"].tolist() == ["abnormal"]


@pytest.mark.parametrize("threshold", ["1.5", "nan", "most", "youden", "sensitivity_90"])
def test_a_threshold_that_is_none_is_refused(folder, threshold, capsys):
    eye = folder / "eyes" / "eye0.png"
    assert predict(folder / "models" / "fold1.keras", eye, "--threshold", threshold) == 2
    assert threshold in capsys.readouterr().err


def test_a_tampered_model_is_refused(folder, tmp_path, capsys):
    model = tmp_path / "fold1.keras"
    model.write_bytes((folder / "models" / "fold2.keras").read_bytes())
    model.with_suffix(".json").write_bytes((folder / "models" / "fold1.json").read_bytes())
    assert predict(model, folder / "eyes" / "eye0.png") == 5
    assert "is not the model" in capsys.readouterr().err


def test_each_file_is_decoded_once_for_prediction_and_quality(tmp_path, monkeypatch, capsys):
    noise = Image.effect_noise((300, 300), 90)
    Image.merge("RGB", [noise, noise.point(lambda level: level // 2), Image.new("L", noise.size)]).save(
        tmp_path / "noise.png"
    )
    Image.new("RGB", (300, 300), "grey").save(tmp_path / "grey.png")
    save_model(small.tiny_network(), tmp_path / "one.keras", {"input": {"crop": "retina"}})
    opened, load = [], PngImagePlugin.PngImageFile.load_end
    monkeypatch.setattr(PngImagePlugin.PngImageFile, "load_end", lambda self: (opened.append(1), load(self)))
    assert predict(tmp_path / "one.keras", tmp_path, "--format", "json") == 0
    warnings = [row["warnings"] for row in json.loads(capsys.readouterr().out)]
    assert len(opened) == 2
    assert "shows nothing" in warnings[0]
    assert not warnings[1]


def test_a_photograph_unlike_those_learnt_from_is_told(tmp_path, capsys):
    learnt = np.stack([np.asarray(photograph(seed, size=small.SIZE)) for seed in range(60)])
    card = {"likeness": learn(learnt, np.arange(60)).as_dict()}
    save_model(small.tiny_network(), tmp_path / "one.keras", card)
    (tmp_path / "eyes").mkdir()
    for seed in range(100, 140):
        photograph(seed, size=small.SIZE).save(tmp_path / "eyes" / f"{seed}.png")
    ImageOps.invert(photograph(1, size=small.SIZE)).save(tmp_path / "eyes" / "negative.png")
    assert predict(tmp_path / "one.keras", tmp_path / "eyes", "--format", "json") == 0
    rows = json.loads(capsys.readouterr().out)
    unlike = [Path(row["image"]).stem for row in rows if "out of distribution" in row["warnings"]]
    assert "negative" in unlike
    assert len(unlike) <= 3
    assert "as in no photograph of a retina" in next(row for row in rows if "negative" in row["image"])["warnings"]


def test_of_a_folder_hidden_files_are_left_and_links_to_nothing_named(folder, tmp_path, capsys):
    (tmp_path / "eye.png").write_bytes((folder / "eyes" / "eye0.png").read_bytes())
    (tmp_path / "._eye.png").write_bytes(b"resource fork")
    (tmp_path / "gone.png").symlink_to("nowhere.png")
    assert predict(folder / "models" / "fold1.keras", tmp_path, "--format", "csv") == 3
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 3
    assert "gone.png: cannot be opened" in said.err


def test_the_table_says_what_the_threshold_does_on_valid(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    abnormal, log_odds = np.array([True] * 4 + [False] * 4), logit([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.2, 0.1])
    table = predictions_table([str(i) for i in range(8)], abnormal, log_odds=log_odds)
    tables = [table.assign(split=split, patient="", source="") for split in ("test", "valid")]
    judged = {split: {**scores(abnormal, log_odds=log_odds), "contamination": 0.0} for split in ("test", "valid")}
    for fold in range(2):
        save_model(small.tiny_network(fold), paths.fold_files(fold)["model"], {"fold": fold})
        write_csv(paths.fold_files(fold)["report"] / "predictions.csv", pd.concat(tables))
        write_json(paths.fold_files(fold)["metrics"], judged)
    every = pd.concat([table.assign(fold=fold) for fold in range(2) for table in tables])
    write_json(paths.SUMMARY / "decision.json", decisions(every, 1.0))
    eye = folder / "eyes" / "eye0.png"
    assert predict("crossval/fold1", eye, "--threshold", 0.75) == 0
    footer = capsys.readouterr().out.splitlines()[-1]
    assert "sensitivity 0.500 (2 of 4 abnormal), specificity 1.000 (4 of 4 normal)" in footer
    assert predict("crossval", eye) == 0
    footer = capsys.readouterr().out.splitlines()[-1]
    assert "the 2 models separately, pooled" in footer
    assert predict("crossval", eye, "--threshold", "sensitivity_95") == 0
    whole = read_json(paths.SUMMARY / "decision.json")
    older = {"pooled": {"thresholds": {"fixed": 0.5}}}
    write_json(paths.SUMMARY / "decision.json", older)
    assert predict("crossval", eye, "--threshold", "fixed") == 3
    assert "decision.json is of an older release" in capsys.readouterr().err
    write_json(paths.SUMMARY / "decision.json", whole)
    assert predict("crossval", eye, "--threshold", "sensitivity_90") == 2
    said = capsys.readouterr().err
    assert "one of fixed, least_cost, sensitivity_95, specificity_95, youden" in said
    assert "for others, set `thresholds` in params.yaml" in said
    assert "sensitivity 0.750 (6 of 8 abnormal), specificity 0.750 (6 of 8 normal)" in footer
    assert predict("crossval/fold1", eye, "--threshold", 0.75, "--format", "json") == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["valid_sensitivity"], row["valid_specificity"]) == (0.5, 1.0)
    paths.fold_files(1)["metrics"].unlink()
    assert predict("crossval", eye) == 0
    assert "are not known" in capsys.readouterr().out
    assert predict(folder / "models" / "fold1.keras", eye) == 0
    assert "valid" not in capsys.readouterr().out


def test_the_drift_of_photographs_is_told_in_a_table_and_a_picture(tmp_path, capsys):
    learnt = np.stack([np.asarray(photograph(seed, size=small.SIZE)) for seed in range(60)])
    save_model(small.tiny_network(1), tmp_path / "m.keras", {"likeness": learn(learnt, np.arange(60)).as_dict()})
    for name, dim in (("same", 1.0), ("dim", 0.6)):
        (tmp_path / name).mkdir()
        for seed in range(100, 130):
            eye = np.asarray(photograph(seed, size=small.SIZE))
            Image.fromarray((eye * dim).astype("uint8")).save(tmp_path / name / f"{seed}.png")
    found = {}
    for name in ("same", "dim"):
        assert predict(tmp_path / "m.keras", tmp_path / name, "--drift", tmp_path / f"{name}_drift") == 0
        assert "drift from the training images" in capsys.readouterr().err
        found[name] = pd.read_csv(tmp_path / f"{name}_drift" / "drift.csv").set_index("trait")
        assert Image.open(tmp_path / f"{name}_drift" / "drift.png").width > 500
    assert not found["same"]["drifted"].any()
    assert found["dim"].loc["mid_red", "drifted"]
    assert found["dim"].loc["mid_red", "high"] < 0
    assert found["dim"].loc["unlike", "here"] > found["same"].loc["unlike", "here"]


def test_a_model_that_knows_nothing_of_its_training_images_tells_no_drift(folder, tmp_path, capsys):
    eyes = [folder / "eyes" / f"eye{i}.png" for i in range(3)]
    assert predict(folder / "models" / "fold1.keras", *eyes, "--drift", tmp_path / "drift") == 5
    assert "does not say what its training images look like" in capsys.readouterr().err
    assert not (tmp_path / "drift").exists()
