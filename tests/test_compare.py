"""`glaucoma compare`: runs by file, workspace and Git revision."""

import numpy as np
import pytest
from conftest import run_glaucoma as glaucoma

from glaucoma.base import paths
from glaucoma.base.files import read_csv, write_csv


def predictions(noise: float, seed: int = 0):
    import pandas as pd

    random = np.random.default_rng(seed)
    abnormal = np.arange(120) % 2 == 0
    log_odds = 5 * (0.3 * abnormal - 0.15 + random.normal(0, noise, 120))
    labels = np.where(abnormal, "abnormal", "normal")
    return pd.DataFrame({"image": [f"{k:064d}" for k in range(120)], "label": labels, "log_odds": log_odds})


def test_a_better_run_is_called_better_and_an_equal_one_is_not(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv("poor.csv", predictions(0.5))
    write_csv("good.csv", predictions(0.1))
    write_csv(paths.SUMMARY / "predictions.csv", predictions(0.5).iloc[10:])
    assert glaucoma("compare", "poor.csv", "good.csv", "--csv", "all.csv") == 0
    said = capsys.readouterr().out
    assert "the second is better in sensitivity, specificity, auroc" in said
    assert "< 0.001 DeLong" in said
    assert read_csv("all.csv")["score"].tolist()[0] == "sensitivity"
    assert glaucoma("compare", "poor.csv") == 0
    said = capsys.readouterr().out
    assert "110 test images predicted by both" in said
    assert "left out: 10 images predicted only by poor.csv" in said
    assert "no difference beyond chance" in said


def test_copies_are_one_and_what_several_folds_predict_is_averaged_and_both_are_said(tmp_path, monkeypatch, capsys):
    import pandas as pd

    monkeypatch.chdir(tmp_path)
    first, second = predictions(0.5), predictions(0.1)
    ids = first["image"]
    copies = pd.DataFrame({"first": ids[:10], "second": list(ids[10:20]), "cluster": ids[:10]})
    write_csv(paths.AUDIT / "duplicates.csv", copies)
    write_csv("first.csv", first)
    write_csv("second.csv", pd.concat([second, second]))
    assert glaucoma("compare", "first.csv", "second.csv", "--csv", "all.csv") == 0
    said = capsys.readouterr().out
    assert "second.csv predicts images in several folds: their probabilities are averaged" in said
    assert "the 120 images are of 110 patients or photographs" in said
    assert (read_csv("all.csv")["groups"] == 110).all()


def test_what_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", predictions(0.1))
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    assert "b.csv does not exist" in capsys.readouterr().err
    (tmp_path / "b.csv").write_text("x\n1\n")
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    assert "is not a table of predictions" in capsys.readouterr().err
    write_csv("b.csv", predictions(0.1).rename(columns={"log_odds": "probability"}))  # as of an older release
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    said = capsys.readouterr().err
    assert "it has no column log_odds; predictions of an older release" in said
    assert "`dvc repro`" in said


@pytest.mark.slow
def test_the_run_of_the_last_commit_is_compared_with_the_workspace(project):
    said = project.run("glaucoma", "compare", "HEAD").stdout
    assert "no difference beyond chance" in said
    table = read_csv(project / "reports/summary/predictions.csv", dtype={"image": str})
    assert f"{table['image'].nunique()} test images predicted by both" in said
    refused = project.run("glaucoma", "compare", "nosuch", ok=False)
    assert "nosuch is not a Git revision" in refused.stderr
