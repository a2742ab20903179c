"""`glaucoma compare`: runs by file, workspace and Git revision."""

from pathlib import Path

import numpy as np
import pytest
from conftest import run_glaucoma as glaucoma
from PIL import Image
from sklearn.metrics import roc_auc_score

from glaucoma.base import paths
from glaucoma.base.files import read_csv, write_csv
from glaucoma.evaluate.comparison import delong
from glaucoma.evaluate.over_folds import differences


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
    write_csv(paths.SUMMARY / "predictions_valid.csv", predictions(0.5).iloc[10:])
    for name in ("all.png", "again.png"):
        assert glaucoma("compare", "poor.csv", "good.csv", "--csv", "all.csv", "--png", name) == 0
    assert Path("all.png").read_bytes() == Path("again.png").read_bytes()
    with Image.open("all.png") as drawn:
        assert drawn.width > 1500
        assert len(drawn.convert("RGB").getcolors(1 << 20)) > 50
    capsys.readouterr()
    assert glaucoma("compare", "poor.csv", "good.csv") == 0
    said = capsys.readouterr().out
    assert "the second is better in sensitivity, specificity, auroc" in said
    assert "< 0.001 DeLong" in said
    assert read_csv("all.csv")["score"].tolist()[0] == "sensitivity"
    Path("windows.csv").write_bytes(Path("good.csv").read_bytes().replace(b"\n", b"\r\n"))
    assert glaucoma("compare", "windows.csv", "good.csv") == 0
    assert "no difference is shown: no score has an interval" in capsys.readouterr().out
    assert glaucoma("compare", "poor.csv") == 0
    said = capsys.readouterr().out
    assert "110 valid images predicted by both" in said
    assert "left out: 10 images predicted only by poor.csv" in said
    assert "no difference is shown: no score has an interval" in said


