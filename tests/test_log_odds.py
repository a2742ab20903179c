"""An overconfident network keeps its ranks: in files, scores, thresholds, ensembles and ONNX."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small
from PIL import Image
from scipy.special import expit
from scipy.stats import rankdata

from glaucoma.base import paths
from glaucoma.base.files import read_csv, read_json, write_json
from glaucoma.cli import main
from glaucoma.evaluate.decisions import decisions, thresholds_table
from glaucoma.evaluate.scores import scores
from glaucoma.evaluate.summary import read_folds
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.model.runtime import keras
from glaucoma.model.scorer import log_odds, scorer, with_log_odds
from glaucoma.predict.conversion import export_model
from glaucoma.predict.inference import load_classifier, predict_files
from glaucoma.train.outputs import write_training
from glaucoma.train.search import Searcher
from glaucoma.train.trainer import Snapshot, Trainer

PIXELS, ABNORMAL = small.images(40)


def sure(seed: int = 3, around: float = 40.0, spread: float = 2.0) -> keras.Model:
    """A network whose log-odds are within `spread` of `around` for every image."""
    network = small.tiny_network(seed)
    top = network.get_layer("head_softmax")
    found = log_odds(scorer(network).predict(PIXELS, verbose=0))
    scale = 2 * spread / np.ptp(found)
    kernel, bias = top.get_weights()
    middle = (found.max() + found.min()) / 2
    shift = (around - scale * middle) / 2 * np.array([-1, 1])
    top.set_weights([kernel * scale, bias * scale + shift])
    return network


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Overconfident networks, and photographs of their input size."""
    root = tmp_path_factory.mktemp("sure")
    for fold, around in enumerate((40.0, 41.0)):
        save_model(sure(fold, around), root / "models" / f"fold{fold}.keras", {})
    for i, image in enumerate(PIXELS):
        Image.fromarray(image).save(root / f"{i:02}.png")
    return root


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.png"))


@pytest.mark.parametrize("around", [40.0, -40.0, 300.0])
def test_log_odds_tell_apart_what_the_softmax_has_made_equal(around):
    network = sure(around=around)
    probability = network.predict(PIXELS, verbose=0)[:, 1]
    assert len(np.unique(expit(np.float32(around)) if around > 0 else 0)) == 1
    assert len(np.unique(probability)) <= (1 if around > 0 else len(PIXELS))
    found = log_odds(scorer(network).predict(PIXELS, verbose=0))
    assert found.dtype == np.float64
    assert abs(found - around).max() <= 2.001
    assert len(np.unique(found)) > len(PIXELS) - 3
    # ranks equal those of the network before it was made overconfident
    before = log_odds(scorer(small.tiny_network()).predict(PIXELS, verbose=0))
    assert np.corrcoef(rankdata(before), rankdata(found))[0, 1] > 0.999


def test_the_log_odds_are_those_of_the_network_s_own_probabilities_wherever_it_is_cut():
    network = small.tiny_network()
    expected = network.predict(PIXELS, verbose=0)[:, 1]
    features = small.features(PIXELS)
    for cut in (cut_head(network), cut_last(network, 4), cut_all(network)):
        given = [PIXELS] if cut.trunk is None else cut.trunk.predict(PIXELS, verbose=0)
        given = given if isinstance(given, list) else [given]
        found = log_odds(scorer(cut.tail).predict(given, verbose=0))
        np.testing.assert_allclose(expit(found), expected, atol=1e-6)
        assert len(scorer(cut.tail).variables) == len(cut.tail.variables)  # shared, not copied
    nested = keras.Model(network.inputs, small.tiny_network()(network.inputs[0]))
    np.testing.assert_allclose(expit(log_odds(scorer(nested).predict(PIXELS, verbose=0))), expected, atol=1e-6)
    head = small.tiny_head()
    both = with_log_odds(head).predict(features, verbose=0)
    np.testing.assert_allclose(expit(both[1][:, 0]), both[0][:, 1], atol=1e-6)


def test_networks_of_other_programs_are_scored_by_what_they_end_in():
    inputs = keras.Input((small.SIZE, small.SIZE, 3))
    dense = keras.layers.Dense(2, name="logits")
    x = dense(keras.layers.GlobalAveragePooling2D()(inputs))
    dense.set_weights([np.array([[-0.2, 0.2], [0.1, 0.1], [0.0, 0.1]]), np.zeros(2)])
    ends = (keras.layers.Softmax()(x), keras.layers.Activation("softmax")(x), keras.ops.softmax(x))
    expected = log_odds(keras.Model(inputs, x).predict(PIXELS, verbose=0))
    assert expected.max() > 30
    for end in ends:
        found = log_odds(scorer(keras.Model(inputs, end)).predict(PIXELS, verbose=0))
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    swapped = log_odds(scorer(keras.Model(inputs, ends[0])).predict(PIXELS, verbose=0), ("abnormal", "normal"))
    np.testing.assert_allclose(swapped, -expected, rtol=1e-5)


def test_training_keeps_the_ranks_of_a_sure_network_in_snapshot_and_journal(tmp_path):
    network, parts = sure(), small.splits(ABNORMAL, train=24)
    run = small.run(1e-9, "sgd", 8, (1,))
    reached, failed = small.trained(Trainer(network, network.variables, [PIXELS], 0), [run], parts)
    assert not failed
    snapshot = reached[run, 1]
    assert len(np.unique(snapshot.log_odds["test"])) == len(parts["test"])
    assert len(np.unique(snapshot.probability["test"].astype("float32"))) == 1
    # images are scored as a searcher's heads score them, side by side
    finished = Searcher(cut_head(sure()), PIXELS, parts, seed=0, state=tmp_path).train([run[0]])
    (side_by_side,) = finished.values()
    # batch statistics of the head move a little in an epoch
    assert np.corrcoef(side_by_side.log_odds["test"], snapshot.log_odds["test"])[0, 1] > 0.99
    again = Searcher(cut_head(sure()), PIXELS, parts, seed=0, state=tmp_path).train([run[0]])
    small.same(again[run[0]], side_by_side)


