"""Predictions averaged over flips: a photograph and its mirror image get the same, in folds and on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import run_glaucoma
from PIL import Image, ImageOps
from small import images, splits, tiny_backbone, tiny_network

from glaucoma.base import paths
from glaucoma.base.errors import ParamsError
from glaucoma.base.params import Params, check_params, load_params
from glaucoma.model.artifacts import save_model
from glaucoma.model.log_odds import over_flips
from glaucoma.train.fold_stage import _FoldTrainer


def params(**crossval: object) -> Params:
    raw = load_params(Path(__file__).parents[1] / "params.yaml").model_dump()
    raw["crossval"] |= {"warm_start": "none", **crossval}
    return check_params(raw, "params.yaml")


def test_each_part_of_a_photograph_is_flipped_by_itself():
    pixels = np.random.default_rng(0).integers(0, 255, (2, 4, 8, 3), dtype="uint8")  # two views, 4 × 4 each
    seen = []
    found = over_flips(lambda one: seen.append(one) or np.full(2, float(len(seen))), pixels, "both")
    assert found.tolist() == [2.5, 2.5]
    np.testing.assert_array_equal(seen[1], np.concatenate([pixels[:, :, 3::-1], pixels[:, :, :3:-1]], axis=2))
    np.testing.assert_array_equal(seen[2], pixels[:, ::-1])
    assert len(seen) == 4


def test_a_folds_predictions_are_those_of_the_mirror_image_and_its_training_is_the_same(tmp_path, monkeypatch):
    plain, flipped = params(), params(flips="horizontal")
    monkeypatch.chdir(tmp_path)
    save_model(tiny_backbone(), paths.BACKBONE, {})
    pixels, abnormal = images()
    found = {}
    for name, how, taken in (("plain", plain, pixels), ("flipped", flipped, pixels)):
        trainer = _FoldTrainer(how, 0, SimpleNamespace(pixels=taken, fold=lambda number: splits(abnormal)), {})
        found[name] = trainer.train_all()
    network = found["flipped"][0]
    for one, other in zip(found["plain"][0].get_weights(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    mirrored = [network.predict(part, verbose=0)[:, 1] for part in (pixels, pixels[:, :, ::-1])]
    logits = np.mean([np.log(p / (1 - p)) for p in mirrored], axis=0)
    for name in ("test", "valid"):
        rows = splits(abnormal)[name].rows
        np.testing.assert_allclose(found["flipped"][2].log_odds[name], logits[rows], atol=1e-4)
        assert not np.allclose(found["plain"][2].log_odds[name], logits[rows], atol=1e-4)
    np.testing.assert_array_equal(found["plain"][2].log_odds["train"], found["flipped"][2].log_odds["train"])


@pytest.mark.parametrize("own", ["none", "horizontal"])
def test_predict_averages_as_the_model_was_scored_unless_told_otherwise(tmp_path, capsys, own):
    card = {"input": {"size": 32, "crop": "none", "flips": own}}
    save_model(tiny_network(1), tmp_path / "one.keras", card)
    eye = Image.fromarray(images(2)[0][0])
    eye.save(tmp_path / "eye.png")
    ImageOps.mirror(eye).save(tmp_path / "mirror.png")

    def both(*words: str) -> list[float]:
        eyes = tmp_path / "eye.png", tmp_path / "mirror.png"
        assert run_glaucoma("predict", tmp_path / "one.keras", *eyes, "--format", "json", "--no-quality", *words) == 0
        return pd.DataFrame(json.loads(capsys.readouterr().out))["log_odds"].tolist()

    plain, flipped = both("--flips", "none"), both("--flips", "horizontal")
    assert plain[0] != pytest.approx(plain[1], abs=1e-5)
    assert flipped == pytest.approx([np.mean(plain)] * 2, abs=1e-5)
    assert both() == pytest.approx(plain if own == "none" else flipped, abs=1e-6)


def test_flips_beside_a_regression_that_has_its_own_are_refused():
    with pytest.raises(ParamsError, match=r"crossval\.flips is 'both': .*regression\.flips"):
        params(flips="both", model="regression")
