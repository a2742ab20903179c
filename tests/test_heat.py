"""Heat without gradients, and its colours without matplotlib."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small
from scipy.special import expit
from trees import jpeg, photograph

from glaucoma.model.portable import Runner
from glaucoma.predict.explain_stage import heat_overlay
from glaucoma.predict.heat import GRADCAM, GRID, OCCLUSION, Heat, heat_of_photograph, heats, occlusion
from glaucoma.predict.inference import Classifier
from glaucoma.serve.app import coloured

CLASSES = ("normal", "abnormal")


class Corner(Runner):
    """Log-odds are the contrast of the upper left quarter of a view, less that of the lower right one."""

    def __init__(self, size: int, views: int = 1):
        self.input_shape, self.output_shape = (None, size, views * size, 3), (None, 2)

    def __call__(self, pixels: np.ndarray) -> np.ndarray:
        half = self.input_shape[1] // 2
        log_odds = pixels[:, :half, :half].std(axis=(1, 2, 3)) - pixels[:, half:, -half:].std(axis=(1, 2, 3))
        return np.stack([expit(-log_odds), expit(log_odds)], axis=1).astype("float32")


@pytest.mark.parametrize("views", [1, 2])
def test_the_hottest_place_is_the_one_whose_covering_lowers_the_log_odds_most(views):
    runner = Corner(56, views)
    card = {"input": {"crop": "none" if views == 1 else "retina+disc"}}
    one = Classifier(Path("corner.onnx"), runner, runner, card, CLASSES)
    pixels = np.random.default_rng(0).integers(100, 156, (2, 56, views * 56, 3)).astype(np.uint8)
    probability, heat = occlusion(one)(pixels)
    assert heat.shape == (2, GRID, views * GRID)
    np.testing.assert_allclose(probability, expit(one.log_odds(pixels)))
    left = heat[:, :4, :4].sum(axis=(1, 2))
    assert (left > 0.8 * heat.sum(axis=(1, 2))).all()
    assert (heat[:, 5:, -2:] == 0).all()  # covering what speaks against abnormal raises them


def test_grad_cam_explains_where_every_network_allows_it_else_occlusion_all_of_them():
    network, runner = small.tiny_network(), Corner(small.SIZE)
    keras = Classifier(Path("a.keras"), network, network, {}, CLASSES)
    onnx = Classifier(Path("b.onnx"), runner, runner, {}, CLASSES)
    assert [heats(models)[0] for models in ([keras], [keras, onnx], [onnx])] == [GRADCAM, OCCLUSION, OCCLUSION]
    _, both = heats([onnx, onnx])
    found = heat_of_photograph([onnx, onnx], both, jpeg(1, size=100))
    assert found.heat.shape == found.photograph.shape[:2] == (100, 100)
    assert 0 <= found.probability <= 1


def test_the_colours_are_those_of_the_report():
    heat = np.linspace(0, 7, 64 * 64).reshape(64, 64)
    pixels = np.asarray(photograph(1, size=64))
    apart = coloured(Heat(pixels, heat, [], 0.5)).astype(int) - heat_overlay(pixels, heat)
    assert np.abs(apart).max() <= 7
    nothing = coloured(Heat(pixels, np.zeros((64, 64)), [], 0.5)).astype(int) - heat_overlay(pixels, np.zeros((1, 1)))
    assert np.abs(nothing).max() <= 1
