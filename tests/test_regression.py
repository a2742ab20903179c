"""The regression on frozen features as a network: its predictions, saved files and Grad-CAM."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from glaucoma.base.params import Regression
from glaucoma.dataset.splits import Split
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.model.gradcam import gradcam
from glaucoma.model.regression import FEATURES, feature_trunk, pools_of, regression_network
from glaucoma.model.runtime import fresh, keras
from glaucoma.train.logistic import fit_regression

SIZE, ROWS = 64, {"train": range(24), "test": range(24, 30), "valid": range(30, 36)}


def split(rows) -> Split:
    return Split(tuple(map(str, rows)), np.array(rows), np.array(rows) % 2 == 0)


@pytest.fixture(scope="module")
def pixels() -> np.ndarray:
    """Two views side by side; in abnormal images, the left one is brighter in a corner."""
    drawn = np.random.default_rng(0).integers(60, 160, (36, SIZE, 2 * SIZE, 3), dtype=np.uint8)
    drawn[::2, : SIZE // 4, : SIZE // 4] += 60
    return drawn


@pytest.fixture(scope="module")
def fitted(pixels, tmp_path_factory):
    fresh(0)
    backbone = build_backbone("EfficientNetLite0", SIZE, "none", views=2)
    params, state = Regression(flips="both", C=0.1), tmp_path_factory.mktemp("state")
    splits = {name: split(rows) for name, rows in ROWS.items()}
    return backbone, *fit_regression(backbone, "EfficientNetLite0", pixels, splits, params, state)


def test_the_saved_network_predicts_what_the_regression_does(fitted, pixels, tmp_path):
    _, network, snapshot = fitted
    save_model(network, tmp_path / "one.keras", {})
    loaded = load_model(tmp_path / "one.keras")
    assert loaded.output_shape == (None, 2)
    for name, rows in ROWS.items():
        found = loaded.predict(pixels[rows].astype("float32"), verbose=0)[:, 1]
        np.testing.assert_allclose(found, snapshot.probability[name], atol=1e-5)


def test_it_is_scikit_learns_on_the_views_and_flips_each_by_itself(fitted, pixels):
    _, network, snapshot = fitted
    inner = network.get_layer(FEATURES)
    views = [pixels[:, :, :SIZE], pixels[:, :, SIZE:]]
    turned = [[view, view[:, :, ::-1], view[:, ::-1], view[:, ::-1, ::-1]] for view in views]
    left, right = ([inner.predict(one.astype("float32"), verbose=0) for one in of] for of in turned)
    features = np.stack([np.concatenate(pair, axis=1) for pair in zip(left, right, strict=True)], axis=1)
    taught = features[list(ROWS["train"])].reshape(24 * 4, -1).astype("float64")
    scaler = StandardScaler().fit(taught)
    labels = np.repeat(np.arange(24) % 2 == 0, 4)
    regression = LogisticRegression(C=0.1 / 4, max_iter=2000).fit(scaler.transform(taught), labels)
    valid = scaler.transform(features[list(ROWS["valid"])].reshape(6 * 4, -1))
    expected = 1 / (1 + np.exp(-regression.decision_function(valid).reshape(6, 4).mean(axis=1)))
    np.testing.assert_allclose(snapshot.probability["valid"], expected, atol=1e-3)


def test_mirrored_photographs_get_the_same_answer(fitted, pixels):
    _, network, _ = fitted
    mirrored = np.concatenate([pixels[:, :, SIZE - 1 :: -1], pixels[:, :, : SIZE - 1 : -1]], axis=2)
    first, second = (network.predict(one.astype("float32"), verbose=0) for one in (pixels[:4], mirrored[:4]))
    np.testing.assert_allclose(first, second, atol=1e-5)


@pytest.mark.slow
def test_heat_of_flips_is_turned_back_and_lies_in_the_view_that_speaks(fitted, pixels):
    _, network, _ = fitted
    explain = gradcam(network)
    mirrored = pixels[:2].copy()
    mirrored[:, :, :SIZE] = mirrored[:, :, SIZE - 1 :: -1]
    probability, heat = explain(pixels[:2])
    np.testing.assert_allclose(probability, network.predict(pixels[:2].astype("float32"), verbose=0)[:, 1], atol=1e-6)
    half = heat.shape[2] // 2
    np.testing.assert_allclose(explain(mirrored)[1][:, :, :half], heat[:, :, half - 1 :: -1], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("name", "taps"), [("EfficientNetLite0", 4), ("ResNet50V2", 4), ("MobileNetV3Small", 2)])
def test_features_come_from_several_depths_where_a_backbone_names_its_stages(name, taps):
    fresh(0)
    trunk = feature_trunk(build_backbone(name, SIZE, "none"), name, "horizontal")
    pools = pools_of(trunk.get_layer(FEATURES))
    assert len(pools) == taps
    assert trunk.output_shape[1] == 2
    width = trunk.output_shape[2]
    network = regression_network(trunk, np.zeros(width), np.ones(width), np.zeros(width), 0.0)
    assert np.allclose(network(keras.ops.ones((2, SIZE, SIZE, 3))), 0.5)
