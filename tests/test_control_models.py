"""The regression on frozen features as a model like the others: fitted on real files, predicted, exported, judged."""

from __future__ import annotations

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
import yaml
from conftest import ROOT
from conftest import run_glaucoma as run
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from glaucoma.audit.shortcuts import MODELS
from glaucoma.base import paths
from glaucoma.base.files import read_csv, read_json, write_csv, write_json
from glaucoma.base.params import Params, load_params
from glaucoma.dataset.splits import COPIES
from glaucoma.evaluate.decisions import decisions
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.likeness import Likeness
from glaucoma.model.network import CLASSES, build_regression
from glaucoma.model.runtime import keras
from glaucoma.model.sidecar import read_sidecar
from glaucoma.train.control_stage import pooled_features, write_controls
from glaucoma.train.search_stage import dataset

FOLDS = [0, 1]
IMAGES, EYES = 60, 16  # in total, and in `eyes`


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of two folds after its controls, on a tiny backbone; its photographs are in `eyes`."""
    root = tmp_path_factory.mktemp("regression")
    (root / "params.yaml").write_text(yaml.safe_dump(params().model_dump()))
    pixels, abnormal = small.images(IMAGES)
    rows = []
    for fold in FOLDS:
        for i in range(IMAGES):
            split = {0: "test", 1: "valid"}.get((i + fold) % 5, "train")
            rows.append((fold, split, "abnormal" if abnormal[i] else "normal", f"{i:064d}", f"{i:02}.png"))
    write_csv(root / paths.INDEX, pd.DataFrame(rows, columns=["fold", "split", "condition", "image", "path"]))
    np.save(root / paths.PIXELS, pixels)
    write_csv(root / paths.PIXELS_TABLE, pd.DataFrame({"image": [f"{i:064d}" for i in range(IMAGES)]}))
    for i, (one, sick) in enumerate(zip(pixels[:EYES], abnormal[:EYES], strict=True)):
        file = root / "eyes" / ("glaucoma" if sick else "healthy") / f"{i:02}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(one).save(file)
    write_csv(root / COPIES, pd.DataFrame(columns=["first", "second", "cluster"]))
    trait = pd.DataFrame({"image": [f"{i:064d}" for i in range(IMAGES - 1)], "probe": "width", "model": "tree"})
    trait["0"] = np.where(abnormal[:-1] ^ (np.arange(IMAGES - 1) % 4 == 0), 400, 300)
    write_csv(root / paths.SHORTCUT, trait)
    save_model(small.tiny_backbone(), root / paths.BACKBONE, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_controls(params())
    return root


@pytest.fixture(autouse=True)
def _within(project, monkeypatch):
    monkeypatch.chdir(project)


def params() -> Params:
    raw = load_params(ROOT / "params.yaml").model_dump()
    raw["data"]["image_size"], raw["crossval"]["folds"] = small.SIZE, FOLDS
    return Params.model_validate(raw)


def kept(fold: int) -> pd.DataFrame:
    """The predictions of a fold's regression in controls/predictions.csv, by image."""
    table = read_csv(paths.CONTROLS / "predictions.csv", dtype={"image": str})
    return table[(table["control"] == paths.REGRESSION) & (table["fold"] == fold)].set_index("image")


@pytest.mark.parametrize("fold", FOLDS)
def test_the_saved_model_predicts_what_the_regression_does(fold):
    network, pixels, told = load_model(paths.control_file(fold)), dataset().pixels, kept(fold)
    assert set(told["split"]) == {"test", "valid"}
    found = network.predict(pixels.astype("float32"), verbose=0)[:, CLASSES.index("abnormal")]
    np.testing.assert_allclose(found[[int(image) for image in told.index]], told["probability"], atol=1e-5)


def test_the_regression_is_scikit_learns_on_features_standardised_by_train():
    data, told = dataset(), kept(0)
    values = pooled_features(load_model(paths.BACKBONE), data)[paths.REGRESSION].astype("f8")
    train = data.fold(0)["train"]
    strength = read_sidecar(paths.control_file(0))["regression"]["C"]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=2000))
    model.fit(values[train.rows], train.abnormal)
    expected = model.predict_proba(values[[int(image) for image in told.index]])[:, 1]
    np.testing.assert_allclose(told["probability"], expected, atol=1e-8)


def test_a_feature_that_never_varies_and_one_that_hardly_does_change_nothing():
    random = np.random.default_rng(0)
    values = random.normal(5, 1, (80, 12))
    values[:, 0], values[:, 1] = 7.0, 3 + 1e-3 * values[:, 1]
    values = values.astype("f4").astype("f8")
    abnormal = values[:, 2] + random.normal(0, 1, 80) > 5
    scaler, regression = StandardScaler().fit(values), LogisticRegression()
    regression.fit(scaler.transform(values), abnormal)
    inputs = keras.Input((1, 1, 12))
    backbone = keras.Model(inputs, keras.layers.Activation("linear")(inputs))
    network = build_regression(
        backbone, scaler.mean_, scaler.scale_, regression.coef_[0], float(regression.intercept_[0])
    )
    found = network.predict(values.reshape(-1, 1, 1, 12).astype("f4"), verbose=0)[:, CLASSES.index("abnormal")]
    np.testing.assert_allclose(found, regression.predict_proba(scaler.transform(values))[:, 1], atol=1e-3)


