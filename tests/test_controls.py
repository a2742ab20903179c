"""Controls: a regression that finds the signal, and permuted labels that score at chance unless there is a leak."""

import numpy as np
import pandas as pd
import pytest
from conftest import run_glaucoma

from glaucoma.base import paths
from glaucoma.base.errors import DataError
from glaucoma.base.files import write_csv, write_json
from glaucoma.dataset.splits import Dataset
from glaucoma.evaluate.controls import control_lines, write_against_controls
from glaucoma.evaluate.summary import FoldResults
from glaucoma.train.control_stage import PERMUTATIONS, chance_check, control_scores
from glaucoma.train.near_copies import near_copies

IMAGES = 240


ABNORMAL = np.arange(IMAGES) // 2 % 2 == 0
VALID = ((4, 7), (5, 6), (6, 9))  # of each fold, modulo 12: one image of either class


def dataset(leaking: int = 0) -> Dataset:
    """Three folds of 240 images, half of them abnormal; `leaking` images of each test split are in train too."""
    rows = []
    for fold in range(3):
        split = ["test" if i % 3 == fold else "valid" if i % 12 in VALID[fold] else "train" for i in range(IMAGES)]
        rows += [(fold, split[i], f"{i:03}", ABNORMAL[i], i) for i in range(IMAGES)]
        tested = [i for i in range(IMAGES) if split[i] == "test"]
        rows += [(fold, "train", f"{i:03}", ABNORMAL[i], i) for i in tested[:leaking]]
    table = pd.DataFrame(rows, columns=["fold", "split", "image", "abnormal", "row"])
    return Dataset(np.zeros((IMAGES, 1)), table)


def features(signal: float, width: int = 5) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1).normal(size=(IMAGES, width))
    draw[:, 0] += signal * ABNORMAL
    return {"regression_average": draw.astype("f4"), "regression_max": draw.astype("f4")}


def test_the_regression_finds_the_signal_and_permuted_labels_do_not():
    given = features(3.0)
    found = control_scores(given, dataset(), [0, 1, 2], seed=0)
    table, predictions = found.scores, found.predictions
    assert len(table) == (2 + PERMUTATIONS) * 3 * 2
    means = table[table["split"] == "test"].groupby("control")["auroc"].mean()
    assert means["regression_average"] > 0.95
    mean, error, alarm = chance_check(table)
    assert alarm == ""
    assert mean == pytest.approx(0.5, abs=5 * error)
    again = control_scores(given, dataset(), [0], seed=0)
    pd.testing.assert_frame_equal(table.head(24), again.scores)
    assert len(predictions) == 2 * 3 * (80 + 40)
    assert set(predictions["control"]) == {"regression_average", "regression_max"}


def test_the_check_fails_where_test_images_are_trained_on():
    wide = features(0.0, width=200)
    assert chance_check(control_scores(wide, dataset(), [0, 1, 2], seed=0).scores)[2] == ""
    table = control_scores(wide, dataset(leaking=40), [0, 1, 2], seed=0).scores
    mean, _, alarm = chance_check(table)
    assert mean > 0.6
    assert "shuffled labels score AUROC 0." in alarm


def test_the_check_fails_where_copies_of_test_images_are_trained_on():
    wide = features(0.0, width=200)["regression_average"]
    wide[1::2] = wide[::2]  # images 0 and 1, 2 and 3 … are each one photograph
    same = {f"{i:03}": f"{i // 2 * 2:03}" for i in range(IMAGES)}
    found = control_scores({"regression_average": wide}, dataset(), [0, 1, 2], 0, same)
    assert "shuffled labels score" in chance_check(found.scores)[2]