@pytest.fixture
def judged(tmp_path, monkeypatch) -> pd.DataFrame:
    """The predictions of a fold whose network is overconfident on every image but ranks them correctly."""
    monkeypatch.chdir(tmp_path)
    parts = small.splits(ABNORMAL, train=10)
    order = np.where(ABNORMAL, 41.0, 39.0) + np.linspace(-0.9, 0.9, len(ABNORMAL))
    row = {"epoch": 1, "loss": 0.5, "accuracy": 0.6, "f1_macro": 0.6, "test_loss": 9.0, "test_f1_macro": 0.3}
    found = {name: order[split.rows] for name, split in parts.items()}
    snapshot = Snapshot(1, [], found, pd.DataFrame([row]), 1.0)
    held_out = {name: parts[name] for name in ("test", "valid")}
    files = paths.fold_files(0)
    write_training(snapshot, parts["train"], held_out, files["report"], "fold 0", "sure")
    found = {name: scores(s.abnormal, log_odds=snapshot.log_odds[name]) for name, s in held_out.items()}
    write_json(files["metrics"], {"fold": 0, **{name: {**one, "contamination": 0.0} for name, one in found.items()}})
    return read_folds([0]).predictions


def test_files_scores_and_thresholds_keep_the_ranks(judged):
    assert judged["probability"].nunique() == 1
    assert judged["log_odds"].nunique() == len(judged)
    assert (
        read_csv(paths.fold_files(0)["report"] / "predictions.csv")["log_odds"].tolist() == judged["log_odds"].tolist()
    )
    found = read_json(paths.fold_files(0)["metrics"])["test"]
    assert (found["auroc"], found["specificity"]) == (1, 0)
    entry = decisions(judged, 1.0)
    assert 39 < entry["folds"]["0"]["thresholds"]["youden"] < 41
    assert entry["folds"]["0"]["probabilities"]["youden"] == 1
    rows = thresholds_table(judged, entry).set_index(["rule", "split"])
    assert (rows.loc[("youden", "valid"), ["sensitivity", "specificity"]] == 1).all()
    assert entry["folds"]["0"]["temperature"] > 20  # it was far too confident


def predicted(capsys, *words: object) -> pd.DataFrame:
    with pytest.raises(SystemExit) as left:
        main(["predict", *map(str, words), "--format", "json", "--no-quality"])
    assert left.value.code == 0
    return pd.DataFrame(json.loads(capsys.readouterr().out))


def test_an_ensemble_ranks_as_the_mean_of_its_probabilities_would_if_they_had_room(folder, capsys):
    both = predict_files(sorted((folder / "models").glob("*.keras")), files(folder))
    exact = expit(-both.each.astype("longdouble")).mean(axis=0)  # of normal, which has room below 1
    np.testing.assert_allclose(-both.log_odds, np.log(exact).astype(float), rtol=1e-9)
    assert len(np.unique(both.log_odds)) > len(PIXELS) - 3
    assert (both.probability == 1).all()
    told = predicted(capsys, folder / "models", *files(folder))
    np.testing.assert_allclose(told["log_odds"], both.log_odds, rtol=1e-12)


@pytest.mark.slow
def test_onnx_ranks_as_keras_does_and_decides_by_log_odds(folder, tmp_path, capsys):
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    model = folder / "models" / "fold0.keras"
    assert export_model(model, tmp_path / "sure.onnx", check=folder).difference < 1e-6
    graph = onnx.load(tmp_path / "sure.onnx").graph
    assert [one.name for one in graph.output] == ["probability", "log_odds"]
    expected = load_classifier(model).log_odds(PIXELS)
    found = predicted(capsys, tmp_path / "sure.onnx", *files(folder))
    np.testing.assert_allclose(found["log_odds"], expected, rtol=1e-5)
    assert np.corrcoef(rankdata(found["log_odds"]), rankdata(expected))[0, 1] > 0.999
    assert (found["decision"] == "abnormal").all()

    # the exported file also keeps a threshold between very high log-odds
    entry = {"thresholds": {"youden": 40.0}, "probabilities": {"youden": 1.0}}
    entry |= {"temperature": None, "platt": None, "at_bound": []}
    (tmp_path / "models/crossval").mkdir(parents=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        save_model(load_model(model), paths.fold_files(0)["model"], {})
        write_json(paths.SUMMARY / "decision.json", {"ensemble": None, "ensemble_of": "", "folds": {"0": entry}})
        kept = predicted(capsys, "crossval/fold0", *files(folder), "--threshold", "youden")
        assert set(kept["decision"]) == {"abnormal", "normal"}
        with pytest.raises(SystemExit):
            main(["export", "crossval/fold0", "--threshold", "youden", "--out", "own.onnx"])
        capsys.readouterr()
        assert read_json("own.onnx.json")["threshold_log_odds"] == 40.0
        own = predicted(capsys, "own.onnx", *files(folder))
    assert (own["decision"] == kept["decision"]).mean() > 0.95

    # a file of an older release has probabilities alone, and the smaller of the two still has its digits
    old = onnx.load(tmp_path / "sure.onnx")
    del old.graph.output[1]
    onnx.save(old, tmp_path / "old.onnx")
    found = predicted(capsys, tmp_path / "old.onnx", *files(folder))
    np.testing.assert_allclose(found["log_odds"], expected, rtol=1e-5)
