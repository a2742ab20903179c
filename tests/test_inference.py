"""Classifiers by name, and their predictions for files: as in training, and independent of the other files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.special import expit
from small import SIZE, images, tiny_backbone, tiny_network

from glaucoma.base import paths
from glaucoma.base.errors import WeightsError
from glaucoma.model.artifacts import save_model
from glaucoma.model.network import CLASSES
from glaucoma.photos.content import content_ids
from glaucoma.photos.pixels import write_pixels
from glaucoma.predict.inference import find_models, load_classifier, predict_files


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project's models and six photographs, the third damaged."""
    root = tmp_path_factory.mktemp("inference")
    for name in ("stage2", "crossval/fold0", "crossval/fold10", "crossval/fold2"):
        save_model(tiny_network(seed=len(name)), root / "models" / f"{name}.keras", {"classes": list(CLASSES)})
    save_model(tiny_backbone(), root / "models/backbone/backbone.keras", {})
    (root / "photographs").mkdir()
    for i, pixels in enumerate(images(6)[0]):
        Image.fromarray(pixels).save(root / f"photographs/{i}.png")
    (root / "photographs/2.png").write_bytes(b"no image")
    return root


@pytest.fixture(autouse=True)
def _inside(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(trained)


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("models/stage2.keras", ["stage2"]),
        ("stage2", ["stage2"]),
        ("crossval/fold2", ["crossval/fold2"]),
        ("crossval", ["crossval/fold0", "crossval/fold2", "crossval/fold10"]),
        ("models/crossval", ["crossval/fold0", "crossval/fold2", "crossval/fold10"]),
    ],
)
def test_a_model_is_found_by_path_name_or_folder(name, found):
    assert find_models(name) == [paths.MODELS / f"{one}.keras" for one in found]


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(WeightsError, match=r"no model stage9(.|\n)*stage2\n(.|\n)*crossval/fold2\n") as error:
        find_models("stage9")
    assert "backbone" not in str(error.value)


def test_what_is_no_classifier_or_not_the_one_described_is_refused(tmp_path):
    with pytest.raises(WeightsError, match="no classifier"):
        load_classifier(Path("models/backbone/backbone.keras"))
    one, other = tmp_path / "one.keras", tmp_path / "other.keras"
    save_model(tiny_network(1), one, {})
    save_model(tiny_network(2), other, {})
    other.replace(one)
    with pytest.raises(WeightsError, match="not the model that"):
        load_classifier(one)
    one.with_suffix(".json").unlink()
    assert load_classifier(one).card == {}


def test_files_are_predicted_as_the_network_sees_their_pixels_and_the_ensemble_is_the_mean():
    files = [Path(f"photographs/{i}.png") for i in range(6)]
    models = find_models("crossval")
    found = predict_files(models, files)
    assert list(found.faults) == [2]
    assert found.faults[2].startswith("no image")
    assert np.isnan(found.each[:, 2]).all()
    readable = [0, 1, 3, 4, 5]
    pixels = images(6)[0][readable].astype("float32")
    assert pixels.shape[1:3] == (SIZE, SIZE)
    for row, model in zip(found.each, models, strict=True):
        expected = load_classifier(model).network.predict(pixels, verbose=0)[:, CLASSES.index("abnormal")]
        np.testing.assert_allclose(expit(row[readable]), expected, atol=1e-6)
    np.testing.assert_allclose(found.probability[readable], expit(found.each[:, readable]).mean(axis=0))


def test_an_images_prediction_does_not_depend_on_what_is_predicted_beside_it():
    files = [Path(f"photographs/{i}.png") for i in (0, 1, 3)]
    together = predict_files(find_models("stage2"), files).probability
    alone = [predict_files(find_models("stage2"), [file]).probability[0] for file in files]
    np.testing.assert_allclose(together, alone, atol=1e-6)


@pytest.mark.parametrize("card", [{"input": {"crop": "retina"}}, {}])
def test_a_file_is_cropped_as_its_model_says_and_gives_what_training_saw(card, tmp_path):
    y, x = np.mgrid[:150, :200]
    names = ["a.jpg", "b.jpg"]
    for i, name in enumerate(names):
        pixels = np.random.default_rng(i).integers(60, 250, (150, 200, 3)).astype("uint8")
        pixels[np.hypot(x - 70, y - 80) > 50 + 10 * i] = 0
        Image.fromarray(pixels).save(tmp_path / name, quality=95)
    index = pd.DataFrame({"path": names, "image": content_ids(tmp_path, names)})
    seen = {}
    for crop in ("none", "retina"):
        files = tmp_path / f"{crop}.npy", tmp_path / f"{crop}.csv"
        write_pixels(index, tmp_path, *files, size=SIZE, max_megapixels=1, drop_unreadable=False, crop=crop)
        rows = pd.read_csv(files[1])["path"]
        seen[crop] = dict(zip(rows, np.load(files[0]), strict=True))
    save_model(tiny_network(), tmp_path / "one.keras", card)
    one = load_classifier(tmp_path / "one.keras")
    crop, other = ("retina", "none") if card else ("none", "retina")
    found = predict_files([one], [tmp_path / name for name in names]).log_odds
    np.testing.assert_array_equal(found, one.log_odds(np.stack([seen[crop][name] for name in names])))
    assert (found != one.log_odds(np.stack([seen[other][name] for name in names]))).all()


def test_a_crop_that_is_not_known_is_refused(tmp_path):
    save_model(tiny_network(), tmp_path / "one.keras", {"input": {"crop": "macula"}})
    with pytest.raises(WeightsError, match="cropped to macula"):
        load_classifier(tmp_path / "one.keras")
