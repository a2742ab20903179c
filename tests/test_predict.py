"""The command `glaucoma predict` on a tiny network."""

from __future__ import annotations

import csv
import io
import json
import os
import sys
import unicodedata
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
    """Two models, three photographs and three other files."""
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
    photograph(0, size=300).save(tmp_path / "retina.png")
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
    for name in ("pipe.png", "pipe"):
        os.mkfifo(tmp_path / name)
    assert predict(folder / "models" / "fold1.keras", tmp_path, "--format", "csv") == 3
    said = capsys.readouterr()
    assert len(said.out.splitlines()) == 4
    assert "gone.png: cannot be opened" in said.err
    assert "pipe.png: a pipe, socket or device, no file" in said.err


def test_what_a_folder_holds_that_is_not_read_is_told_by_suffix_and_number(folder, tmp_path, capsys):
    model, eye = folder / "models" / "fold1.keras", folder / "eyes" / "eye0.png"
    (tmp_path / "all").mkdir()
    for name in ("a.png", "b.jfif", "notes.txt", "c.JP2", "d.jp2", "scan", "e.heic"):
        (tmp_path / "all" / name).write_bytes(eye.read_bytes() if name[0] in "ab" else b"what")
    (tmp_path / "all" / "scan").write_bytes(eye.read_bytes())  # a picture whose name lost its suffix
    assert predict(model, tmp_path / "all", "--format", "csv", "--no-quality") == 3
    said = capsys.readouterr()
    assert [Path(name).name for name in pd.read_csv(io.StringIO(said.out))["image"]] == ["a.png", "b.jfif"]
    assert "5 files passed over for the suffix: 2 .jp2, 1 without a suffix, 1 .heic, 1 .txt (read are .bmp" in said.err
    for name in ("c.JP2", "d.jp2", "scan", "e.heic"):
        (tmp_path / "all" / name).unlink()
    assert predict(model, tmp_path / "all", "--format", "csv", "--no-quality") == 0
    assert "1 file passed over for the suffix: 1 .txt" in capsys.readouterr().err
    (tmp_path / "scans").mkdir()
    (tmp_path / "scans" / "one.jp2").write_bytes(b"what")
    assert predict(model, tmp_path / "scans") == 3
    said = capsys.readouterr().err
    assert "no photographs" in said
    assert "1 .jp2" in said
    assert "save them as PNG or JPEG" in said


def test_a_file_that_is_not_there_is_told_with_the_one_that_nearly_is(folder, tmp_path, capsys):
    model = folder / "models" / "fold1.keras"
    there = unicodedata.normalize("NFD", "Ojo_É.png")
    (tmp_path / there).write_bytes((folder / "eyes" / "eye0.png").read_bytes())
    wanted = [unicodedata.normalize("NFC", there), "ojo_É.PNG", "Ojo_É.jpg", "other.png"]
    assert predict(model, *(tmp_path / name for name in wanted), "--format", "json", "--no-quality") == 3
    faults = [row["fault"] for row in json.loads(capsys.readouterr().out)]
    for fault, how in zip(faults, ("another Unicode form", "another letter case", "another suffix"), strict=False):
        assert f"there is {tmp_path / there} ({how})" in fault
    assert "there is" not in faults[3]


NAMES = ["Screenshot\u202f3.14.png", "no\u00a0break.png", 'two\nlines, "quoted".png', os.fsdecode(b"b\xe9.png")]


@pytest.mark.parametrize("form", ["csv", "json"])
@pytest.mark.parametrize("out", [True, False])
def test_names_in_csv_and_json_are_those_of_the_files(folder, tmp_path, capfdbinary, form, out):
    for name in NAMES:
        (tmp_path / name).write_bytes((folder / "eyes" / "eye0.png").read_bytes())
    to = ("--out", tmp_path / "out") if out else ()
    assert predict(folder / "models" / "fold1.keras", tmp_path, "--format", form, "--no-quality", *to) == 0
    written = (tmp_path / "out").read_bytes() if out else capfdbinary.readouterr().out
    if form == "json":
        told = [row["image"] for row in json.loads(written)]
    else:
        told = [row["image"] for row in csv.DictReader(io.StringIO(os.fsdecode(written), newline=""))]
    assert sorted(told) == sorted(str(tmp_path / name) for name in NAMES)
    assert all(Path(name).is_file() for name in told)


def test_the_table_for_people_stays_printable(folder, tmp_path, capsys):
    (tmp_path / NAMES[0]).write_bytes((folder / "eyes" / "eye0.png").read_bytes())
    assert predict(folder / "models" / "fold1.keras", tmp_path) == 0
    assert r"Screenshot\u202f3.14.png" in capsys.readouterr().out


