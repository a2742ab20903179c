"""Grad-CAM: the paper's equations, and sanity checks of the explanations."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import small
from conftest import run_glaucoma
from PIL import Image
from trees import params_for

from glaucoma.base import paths
from glaucoma.base.errors import WeightsError
from glaucoma.base.files import write_csv
from glaucoma.model.artifacts import save_model
from glaucoma.model.gradcam import channel_weights, gradcam
from glaucoma.model.network import CLASSES, HEAD, build_network
from glaucoma.model.runtime import keras
from glaucoma.predict.explain_stage import disc_mask, heat_overlay, heat_share, run_explain

SPOT = 8  # side of the planted patch, pixels


def planted(count: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Noise with a bright spot in abnormal images: pixels, abnormal, and the spot's mask."""
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 160, (count, small.SIZE, small.SIZE, 3)).astype("uint8")
    abnormal, spots = np.arange(count) % 2 == 0, np.zeros((count, small.SIZE, small.SIZE), bool)
    for row in np.flatnonzero(abnormal):
        y, x = random.integers(0, small.SIZE - SPOT, 2)
        spots[row, y : y + SPOT, x : x + SPOT] = True
    pixels[spots] = 235
    return pixels, abnormal, spots


def convolutions() -> keras.Model:
    inputs = keras.Input((small.SIZE, small.SIZE, 3))
    x = keras.layers.Rescaling(1 / 127.5, offset=-1)(inputs)
    for filters in (8, 16):
        x = keras.layers.Conv2D(filters, 3, strides=2, padding="same", activation="relu")(x)
    return keras.Model(inputs, x)


@pytest.fixture(scope="module")
def learnt() -> keras.Model:
    """A small network trained to find the spot."""
    keras.utils.set_random_seed(1)
    network = build_network(convolutions(), dropout=0.1, seed=1)
    network.get_layer(HEAD[1]).momentum = 0.9
    network.compile(keras.optimizers.Adam(0.01), "sparse_categorical_crossentropy")
    pixels, abnormal, _ = planted(192, 1)
    network.fit(pixels.astype("float32"), abnormal.astype("int32"), batch_size=32, epochs=12, verbose=0)
    found, _ = gradcam(network)(planted(40, 2)[0])
    assert ((found >= 0.5) == planted(40, 2)[1]).mean() > 0.9, "it did not learn"
    return network


def test_a_head_of_three_blocks_is_explained_on_the_grid_of_the_backbones_last_map():
    network = build_network(convolutions(), dropout=0.1, seed=1, blocks=3)
    random = np.random.default_rng(4)
    for layer in network.layers[-10:]:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([random.uniform(0.5, 1.5, 16) for _ in range(4)])
    pool, weights = channel_weights(network)
    assert pool.name == HEAD[0]
    tail = keras.Model(pool.input, network.outputs[0])
    places = tuple(size or 1 for size in pool.input.shape)
    maps = random.normal(size=places).astype("float32")

    def log_odds(moved: np.ndarray) -> float:
        found = tail.predict(moved, verbose=0)[0].astype("float64")
        return np.log(found[CLASSES.index("abnormal")] / found[CLASSES.index("normal")])

    unit = random.normal(size=16).astype("float32")
    assert log_odds(maps + unit) - log_odds(maps) == pytest.approx(weights @ unit, rel=1e-3)


def test_weights_are_the_gradient_of_the_log_odds():
    for pooling in (keras.layers.GlobalMaxPooling2D, keras.layers.GlobalAveragePooling2D):
        keras.utils.set_random_seed(4)
        head = [pooling(), keras.layers.BatchNormalization(), keras.layers.Dropout(0.3)]
        head.append(keras.layers.Dense(2, activation="softmax"))
        inputs = x = keras.Input((4, 5, 6))
        for layer in head:
            x = layer(x)
        network, random = keras.Model(inputs, x), np.random.default_rng(4)
        head[1].set_weights([random.uniform(0.5, 1.5, 6) for _ in range(4)])
        maps = random.normal(size=(1, 4, 5, 6)).astype("float32")

        def log_odds(moved: np.ndarray, network: keras.Model = network) -> float:
            found = network.predict(moved, verbose=0)[0].astype("float64")
            return np.log(found[CLASSES.index("abnormal")] / found[CLASSES.index("normal")])

        # A common shift of all cells gives the sum of the gradient over cells; equation 1 takes the mean
        step = 0.01
        slopes = [
            (log_odds(maps + step * unit) - log_odds(maps - step * unit)) / (2 * step) for unit in np.eye(6, dtype="f4")
        ]
        _, weights = channel_weights(network)
        np.testing.assert_allclose(weights, slopes, atol=2e-3)
        _, heat = gradcam(network)(maps)
        np.testing.assert_allclose(heat[0], np.maximum(maps[0] @ weights / 20, 0), atol=1e-6)
        _, swapped = channel_weights(network, CLASSES[::-1])
        np.testing.assert_allclose(swapped, -weights)


