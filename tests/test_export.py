"""`glaucoma export`: exported files predict the same as Keras, and run without TensorFlow."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pandas as pd
import pytest
import small
from conftest import run_glaucoma as run
from PIL import Image, ImageOps
from trees import picture

from glaucoma.base.errors import WeightsError
from glaucoma.base.files import read_json, sha256_file
from glaucoma.model import formats
from glaucoma.model.artifacts import save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.model.network import build_network
from glaucoma.model.portable import Portable
from glaucoma.model.runtime import keras
from glaucoma.predict import conversion as export
from glaucoma.predict.conversion import export_model
from glaucoma.predict.heat import OCCLUSION, heat_of_photograph, heats
from glaucoma.predict.inference import load_classifier, predict_files

ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"tensorflow", "keras", "tf2onnx", "onnx", "torch", "jax"}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Absent())
from glaucoma.cli import main

main()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose preprocessing has constants, its export, and photographs."""
    top = tmp_path_factory.mktemp("export")
    inputs = keras.Input((small.SIZE, small.SIZE, 3))
    x = keras.layers.Normalization(mean=[90.0, 80.0, 70.0], variance=[900.0, 800.0, 700.0])(inputs)
    x = keras.layers.Conv2D(8, 3, strides=2, activation="swish")(x)
    network = build_network(keras.Model(inputs, x), dropout=0.2, seed=3)
    card = {"classes": ["normal", "abnormal"], "threshold": 0.5, "input": {"size": small.SIZE, "crop": "retina"}}
    save_model(network, top / "tiny.keras", card)
    (top / "eyes").mkdir()
    for i, image in enumerate(small.images(6, size=80)[0]):
        Image.fromarray(image).save(top / "eyes" / f"eye{i}.png")
    (top / "eyes" / "bad.png").write_text("a note")
    assert run("export", top / "tiny.keras", "--check", top / "eyes", "--threshold", 0.3) == 0
    return top


def test_the_graph_takes_raw_pixels_alone_and_says_what_its_outputs_mean(folder):
    model = onnx.load(folder / "tiny.onnx")
    assert [one.name for one in model.graph.input] == ["pixels"]
    card = Portable(folder / "tiny.onnx").card
    assert card["classes"] == ["normal", "abnormal"]
    assert (card["positive"], card["threshold"]) == ("abnormal", 0.3)
    assert card["input"] == {"size": small.SIZE, "crop": "retina", "channels": "RGB", "range": [0, 255]}


def test_a_program_that_keeps_to_the_sidecar_gets_the_same_answers(tmp_path, capsys):
    """From files, with Pillow alone: turned by Exif, squashed, antialiased. Other filters give other pixels."""
    save_model(small.tiny_network(), tmp_path / "one.keras", {"input": {"size": small.SIZE, "crop": "none"}})
    (tmp_path / "eyes").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    for seed in range(4):
        image = picture(seed, 400).resize((410, 300))
        image.save(tmp_path / "eyes" / f"{seed}.png", **({"exif": exif} if seed % 2 else {}))
    assert run("export", tmp_path / "one.keras", "--check", tmp_path / "eyes") == 0
    assert "prepared from the files as its sidecar says: within" in capsys.readouterr().out
    card = read_json(tmp_path / "one.onnx.json")
    steps = " ".join(card["preparation"])
    assert [word in steps for word in ("Exif", "whatever its aspect ratio", "Lanczos", "antialiased")] == [True] * 4
    assert Portable(tmp_path / "one.onnx").card["preparation"] == card["preparation"]
    files = sorted((tmp_path / "eyes").iterdir())

    def predicted(how: Image.Resampling) -> np.ndarray:
        upright = [ImageOps.exif_transpose(Image.open(file)).convert("RGB") for file in files]
        pixels = np.stack([np.asarray(image.resize((small.SIZE, small.SIZE), how)) for image in upright])
        return Portable(tmp_path / "one.onnx").log_odds(pixels, card["classes"])

    expected = predict_files([tmp_path / "one.onnx"], files).log_odds
    np.testing.assert_allclose(predicted(Image.Resampling.LANCZOS), expected, atol=1e-4)
    assert abs(predicted(Image.Resampling.NEAREST) - expected).max() > 1e-2