def test_unlisted_copies_across_splits_are_found_and_nothing_is_where_there_are_none():
    alarms = 0
    for seed in range(20):
        values = np.random.default_rng(seed).normal(size=(IMAGES, 12))
        found = near_copies(values, dataset().table, [0, 1, 2])
        alarms += len(found.pairs)
        assert found.dimension == pytest.approx(12, rel=0.3)
    assert alarms <= 4  # one is expected
    copies = values.copy()
    copies[1::2] = copies[::2] + 0.1 * np.random.default_rng(0).normal(size=(IMAGES // 2, 12))  # of every image one
    found = near_copies(copies, dataset().table, [0, 1, 2])
    pairs = {(one, two) for one, two in zip(found.pairs["first"], found.pairs["second"], strict=True)}
    true = {(f"{i:03}", f"{i + 1:03}") for i in range(0, IMAGES, 2)}
    assert len({tuple(sorted(pair)) for pair in pairs} & true) > 0.95 * len(true)
    assert len(pairs) <= len(true) + 1
    assert (found.pairs["folds"] >= 1).all()
    # permuted labels see nothing of it
    assert chance_check(control_scores({"regression_average": copies}, dataset(), [0, 1, 2], 0).scores)[2] == ""
    listed = {f"{i:03}": f"{i // 2 * 2:03}" for i in range(IMAGES)}
    assert near_copies(copies, dataset().table, [0, 1, 2], listed).pairs.empty
    few = near_copies(values[:20], dataset().table[dataset().table["row"] < 20], [0, 1, 2])
    assert (few.images, few.alarm_below, len(few.pairs)) == (20, None, 0)


@pytest.fixture(scope="module")
def predictions() -> pd.DataFrame:
    """The controls' predictions if there is a signal."""
    return control_scores(features(1.0), dataset(), [0, 1, 2], seed=0).predictions


@pytest.fixture
def judged(predictions, tmp_path, monkeypatch):
    """Writes the controls' files and sets networks beside them that see the signal as well, or better."""
    monkeypatch.chdir(tmp_path)
    write_csv(paths.CONTROLS / "predictions.csv", predictions)
    theirs = predictions[predictions["control"] == "regression_average"].drop(columns="control")

    def judge(gain: float) -> pd.DataFrame:
        moved = theirs["log_odds"] + 8 * gain * (theirs["label"] == "abnormal")
        ours = theirs.assign(log_odds=moved, source="")
        results = FoldResults(pd.DataFrame(), ours, pd.Series(dtype=float), [], pd.DataFrame())
        return write_against_controls(results, seed=0)

    return judge


def test_networks_are_said_to_beat_a_control_only_where_the_interval_of_the_difference_says_so(judged):
    better = judged(0.3)
    row = better.set_index(["split", "control", "score"]).loc[("valid", "regression_average", "auroc")]
    assert 0 < row["low"] < row["difference"] < row["high"]
    assert control_lines(better).count(": beaten") == 2
    assert control_lines(judged(0.0)).count("NOT BEATEN") == 2


def test_controls_of_other_images_are_refused_and_none_are_no_rows(judged):
    file = paths.CONTROLS / "predictions.csv"
    table = pd.read_csv(file, dtype={"image": str})
    write_csv(file, table[table["image"] != "000"])
    with pytest.raises(DataError, match=r"dvc repro -f controls"):
        judged(0.1)
    file.unlink()
    assert judged(0.1).empty
    assert control_lines(judged(0.1)) == "controls: not run"


def test_the_command_fails_where_labels_without_meaning_taught_something(judged, capsys):
    judged(0.3)
    for at_chance, code, said in ((True, 0, "permutation check passed"), (False, 6, "test contains images of train")):
        found = {"test_auroc": 0.5 if at_chance else 0.7, "standard_error": 0.01, "at_chance": at_chance}
        copies = {"pairs": 2, "images": 240, "alarm_below": 0.6, "dimension": 20.0}
        write_json(paths.CONTROLS_METRICS, {"permuted_average": {**found, "alarm_from": 0.55}, "near_copies": copies})
        assert run_glaucoma("controls") == code
        shown = capsys.readouterr()
        assert said in shown.out + shown.err
        assert "regression_max: AUROC" in shown.out
        assert "alarm from 0.550 on" in shown.out
        assert "2 pairs of photographs may be such" in shown.out
    paths.CONTROLS_METRICS.unlink()
    assert run_glaucoma("controls") == 3
    assert "dvc repro" in capsys.readouterr().err