def test_results_go_where_links_and_pipes_lead(folder, tmp_path, capsys):
    words = (
        folder / "models" / "fold1.keras",
        folder / "eyes" / "eye0.png",
        "--format",
        "csv",
        "--no-quality",
        "--out",
    )
    (tmp_path / "far").mkdir()
    (tmp_path / "far/real.csv").write_text("old")
    (tmp_path / "link.csv").symlink_to("far/real.csv")
    assert predict(*words, tmp_path / "link.csv") == 0
    assert (tmp_path / "link.csv").is_symlink()
    written = (tmp_path / "far/real.csv").read_bytes()
    assert written.startswith(b"image,probability")
    (tmp_path / "new.csv").symlink_to("far/new.csv")
    assert predict(*words, tmp_path / "new.csv") == 0
    assert (tmp_path / "far/new.csv").read_bytes() == written
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert predict(*words, tmp_path / "pipe") == 0
    assert (tmp_path / "pipe").is_fifo()
    assert os.read(reader, 1 << 16) == written
    os.close(reader)
    assert predict(*words, tmp_path) == 2
    assert "which is a folder" in capsys.readouterr().err
    assert predict(*words, tmp_path / "far/real.csv/more.csv") == 2


@pytest.mark.workflow
@pytest.mark.slow
def test_the_table_says_what_the_threshold_does_on_valid(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    abnormal, log_odds = np.array([True] * 4 + [False] * 4), logit([0.9, 0.8, 0.7, 0.2, 0.6, 0.3, 0.2, 0.1])
    abnormal, log_odds = np.tile(abnormal, 5), np.tile(log_odds, 5)
    names = {split: [f"{split}{i}" for i in range(40)] for split in ("test", "valid")}
    tables = [
        predictions_table(names[split], abnormal, log_odds=log_odds).assign(split=split, patient="", source="")
        for split in names
    ]
    judged = {split: {**scores(abnormal, log_odds=log_odds), "contamination": 0.0} for split in ("test", "valid")}
    for fold in range(2):
        save_model(small.tiny_network(fold), paths.fold_files(fold)["model"], {"fold": fold})
        write_csv(paths.fold_files(fold)["report"] / "predictions.csv", pd.concat(tables))
        write_json(paths.fold_files(fold)["metrics"], judged)
    every = pd.concat([table.assign(fold=fold) for fold in range(2) for table in tables])
    write_json(paths.SUMMARY / "decision.json", decisions(every, 1.0))
    for split, name in (("test", "predictions.csv"), ("valid", "predictions_valid.csv")):
        write_csv(paths.SUMMARY / name, every[every["split"] == split].drop(columns="split"))
    eye = folder / "eyes" / "eye0.png"
    assert predict("crossval/fold1", eye, "--threshold", 0.75) == 0
    footer = capsys.readouterr().out.splitlines()[-1]
    assert "this model: sensitivity 0.500 (10 of 20 abnormal), specificity 1.000 (20 of 20 normal)" in footer
    assert predict("crossval", eye) == 0
    footer = capsys.readouterr().out
    assert "the mean of those models that have not trained on a photograph (2 to 2 of them)" in footer
    assert "calibration fitted on the mean of those models for 80 photographs" in footer
    assert "flatters" not in footer
    assert predict("crossval", eye, "--threshold", "sensitivity_95") == 0
    assert "chosen on these photographs, which flatters it" in capsys.readouterr().out
    whole = read_json(paths.SUMMARY / "decision.json")
    none = {**whole, "ensemble": None, "ensemble_of": "there are only 3"}
    write_json(paths.SUMMARY / "decision.json", none)
    assert predict("crossval", eye, "--threshold", "youden") == 2
    assert "no threshold youden for the mean of these models: there are only 3" in capsys.readouterr().err
    assert predict("crossval", eye) == 0
    assert "calibration, and scores of the threshold, are left out: there are only 3" in capsys.readouterr().err
    older = {"pooled": {"thresholds": {"fixed": 0.5}}}
    write_json(paths.SUMMARY / "decision.json", older)
    assert predict("crossval", eye, "--threshold", "fixed") == 3
    assert "decision.json is of an older release" in capsys.readouterr().err
    write_json(paths.SUMMARY / "decision.json", whole)
    assert predict("crossval", eye, "--threshold", "sensitivity_90") == 2
    said = capsys.readouterr().err
    assert "one of fixed, least_cost, sensitivity_95, specificity_95, youden" in said
    assert "for others, set `thresholds` in params.yaml" in said
    assert "sensitivity 0.750 (30 of 40 abnormal), specificity 0.750 (30 of 40 normal)" in footer
    assert predict("crossval/fold1", eye, "--threshold", 0.75, "--format", "json") == 0
    row = json.loads(capsys.readouterr().out)[0]
    assert (row["valid_sensitivity"], row["valid_specificity"]) == (0.5, 1.0)
    (paths.SUMMARY / "predictions_valid.csv").unlink()
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