@pytest.mark.parametrize(
    "size", [(31, 90), *(pytest.param(each, marks=pytest.mark.slow) for each in ((410, 300), (32, 32)))]
)
def test_a_graph_that_resizes_takes_photographs_of_any_size(tmp_path, capsys, size):
    save_model(small.tiny_network(), tmp_path / "one.keras", {"input": {"size": small.SIZE, "crop": "none"}})
    (tmp_path / "eyes").mkdir()
    for seed in range(4):
        picture(seed, 400).resize([max(side, 32) for side in size]).save(tmp_path / "eyes" / f"{seed}.png")
    assert run("export", tmp_path / "one.keras", "--check", tmp_path / "eyes", "--resize") == 0
    assert "the graph squashes it" in " ".join(read_json(tmp_path / "one.onnx.json")["preparation"])
    files = sorted((tmp_path / "eyes").iterdir())
    graph = Portable(tmp_path / "one.onnx")
    alone = [graph.log_odds(np.asarray(Image.open(file))[None], ("normal", "abnormal"))[0] for file in files]
    for model in ("one.keras", "one.onnx"):
        np.testing.assert_allclose(alone, predict_files([tmp_path / model], files).log_odds, atol=3e-3)
    assert run("export", tmp_path / "one.keras", "--resize", "--format", "tflite") == 2
    assert "TFLite takes pictures of one size" in capsys.readouterr().err


def test_it_predicts_what_keras_predicts_where_tensorflow_is_absent(folder, capsys):
    eyes = sorted((folder / "eyes").glob("eye*.png"))
    words = ["predict", folder / "tiny.onnx", *eyes, "--format", "csv"]
    alone = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True)
    assert alone.returncode == 0, alone.stderr
    found = pd.read_csv(io.StringIO(alone.stdout))
    assert (found["threshold"] == 0.3).all()
    assert run("predict", folder / "tiny.keras", *eyes, "--format", "csv") == 0
    expected = pd.read_csv(io.StringIO(capsys.readouterr().out))["probability"]
    assert expected.std() > 0
    np.testing.assert_allclose(found["probability"], expected, atol=export.TOLERANCE)


@pytest.mark.slow
def test_it_is_explained_by_occlusion_where_tensorflow_is_absent(folder, tmp_path):
    eyes = sorted((folder / "eyes").glob("*.png"))
    words = ["predict", folder / "tiny.onnx", *eyes, "--no-quality", "--explain", tmp_path / "why"]
    alone = subprocess.run([sys.executable, "-c", ALONE, *words], capture_output=True, text=True)
    assert alone.returncode == 3, alone.stderr  # one file is a note
    assert f"6 overlays written to {tmp_path / 'why'}/" in alone.stderr
    assert [file.name for file in sorted((tmp_path / "why").iterdir())] == [f"{i + 2:04d}-eye{i}.png" for i in range(6)]
    one = load_classifier(folder / "tiny.onnx")
    method, (explain,) = heats([one])
    assert method == OCCLUSION
    found = heat_of_photograph([one], [explain], eyes[1])
    assert found.heat.any()
    assert found.probability == pytest.approx(predict_files([one], [eyes[1]]).probability[0])