def test_its_sidecar_says_what_a_folds_model_says():
    card = read_sidecar(paths.control_file(1))
    assert (card["stage"], card["fold"], card["threshold"], card["positive"]) == ("controls", 1, 0.5, "abnormal")
    assert card["classes"] == list(CLASSES)
    assert card["input"]["size"] == small.SIZE
    assert "head" not in card
    assert Likeness.of(card) is not None
    told = kept(1)
    valid = told[told["split"] == "valid"]
    called = valid["probability"] >= 0.5
    assert card["valid"]["accuracy"] == pytest.approx((called == (valid["label"] == "abnormal")).mean())


@pytest.mark.slow
def test_all_folds_are_an_ensemble_by_name_and_each_is_one_model(capsys):
    each = {}
    for name in ("controls/fold0", "controls/fold1", "controls"):
        assert run("predict", name, "eyes", "--format", "json", "--no-quality") == 0
        each[name] = pd.DataFrame(json.loads(capsys.readouterr().out))["probability"].to_numpy()
    mean = (each["controls/fold0"] + each["controls/fold1"]) / 2
    np.testing.assert_allclose(each["controls"], mean, atol=1e-8)
    assert abs(each["controls/fold0"] - each["controls/fold1"]).max() > 0.001


def test_thresholds_by_name_and_what_they_do_on_valid_are_those_of_the_regression(capsys):
    both = pd.concat([kept(fold) for fold in FOLDS]).reset_index()
    write_json(paths.DECISIONS["controls"], decisions(both, 1.0))
    entry = read_json(paths.DECISIONS["controls"])["folds"]["0"]
    limit = entry["thresholds"]["youden"]
    assert run("predict", "controls/fold0", "eyes", "--threshold", "youden", "--no-quality", "--format", "csv") == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert set(table["threshold"]) == {entry["probabilities"]["youden"]}
    sick = both[(both["split"] == "valid") & (both["fold"] == 0) & (both["label"] == "abnormal")]
    assert table["valid_sensitivity"].iat[0] == pytest.approx((sick["log_odds"] >= limit).mean())
    assert run("predict", "controls", "eyes", "--threshold", "youden") == 2  # too few predicted by both
    assert "photographs that two or more of the models have not trained on" in capsys.readouterr().err
    shutil.copy("models/controls/fold0.keras", "alone.keras")
    assert run("predict", "alone.keras", "eyes", "--threshold", "youden") == 2
    assert "for the models of models/crossval and models/controls" in capsys.readouterr().err


def test_where_it_looks_can_be_explained(tmp_path, capsys):
    some = sorted(Path("eyes/healthy").iterdir())[:2]
    assert run("predict", "controls/fold0", *some, "--explain", tmp_path / "heat", "--no-quality") == 0
    assert len(list((tmp_path / "heat").glob("*.png"))) == 2


@pytest.mark.slow
def test_as_onnx_it_predicts_the_same(tmp_path, capsys):
    pytest.importorskip("tf2onnx")
    assert run("export", "controls/fold0", "--format", "onnx", "--out", tmp_path, "--check", "eyes") == 0
    assert "within" in capsys.readouterr().out
    told = []
    for model in ("controls/fold0", tmp_path / "fold0.onnx"):
        assert run("predict", model, "eyes", "--format", "json", "--no-quality") == 0
        told.append(pd.DataFrame(json.loads(capsys.readouterr().out))["probability"])
    np.testing.assert_allclose(*told, atol=1e-4)


def test_it_is_judged_on_another_collection(tmp_path, capsys):
    shutil.copytree("eyes", tmp_path / "clinic")
    shutil.move(paths.INDEX, tmp_path / "index.csv")  # nothing of this project's is known: all may be judged on
    assert run("evaluate", "controls", tmp_path / "clinic", "--output", tmp_path / "told") == 0
    shutil.move(tmp_path / "index.csv", paths.INDEX)
    told = read_json(tmp_path / "told" / "scores.json")
    assert (told["models"], told["n"]) == (2, EYES)


def test_the_audits_best_trait_is_a_control_on_the_folds_own_splits():
    told = read_csv(paths.CONTROLS / "predictions.csv", dtype={"image": str})
    told = told[(told["control"] == "shortcut") & (told["fold"] == 0)]
    assert set(told["split"]) == {"test", "valid"}
    assert np.isfinite(told["log_odds"]).all()
    assert read_json(paths.CONTROLS_METRICS)["shortcut"] | {"test_auroc": 0} == {
        "test_auroc": 0,
        "probe": "width",
        "model": "tree",
    }
    data = dataset()
    train, valid = data.fold(0)["train"], data.fold(0)["valid"]
    wide = pd.read_csv(paths.SHORTCUT)["0"].reindex(range(IMAGES)).pipe(lambda t: t.fillna(t.mean())).to_numpy()
    tree = MODELS["tree"].fit(wide[train.rows][:, None], train.abnormal)
    expected = tree.predict_proba(wide[valid.rows][:, None])[:, 1]
    held_out = told[told["split"] == "valid"]
    assert held_out["image"].astype(int).tolist() == [int(image) for image in valid.images]
    found = held_out["probability"]
    np.testing.assert_allclose(found, expected, atol=0.02)


def test_a_repeat_writes_the_same_bytes_but_for_its_timings():
    files = [paths.CONTROLS_METRICS, *paths.CONTROLS.iterdir(), *sorted(Path("models/controls").iterdir())]
    before = [file.read_bytes() for file in files]
    write_controls(params())
    assert before == [file.read_bytes() for file in files]
    told = read_json(paths.CONTROLS_TIMING)
    assert set(told) == {"thumbnail", paths.REGRESSION}
    assert all(one["seconds"] > 0 and one["images_per_second"] > 0 for one in told.values())