def test_the_markdown_of_a_comment_has_the_verdict_the_table_and_nothing_that_a_name_could_forge(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    write_csv("poor.csv", predictions(0.5))
    write_csv("a|b <img> @all.csv", predictions(0.1))
    assert glaucoma("compare", "poor.csv", "a|b <img> @all.csv", "--markdown") == 0
    verdict, _, head, rule, *rest = capsys.readouterr().out.splitlines()
    assert verdict.startswith("**The second is better in sensitivity, specificity, auroc")
    assert head.count("|") == rule.count("|") == 6
    rows = [line for line in rest if line.startswith("|")]
    assert [row.split(" | ")[0].strip("| ") for row in rows][:3] == ["sensitivity", "specificity", "auroc"]
    assert all(row.count("|") == 6 for row in rows)
    assert any("[+0." in row for row in rows)
    assert r"poor.csv → a\|b \<img\> \@all.csv: 120 valid images" in "\n".join(rest)


def folds(*, offset: float, gain: float, seed: int, number: int = 6, images: int = 40):
    """Two runs on the same images and folds; the second run's log-odds have their own offset per fold."""
    import pandas as pd

    random = np.random.default_rng(seed)
    fold, abnormal = np.repeat(np.arange(number), images), np.tile(np.arange(images) % 2 == 0, number)
    shared = random.normal(size=fold.size)
    first, second = (gain_ * abnormal + shared + random.normal(0, 0.7, fold.size) for gain_ in (1.5, 1.5 + gain))
    second += random.normal(0, offset, number)[fold]
    about = {"fold": fold, "image": [f"{k:064d}" for k in range(fold.size)], "patient": ""}
    table = pd.DataFrame({**about, "label": np.where(abnormal, "abnormal", "normal")})
    return table.assign(log_odds=first), table.assign(log_odds=second)


@pytest.mark.slow  # a simulation
def test_runs_that_are_equal_within_folds_are_told_apart_no_more_often_than_chance_does_and_better_ones_are():
    def rejected(offset: float, gain: float) -> tuple[int, int]:
        """Rejections out of 60: by the interval of the mean over folds, and by DeLong's test of pooled predictions."""
        counts = [0, 0]
        for seed in range(60):
            one, two = folds(offset=offset, gain=gain, seed=seed)
            row = differences(one, two, seed=seed, resamples=200).set_index("score").loc["auroc"]
            abnormal = (one["label"] == "abnormal").to_numpy()
            p = delong(abnormal, one["log_odds"].to_numpy(), two["log_odds"].to_numpy())["p"]
            counts = [counts[0] + (row["low"] > 0 or row["high"] < 0), counts[1] + (p < 0.05)]
        return tuple(counts)

    # In 1200 further draws (of 6 × 60, 6 × 40 and 10 × 20 images), the interval excludes 0 in 46, 3.8 %
    by_folds, pooled = rejected(offset=4, gain=0)
    assert by_folds <= 5
    assert pooled >= 50
    assert rejected(offset=4, gain=0.8)[0] >= 50


def test_folds_are_compared_each_with_itself_and_no_p_is_given_for_several_models(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    one, two = folds(offset=4, gain=0, seed=1)
    write_csv("one.csv", one)
    write_csv("two.csv", two[two["fold"] < 4])
    assert glaucoma("compare", "one.csv", "two.csv", "--csv", "all.csv") == 0
    said = capsys.readouterr().out
    assert "one.csv: scores are means over 4 folds" in said
    assert "no p by DeLong or McNemar: 4 folds are 4 models" in said
    assert "the runs' folds differ" not in said
    found = read_csv("all.csv").set_index("score").loc["auroc"]
    parts = [part for fold, part in one.groupby("fold") if fold < 4]
    each = [roc_auc_score(part["label"] == "abnormal", part["log_odds"]) for part in parts]
    assert found["first"] == pytest.approx(np.mean(each))
    assert np.isnan(found["p"])
    write_csv("two.csv", two.assign(fold=(two["fold"] + two.index) % 5))
    assert glaucoma("compare", "one.csv", "two.csv") == 0
    assert "the runs' folds differ: each run is scored in its own" in capsys.readouterr().out


def test_other_labels_than_the_two_classes_are_refused_and_not_taken_for_normal(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", predictions(0.1))
    write_csv("b.csv", predictions(0.1).replace({"label": {"abnormal": "glaucoma"}}))
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    assert "the second run has labels other than normal and abnormal: glaucoma" in capsys.readouterr().err


def test_copies_are_one_and_what_is_predicted_twice_without_folds_is_averaged_and_both_are_said(
    tmp_path, monkeypatch, capsys
):
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
    assert "second.csv predicts images several times, and has no column fold: their probabilities are averaged" in said
    assert "no p by DeLong or McNemar: 120 images are of 110 patients or photographs" in said
    found = read_csv("all.csv")
    assert (found["groups"] == 110).all()
    assert found["p"].isna().all()


def test_what_is_not_there_is_named(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    write_csv("a.csv", predictions(0.1))
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    assert "b.csv does not exist" in capsys.readouterr().err
    (tmp_path / "b.csv").write_text("x\n1\n")
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    assert "is not a table of predictions" in capsys.readouterr().err
    write_csv("b.csv", predictions(0.1).rename(columns={"log_odds": "probability"}))  # as in an older release
    assert glaucoma("compare", "a.csv", "b.csv") == 3
    said = capsys.readouterr().err
    assert "it has no column log_odds; predictions of an older release" in said
    assert "`dvc repro`" in said


@pytest.mark.slow
def test_the_run_of_the_last_commit_is_compared_with_the_workspace(project):
    said = project.run("glaucoma", "compare", "HEAD").stdout
    assert "no difference is shown: no score has an interval" in said  # of eight images
    table = read_csv(project / "reports/summary/predictions_valid.csv", dtype={"image": str})
    assert f"{table['image'].nunique()} valid images predicted by both" in said
    refused = project.run("glaucoma", "compare", "nosuch", ok=False)
    assert "nosuch is not a Git revision" in refused.stderr
