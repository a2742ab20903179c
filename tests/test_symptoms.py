"""Networks that give the same answer for every image, or are worse as saved than in training, are reported."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from conftest import run_glaucoma
from PIL import Image

from glaucoma.base.files import write_csv
from glaucoma.model.artifacts import save_model
from glaucoma.model.runtime import keras
from glaucoma.model.symptoms import FILE, Symptom, first_line, read_symptoms, symptoms, symptoms_of, symptoms_table
from glaucoma.train.outputs import write_training
from glaucoma.train.trainer import Trainer

ABNORMAL = np.arange(40) % 2 == 0
HISTORY = pd.DataFrame({"epoch": [1, 2], "loss": [0.7, 0.4], "accuracy": [0.5, 0.9]})
CONSTANT = Symptom("same_answer", 0.01, "answers the same", "too little was learnt", "raise lr")


def names(found: list[Symptom]) -> list[str]:
    return [one.warning for one in found]


def says(log_odds: np.ndarray, abnormal: np.ndarray = ABNORMAL, **more) -> list[Symptom]:
    return symptoms(abnormal, log_odds, **more)


def test_a_classifier_that_works_is_not_complained_of():
    log_odds = np.where(ABNORMAL, 1.0, -1.0) + np.random.default_rng(0).normal(0, 1, 40)
    assert not says(log_odds, train=(ABNORMAL, log_odds), history=HISTORY)
    # nor one that has learnt nothing but whose answers vary: the scores show that
    assert not says(np.random.default_rng(1).normal(0, 1, 40))


def test_the_shipped_runs_of_before_are_named_by_their_probabilities():
    p = np.random.default_rng(0).uniform(0.43, 0.46, 40)  # the range of the ten networks' predictions, for any image
    (found,) = says(np.log(p / (1 - p)), history=pd.DataFrame({"epoch": [1], "loss": [0.8], "accuracy": [0.5]}))
    assert found.warning == "same_answer"
    assert found.value == pytest.approx(0.036, abs=0.01)
    assert "backbone.weights" in found.remedy


def test_the_limit_of_the_spread_is_that_of_a_calibrated_classifier_hardly_above_chance():
    random = np.random.default_rng(0)
    abnormal = np.arange(20_000) % 2 == 0
    for spread, named in ((0.09, True), (0.11, False)):  # calibrated log-odds of two normal distributions
        log_odds = random.normal(np.where(abnormal, 1, -1) * spread**2 / 2, spread)
        above = np.mean(random.permutation(log_odds[abnormal]) > random.permutation(log_odds[~abnormal]))
        assert 0.5 < above < 0.56
        assert (names(says(log_odds, abnormal)) == ["same_answer"]) is named


def test_one_class_for_all_images_is_named_with_the_cause_that_fits():
    log_odds = np.random.default_rng(0).normal(-5, 1, 40)
    assert names(says(log_odds)) == ["one_class"]
    assert "all 40" in str(says(log_odds)[0])
    rare = np.arange(40) < 6
    assert "fit.class_weight" in says(log_odds, rare)[0].remedy
    known = rare, np.where(rare, 5.0, -5.0)
    assert "augment" in says(log_odds, rare, train=known, history=HISTORY)[0].remedy
    assert not says(log_odds, np.arange(40) < 4)  # a classifier that finds half of them misses all four by chance
    rising = HISTORY.assign(loss=[0.8, 3.0])
    assert says(log_odds, history=rising)[0].remedy == "lower lr"


def test_train_images_that_are_scored_far_worse_as_saved_are_a_sign_of_batch_statistics():
    told = np.where(ABNORMAL, 1.0, -1.0)
    saved = np.where(np.arange(40) < 12, 3.0, told)  # six normals more are called abnormal: 0.85
    assert not says(told, train=(ABNORMAL, saved), history=HISTORY)
    saved = np.where(np.arange(40) < 24, 3.0, told)  # twelve: 0.70
    (found,) = says(told, train=(ABNORMAL, saved), history=HISTORY)
    assert found.warning == "worse_as_saved"
    assert found.value == pytest.approx(0.2)
    assert "fit.precise_bn" in found.remedy
    # early stopping uses the weights of an earlier epoch
    assert not says(told, train=(ABNORMAL, saved), history=HISTORY, epoch=1)


@pytest.fixture(scope="module")
def pixels():
    return small.images(96)


def trained(pixels, epochs: int, lr: float, folder: Path, momentum: float = 0.9) -> list[Symptom]:
    images, abnormal = pixels
    parts = small.splits(abnormal, train=48)
    network = small.tiny_network(dropout=0.0)
    for layer in network.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = momentum
    run = small.run(lr, "adam", 8, (epochs,))
    reached, failed = small.trained(Trainer(network, network.variables, [images], 0), [run], parts)
    assert not failed
    held_out = {name: parts[name] for name in ("test", "valid")}
    return write_training(reached[run, epochs], parts["train"], held_out, folder, "fold 7", "tried")


@pytest.mark.workflow
@pytest.mark.slow
def test_trainings_that_come_to_nothing_say_so_at_once_and_one_that_comes_to_something_does_not(
    pixels, tmp_path, capsys
):
    assert not trained(pixels, 30, 0.01, tmp_path / "well")
    assert not capsys.readouterr().err
    assert symptoms_table({}).columns.tolist() == pd.read_csv(tmp_path / "well" / FILE).columns.tolist()

    # Keras' momentum leaves batch statistics near their start: the network is good, the saved one is not
    found = trained(pixels, 6, 0.03, tmp_path / "statistics", momentum=0.999)
    assert "worse_as_saved" in names(found)
    assert re.search(r"WARNING: fold 7, tried: .*fit\.precise_bn", capsys.readouterr().err)
    assert read_symptoms([tmp_path / "statistics" / FILE])["warning"].tolist() == names(found)

    assert names(trained(pixels, 1, 1e-6, tmp_path / "nothing", momentum=0.999)) == ["same_answer"]
    assert re.search(r"WARNING: fold 7, tried: .*raise lr or epochs", capsys.readouterr().err)


def test_many_trainings_are_summed_up_in_one_line_that_names_cause_and_remedy(tmp_path):
    named = {"stage1": [CONSTANT], "stage2": [], "fold 0": [CONSTANT], "fold 1": [], "fold 2": [CONSTANT]}
    for name, found in named.items():
        write_csv(tmp_path / name / FILE, symptoms_table({name: found}))
    line = first_line(read_symptoms(tmp_path / name / FILE for name in (*named, "stage3")), 3)
    assert line.startswith("stage1, 2 of 3 folds: answers almost the same for every photograph; probably too little")
    assert line.endswith("raise lr.")
    assert first_line(read_symptoms([tmp_path / "stage2" / FILE]), 3) == ""


@pytest.mark.slow
def test_predict_repeats_it_for_such_a_model_and_for_its_export(tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    card = {"warnings": [vars(CONSTANT)]}
    for seed, told in enumerate((card, card, {"warnings": []}, {"warnings": [{"of": 1}]}, {})):
        save_model(small.tiny_network(seed), tmp_path / "models" / f"fold{seed}.keras", told)
    Image.fromarray(small.images(2)[0][0]).save(tmp_path / "eye.png")

    def said(*words: object) -> str:
        assert run_glaucoma(*words) == 0
        return capsys.readouterr().err

    model = tmp_path / "models" / "fold0.keras"
    assert re.search(r"WARNING: .*fold0\.keras: answers almost the same", said("predict", model, tmp_path / "eye.png"))
    assert "WARNING" not in said("predict", model.with_name("fold2.keras"), tmp_path / "eye.png")
    assert "WARNING: 2 of 5 models: answers" in said("predict", tmp_path / "models", tmp_path / "eye.png")
    said("export", model, "--out", tmp_path / "one.onnx")
    assert json.loads((tmp_path / "one.onnx.json").read_text())["warnings"] == [vars(CONSTANT)]
    assert "answers almost the same" in said("predict", tmp_path / "one.onnx", tmp_path / "eye.png")


@pytest.mark.parametrize("card", [{}, {"warnings": None}, {"warnings": 3}, {"warnings": [3]}, {"warnings": "no"}])
def test_a_card_of_another_program_is_no_error(card):
    assert symptoms_of(card) == []