def test_the_hottest_place_is_on_what_the_network_learnt(learnt):
    pixels, abnormal, spots = planted(40, 3)
    _, heat = gradcam(learnt)(pixels)
    fine = heat.repeat(4, axis=1).repeat(4, axis=2)
    hit = [spots[row].ravel()[fine[row].argmax()] for row in np.flatnonzero(abnormal)]
    assert np.mean(hit) > 0.7


def test_deleting_the_hottest_pixels_lowers_the_probability_more_than_random_ones(learnt):
    pixels, abnormal, _ = planted(40, 5)
    pixels = pixels[abnormal]
    explain, random = gradcam(learnt), np.random.default_rng(5)
    before, heat = explain(pixels)
    fine = heat.repeat(4, axis=1).repeat(4, axis=2).reshape(len(pixels), -1)
    count = fine.shape[1] // 8

    def without(chosen: np.ndarray) -> np.ndarray:
        left = pixels.copy().reshape(len(pixels), -1, 3)
        np.put_along_axis(left, chosen[:, :, None], 80, axis=1)  # the noise's mean
        return explain(left.reshape(pixels.shape))[0]

    hottest = np.argsort(-fine, axis=1, kind="stable")[:, :count]
    anywhere = np.stack([random.permutation(fine.shape[1])[:count] for _ in pixels])
    assert (before - without(hottest)).mean() > (before - without(anywhere)).mean() + 0.2


@pytest.mark.parametrize("layers", ["head_softmax", "all"])
def test_other_weights_give_another_map(learnt, layers):
    """Adebayo et al., "Sanity checks for saliency maps", NeurIPS 2018: a map that does not change explains nothing."""
    pixels, abnormal, _ = planted(40, 6)
    _, heat = gradcam(learnt)(pixels[abnormal])
    other, alike = keras.models.clone_model(learnt), []
    for seed in range(5):
        other.set_weights(learnt.get_weights())
        random = np.random.default_rng(seed)
        for layer in other.layers:
            if isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense)) and layers in ("all", layer.name):
                layer.set_weights([random.normal(0, 0.3, weight.shape) for weight in layer.get_weights()])
        _, changed = gradcam(other)(pixels[abnormal])
        pairs = zip(heat, changed, strict=True)
        alike += [np.corrcoef(one.ravel(), two.ravel())[0, 1] if two.any() else 0 for one, two in pairs]
    assert np.mean(alike) < 0.5


def test_a_head_of_another_kind_is_refused_in_a_sentence():
    inputs = keras.Input((8, 8, 3))
    flat = keras.layers.Flatten()(keras.layers.Conv2D(4, 3)(inputs))
    pooled = keras.layers.GlobalMaxPooling2D()(keras.layers.Conv2D(4, 3)(inputs))
    hidden = keras.layers.Dense(5, activation="relu")(pooled)
    for x in (flat, hidden):
        network = keras.Model(inputs, keras.layers.Dense(2, activation="softmax")(x))
        with pytest.raises(WeightsError, match=r"Grad-CAM needs a head .* this one is Dense ← "):
            gradcam(network)
    with pytest.raises(WeightsError, match="Grad-CAM needs a head"):
        gradcam(keras.Model(inputs, keras.layers.Dense(2, activation="sigmoid")(pooled)))


@pytest.mark.parametrize("crop", ["none", "retina"])
def test_predict_writes_an_overlay_of_each_readable_file(learnt, tmp_path, capsys, crop):
    save_model(learnt, tmp_path / "m" / "a.keras", {"input": {"crop": crop}})
    save_model(learnt, tmp_path / "m" / "b.keras", {})
    pixels = planted(2, 7)[0]
    for i, name in enumerate(("eye", "a name, odd")):
        Image.fromarray(pixels[i]).resize((160, 128), 0).save(tmp_path / f"{name}.png")
    (tmp_path / "cut.png").write_bytes(b"no image")
    out = tmp_path / "why"
    assert run_glaucoma("predict", tmp_path / "m", *sorted(tmp_path.glob("*.png")), "--explain", out) == 3
    assert sorted(file.name for file in out.iterdir()) == ["0001-a_name__odd.png", "0003-eye.png"]
    assert "2 overlays written" in capsys.readouterr().err
    for file in out.iterdir():
        assert min(Image.open(file).size) > 300


