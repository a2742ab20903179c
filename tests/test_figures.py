"""Figures of trainings and folds."""

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from glaucoma.evaluate.scores import predictions_table
from glaucoma.report.score_figures import folds_figure, pooled_note, roc_figure, seen_note
from glaucoma.report.style import ink
from glaucoma.report.training_figures import confusion_figure, learning_curves


def history(epochs: int) -> pd.DataFrame:
    epoch = np.arange(1, epochs + 1)
    fall, rise = np.exp(-epoch / 10), 1 - 0.4 * np.exp(-epoch / 10)
    names = ["epoch", "loss", "f1_macro", "accuracy", "test_loss", "test_f1_macro", "test_accuracy"]
    return pd.DataFrame(dict(zip(names, [epoch, fall, rise, rise, fall + 0.1, rise - 0.1, rise - 0.1], strict=True)))


def with_gaps(epochs: int) -> pd.DataFrame:
    table = history(epochs).drop(index=4)
    table.loc[2, ["loss", "test_loss"]] = [np.inf, np.nan]
    return table


def fold_scores(folds: int) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    names = [f"{split}_{score}" for split in ("test", "valid") for score in ("f1_macro", "auroc", "sensitivity")]
    return pd.DataFrame({"fold": range(folds)} | {name: 0.9 + 0.1 * draw.random(folds) for name in names})


def pooled(folds: int, classes: int = 2) -> pd.DataFrame:
    draw = np.random.default_rng(0)
    abnormal = draw.random(folds * 20) < (0.5 if classes == 2 else 0)
    log_odds = np.where(abnormal, 1.0, -1.0) + draw.normal(0, 1, len(abnormal))
    table = predictions_table([f"i{k}" for k in range(len(abnormal))], abnormal, log_odds=log_odds)
    return table.assign(fold=np.repeat(np.arange(folds), 20))


MATRIX = pd.DataFrame([[70, 22], [8, 74]], index=["normal", "abnormal"], columns=["normal", "abnormal"])
SCORELESS = fold_scores(2).assign(test_auroc=np.nan, valid_auroc=np.nan)
FIGURES = {
    "curves of 100 epochs": lambda path: learning_curves(history(100), path, "Fold 0"),
    "curves of 2 epochs": lambda path: learning_curves(history(2), path, "Fold 0"),
    "curves of 1 epoch": lambda path: learning_curves(history(1), path, "Fold 0"),
    "curves of no epoch": lambda path: learning_curves(history(0), path, "Fold 0"),
    "curves with gaps": lambda path: learning_curves(with_gaps(12), path, "Fold 0"),
    "curves of train alone": lambda path: learning_curves(history(9)[["epoch", "loss", "f1_macro"]], path, "Fold 0"),
    "confusion": lambda path: confusion_figure(MATRIX, path, "Stage 1", "one\ntwo"),
    "confusion with a long title": lambda path: confusion_figure(MATRIX, path, "stage1, best of 16 trials " * 4, "one"),
    "confusion of one class": lambda path: confusion_figure(MATRIX * np.array([[1, 1], [0, 0]]), path, "Stage 1"),
    "ten folds": lambda path: folds_figure(fold_scores(10), path, "Folds", "a note"),
    "one fold": lambda path: folds_figure(fold_scores(1), path, "Folds"),
    "forty folds": lambda path: folds_figure(fold_scores(40), path, "Folds"),
    "folds without AUROC": lambda path: folds_figure(SCORELESS, path, "Folds"),
    "ROC": lambda path: roc_figure(pooled(3), path, "ROC", "a note"),
    "ROC of one class": lambda path: roc_figure(pooled(2, classes=1), path, "ROC"),
}


@pytest.mark.parametrize("draw", FIGURES.values(), ids=FIGURES)
def test_a_figure_is_a_legible_png_and_the_same_bytes_each_time(draw, tmp_path, recwarn):
    draw(tmp_path / "first.png")
    draw(tmp_path / "folder" / "second.png")
    with Image.open(tmp_path / "first.png") as image:
        assert image.format == "PNG"
        assert 700 <= image.width <= 2000
        assert 500 <= image.height <= 1200
        assert len(image.convert("RGB").getcolors(1 << 20)) > 20
    assert (tmp_path / "first.png").read_bytes() == (tmp_path / "folder" / "second.png").read_bytes()
    assert not recwarn.list


def test_a_title_wider_than_the_figure_is_broken_and_takes_nothing_from_the_drawing(tmp_path):
    confusion_figure(MATRIX, tmp_path / "short.png", "Stage 1")
    confusion_figure(MATRIX, tmp_path / "long.png", "stage1, best of 16 trials (optimizer=adadelta)" * 2)
    with Image.open(tmp_path / "short.png") as short, Image.open(tmp_path / "long.png") as long:
        assert short.width == long.width
        assert long.height > short.height
        white = np.asarray(long.convert("L"))[:, -12:] == 255
        assert white.all(), "something reaches the right edge"


def test_a_figure_that_cannot_be_drawn_leaves_no_file(tmp_path):
    with pytest.raises(KeyError):
        folds_figure(fold_scores(2).drop(columns="test_auroc"), tmp_path / "folds.png", "Folds")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("colour", "text"), [("white", "black"), ("#0072B2", "white"), ("#66aad1", "black"), ("#D55E00", "black")]
)
def test_text_on_a_colour_is_in_the_ink_that_contrasts_more(colour, text):
    assert ink(colour) == text


def test_the_style_of_other_figures_is_left_alone(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    confusion_figure(MATRIX, tmp_path / "confusion.png", "Stage 1")
    assert dict(matplotlib.rcParams) == before


def test_notes_say_how_many_images_and_whether_they_had_been_seen():
    twice = pd.concat([pooled(2), pooled(2)])
    assert pooled_note(twice, 0.0) == "80 predictions of 40 images, from 2 folds"
    assert pooled_note(pooled(1), 0.634).endswith("starting weights had seen up to 63% of a fold's images")
    assert seen_note(0.0) == ""