def test_a_file_that_differs_is_not_written(folder, tmp_path, monkeypatch):
    settle = formats.settle

    def spoil(library, path, card):
        settle(library, path, card)
        model = onnx.load(path)
        for one in model.graph.initializer:
            values = onnx.numpy_helper.to_array(one)
            if values.dtype == np.float32:
                one.CopyFrom(onnx.numpy_helper.from_array(values * np.float32(1.1), one.name))
        onnx.save(model, path)

    monkeypatch.setattr(formats, "settle", spoil)
    with pytest.raises(WeightsError, match="differs from Keras by"):
        export_model(folder / "tiny.keras", tmp_path / "tiny.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["tiny.keras", "--format", "pickle"], 2, "onnx"),
        (["tiny.keras", "--format", "saved_model", "--out", "way.saved_model"], 2, "in the way"),
        (["tiny.keras", "--threshold", "2"], 2, "--threshold"),
        (["tiny.keras", "--check", "none"], 3, "none"),
        (["tiny.onnx"], 5, "already"),
    ],
)
def test_what_cannot_be_exported_is_refused_in_a_sentence(folder, monkeypatch, capsys, words, code, said):
    monkeypatch.chdir(folder)
    (folder / "none").mkdir(exist_ok=True)
    (folder / "way.saved_model").mkdir(exist_ok=True)
    assert run("export", *words) == code
    assert said in capsys.readouterr().err


def test_a_damaged_or_foreign_onnx_file_is_refused_in_a_sentence(folder, tmp_path, capsys):
    whole = (folder / "tiny.onnx").read_bytes()
    foreign = onnx.load_from_string(whole)
    del foreign.metadata_props[:]
    for name, content in {"cut": whole[: len(whole) // 2], "foreign": foreign.SerializeToString()}.items():
        (tmp_path / f"{name}.onnx").write_bytes(content)
        assert run("predict", tmp_path / f"{name}.onnx", folder / "eyes" / "eye0.png") == 5
        assert "glaucoma export" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["saved_model", "tflite"])
def test_tensorflows_formats_predict_what_keras_predicts_and_say_what_they_are(folder, tmp_path, form, capsys):
    out = tmp_path / f"tiny.{form}"
    for _ in range(2):  # the second replaces the first
        assert run("export", folder / "tiny.keras", "--format", form, "--out", out, "--check", folder / "eyes") == 0
    assert "6 images" in capsys.readouterr().out
    card = read_json(out / "glaucoma.json" if out.is_dir() else tmp_path / "tiny.tflite.json")
    assert card["classes"] == ["normal", "abnormal"]
    assert card["keras_sha256"] == sha256_file(folder / "tiny.keras")
    assert card["input"]["crop"] == "retina"
    hashes = card["sha256"] if out.is_dir() else {"": card["sha256"]}
    assert all(sha256_file(out / name if name else out) == digest for name, digest in hashes.items())
    assert not [file for file in tmp_path.iterdir() if file.name.startswith(".")]
    pixels = small.images(5)[0].astype("float32")
    expected = keras.saving.load_model(folder / "tiny.keras").predict(pixels, verbose=0)
    found = formats.open_exported(out, form, (None, small.SIZE, small.SIZE, 3))(pixels)
    np.testing.assert_allclose(found, expected, atol=export.TOLERANCE)
    assert run("predict", out, folder / "eyes") == 5
    assert "prediction reads .keras and .onnx" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["onnx", pytest.param("tflite", marks=pytest.mark.slow)])
def test_the_same_model_gives_the_same_file(folder, tmp_path, form):
    both = [tmp_path / f"{name}.{form}" for name in ("one", "other")]
    for out in both:
        export_model(folder / "tiny.keras", out, form=form)
    assert both[0].read_bytes() == both[1].read_bytes()


def test_an_onnx_file_that_its_sidecar_does_not_describe_is_refused(folder, tmp_path, capsys):
    for name in ("tiny.onnx", "tiny.onnx.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    other = onnx.load(tmp_path / "tiny.onnx")
    onnx.helper.set_model_props(other, {"classes": '["abnormal", "normal"]'})
    onnx.save(other, tmp_path / "tiny.onnx")
    assert run("predict", tmp_path / "tiny.onnx", folder / "eyes") == 5
    assert "is not the model that" in capsys.readouterr().err


@pytest.mark.slow
def test_efficientnet_at_full_size_is_exported(tmp_path):
    network = build_network(build_backbone("EfficientNetB0", 224, "none"), dropout=0.2, seed=1)
    save_model(network, tmp_path / "b0.keras", {})
    assert export_model(tmp_path / "b0.keras", tmp_path / "b0.onnx").difference <= export.TOLERANCE