def test_heat_on_the_disc_is_the_share_within_its_ellipse_wherever_the_photograph_is_cropped():
    disc = {"disc_x": 60.0, "disc_y": 40.0, "disc_radius_x": 20.0, "disc_radius_y": 10.0, "disc_tilt": 90.0}
    whole = disc_mask(disc, (0, 0, 100, 100), 100)
    rows, columns = np.nonzero(whole)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 50, 69)  # tilted: tall, not wide
    assert whole.mean() == pytest.approx(np.pi * 0.2 * 0.1, rel=0.02)
    np.testing.assert_array_equal(disc_mask(disc, (40, 20, 40, 40), 40), whole[20:60, 40:80])
    assert heat_share(np.ones((4, 4)), whole) == pytest.approx(whole.mean())
    assert heat_share(whole.astype(float), whole) == 1
    assert np.isnan(heat_share(np.zeros((4, 4)), whole))
    right_down = disc_mask(disc | {"disc_tilt": 45.0}, (0, 0, 100, 100), 100)
    assert right_down[52, 72], "clockwise: the long axis falls to the right"
    assert not right_down[28, 72]


def test_an_overlay_has_the_photographs_size_and_is_brightest_where_it_is_hottest():
    heat = np.zeros((4, 4))
    heat[1, 2] = 3
    drawn = heat_overlay(np.full((32, 48, 3), 90, np.uint8), heat)
    assert drawn.shape == (32, 48, 3)
    yellow = drawn[..., :2].sum(axis=2) - drawn[..., 2].astype(int)
    assert np.unravel_index(yellow.argmax(), yellow.shape) in [(r, c) for r in range(8, 16) for c in range(24, 36)]
    assert len(np.unique(heat_overlay(np.full((8, 8, 3), 90, np.uint8), np.zeros((4, 4))).reshape(-1, 3), axis=0)) == 1


@pytest.mark.parametrize("known", [True, False])
def test_the_stage_explains_errors_and_examples_and_measures_where_the_disc_is_known(
    learnt, tmp_path, monkeypatch, known
):
    monkeypatch.chdir(tmp_path)
    pixels, abnormal, spots = planted(12, 8)
    images = [f"{i:x}" * 64 for i in range(12)]
    rows = {"fold": 0, "split": "test", "condition": np.where(abnormal, "abnormal", "normal"), "image": images}
    index = pd.DataFrame({"path": [f"{i}.png" for i in range(12)], **rows, "width": 64, "height": 64})
    write_csv(paths.INDEX, index)
    np.save(paths.PIXELS, pixels)
    write_csv(paths.PIXELS_TABLE, index[["image", "path"]])
    save_model(learnt, paths.fold_files(0)["model"], {})
    worst = pd.DataFrame({"error": "false negative", "rank": [1, 2], "fold": 0, "image": images[:2]})
    write_csv(paths.SUMMARY / "worst.csv", worst)
    write_csv(paths.SUMMARY / "examples.csv", pd.DataFrame({"fold": 0, "image": images[1:3]}))
    params = params_for(tmp_path / "photographs")
    if known:  # of abnormal ones; photographs are twice the network's input size
        y, x = (2 * np.array([spot.nonzero()[axis].mean() + 0.5 for spot in spots[abnormal]]) for axis in (0, 1))
        truth = {"image": np.array(images)[abnormal], "condition": "abnormal", "eye": "left", "disc_x": x, "disc_y": y}
        radii = {"disc_radius_x": SPOT * 1.5, "disc_radius_y": SPOT * 1.5, "disc_tilt": 0.0}
        write_csv(tmp_path / "photographs/truth.csv", pd.DataFrame(truth | radii))
    written = []
    for _ in range(2):
        metrics = run_explain(params)
        files = [paths.METRICS / "explain.json", *sorted(paths.EXPLAIN.iterdir())]
        written.append({file.name: file.read_bytes() for file in files})
    assert written[0] == written[1]
    assert len([name for name in written[0] if name.endswith(".png")]) == 3
    if known:
        assert metrics["images"] == 6
        assert metrics["heat_on_disc"] > 2 * metrics["disc_area"]
    else:
        assert "truth.csv" in metrics["skipped"]
