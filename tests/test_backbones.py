import dataclasses
import hashlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import small

from glaucoma.base.backbone_table import BACKBONES, nearest
from glaucoma.base.errors import ParamsError, WeightsError
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import cut_last
from glaucoma.model.network import build_network
from glaucoma.model.runtime import keras

NAME = "EfficientNetB0"
SUFFIXES = [".keras", ".weights.h5", ".h5"]
PIXELS = small.images(4)[0].astype("float32")
SHARED = Path(__file__).parents[2] / "shared" / "weights" / "efficientnetb0_natural.h5"


def scramble(model: keras.Model) -> None:
    """Give every variable a different value, including the normalisation statistics."""
    random = np.random.default_rng(0)
    values = [random.normal(0.5, 0.1, weights.shape) for weights in model.get_weights()]
    model.set_weights([np.abs(each) * 0.2 + 0.01 for each in values])
    for layer in model.layers:
        if isinstance(layer, keras.layers.Normalization):
            layer.set_weights([np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225]) ** 2, np.array(0)])
            layer.finalize_state()


@pytest.fixture(autouse=True)
def small_row(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table row with a small backbone, for tests that do not depend on the architecture."""
    monkeypatch.setattr(keras.applications, "Tiny", lambda **_: small.tiny_backbone(), raising=False)
    monkeypatch.setitem(BACKBONES, "Tiny", BACKBONES[NAME])


@pytest.fixture(scope="module")
def plain() -> keras.Model:
    """A backbone of the small row, with weights that no initializer produces."""
    backbone = small.tiny_backbone()
    scramble(backbone)
    return backbone


@pytest.fixture(scope="module")
def imagenet(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    """Keras' own graph for its own weights, with an extra Rescaling; and KERAS_HOME with its legacy file."""
    efficientnet = pytest.MonkeyPatch()
    home = tmp_path_factory.mktemp("keras")
    file = home / "models" / "efficientnetb0_notop.h5"
    file.parent.mkdir()
    source = keras.applications.EfficientNetB0(include_top=False, weights=None, input_shape=(32, 32, 3))
    scramble(source)
    legacy(source, file)
    try:
        accept(efficientnet, home, file)
        graph = keras.applications.EfficientNetB0(include_top=False, weights="imagenet", input_shape=(32, 32, 3))
    finally:
        efficientnet.undo()
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in graph.layers) == 2
    return graph, file


def legacy(model: keras.Model, file: Path) -> None:
    """Write weights in the format of Keras 2, which keras.applications offers for download."""
    whole = file.with_name("keras3.h5")
    model.save(whole)
    with h5py.File(whole) as saved, h5py.File(file, "w") as written:
        written.attrs.update(saved["model_weights"].attrs)
        for name, group in saved["model_weights"].items():
            if not name.startswith("rescaling"):
                saved.copy(group, written, name)
        kept = [name for name in saved["model_weights"].attrs["layer_names"] if not str(name).startswith("rescaling")]
        written.attrs["layer_names"] = kept
    whole.unlink()


def accept(patch: pytest.MonkeyPatch, home: Path, file: Path) -> None:
    """Make Keras and the project accept the file in the cache as the published one."""
    import keras.src.applications.efficientnet as module
    import keras.src.backend.config as config

    digest = hashlib.md5(file.read_bytes()).hexdigest()
    patch.setenv("KERAS_HOME", str(home))
    patch.setattr(config, "_KERAS_DIR", str(home))
    patch.setitem(module.WEIGHTS_HASHES, "b0", ("", digest))
    patch.setitem(BACKBONES, NAME, dataclasses.replace(BACKBONES[NAME], imagenet_hash=digest))


def outputs(model: keras.Model) -> np.ndarray:
    return keras.ops.convert_to_numpy(model(PIXELS, training=False))


def agree(ours: keras.Model, theirs: keras.Model) -> None:
    expected = outputs(theirs)
    assert np.isfinite(expected).all()
    assert np.ptp(expected) > 0
    np.testing.assert_allclose(outputs(ours), expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


MODULES = {
    "EfficientNetV2": "efficientnet_v2",
    "EfficientNetB": "efficientnet",
    "ResNet50V2": "resnet_v2",
    "DenseNet": "densenet",
    "MobileNetV3": "mobilenet_v3",
    "ConvNeXt": "convnext",
    "Xception": "xception",
}


def rows(*quick: str) -> list:
    """All rows; those that are not quick run only with `make test-slow`."""
    return [pytest.param(name, marks=[] if name in quick else pytest.mark.slow) for name in BACKBONES]


def keras_own(*quick: str) -> list:
    """The rows that `keras.applications` builds."""
    return [each for each in rows(*quick) if not BACKBONES[each.values[0]].package]


def builders(*quick: str) -> list:
    """A row of each of Keras' builders; the others of a family differ in widths and depths alone."""
    names = ("EfficientNetB7", "EfficientNetV2B0", "EfficientNetV2S", "ResNet50V2", "DenseNet121", "MobileNetV3Small")
    return [each for each in rows(*quick) if each.values[0] in (*names, "ConvNeXtTiny", "Xception", *quick)]


@pytest.mark.parametrize("name", keras_own("MobileNetV3Small", "ResNet50V2"))
def test_a_row_says_what_keras_own_builder_does(name, monkeypatch):
    """The file it downloads, the smallest image it accepts, the blocks it builds."""
    row, build = BACKBONES[name], getattr(keras.applications, name)
    asked = []

    def get_file(fname, origin, **options):
        asked.append((origin, options["file_hash"]))
        raise InterruptedError

    monkeypatch.setattr(keras.src.utils.file_utils, "get_file", get_file)
    with pytest.raises(InterruptedError):
        build(include_top=False, weights="imagenet", input_shape=(row.smallest_size, row.smallest_size, 3))
    assert asked == [(row.imagenet_url, row.imagenet_hash)]
    with pytest.raises(ValueError, match=r"[Ii]nput size must be at least"):
        build(include_top=False, weights=None, input_shape=(row.smallest_size - 1, row.smallest_size - 1, 3))

    layers = [layer.name for layer in build_backbone(name, row.smallest_size, "none").layers]
    starts = [next(i for i, n in enumerate(layers) if n == b or n.startswith(f"{b}_")) for b in row.blocks]
    assert starts == sorted(starts)
    assert len(set(starts)) == len(row.blocks)


def test_efficientnets_further_rescaling_is_keras_own():
    import keras.src.applications.efficientnet as module

    scales = {row.imagenet_scale for name, row in BACKBONES.items() if name.startswith("EfficientNetB")}
    assert [*scales] == [pytest.approx(tuple(std**-0.5 for std in module.IMAGENET_STDDEV_RGB))]


@pytest.mark.parametrize("name", builders("MobileNetV3Small"))
@pytest.mark.slow
def test_pixels_are_prepared_within_the_saved_network_as_keras_prepares_them_outside(name, monkeypatch, tmp_path):
    """From Keras' cache, a file in Keras' own format; and a reload predicts exactly as before."""
    row, size = BACKBONES[name], BACKBONES[name].smallest_size
    module = next(getattr(keras.applications, module) for start, module in MODULES.items() if name.startswith(start))
    theirs = getattr(keras.applications, name)(include_top=False, weights=None, input_shape=(size, size, 3))
    file = tmp_path / "models" / row.imagenet_url.rpartition("/")[2]
    file.parent.mkdir()
    legacy(theirs, file)
    kind = "md5" if len(row.imagenet_hash) == 32 else "sha256"
    digest = hashlib.new(kind, file.read_bytes()).hexdigest()
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    monkeypatch.setitem(BACKBONES, name, dataclasses.replace(row, imagenet_hash=digest, imagenet_scale=None))
    ours = build_backbone(name, size, "imagenet")
    pixels = small.images(4, size)[0].astype("float32")
    found = ours.predict(pixels, verbose=0)
    expected = theirs.predict(module.preprocess_input(pixels.copy()), verbose=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())

    save_model(ours, tmp_path / "backbone.keras", {})
    again = load_model(tmp_path / "backbone.keras")
    np.testing.assert_array_equal(again.predict(pixels, verbose=0), found)
    small.same_arrays(build_backbone(name, size, str(tmp_path / "backbone.keras")).get_weights(), ours.get_weights())


@pytest.mark.parametrize("name", builders("MobileNetV3Small", "EfficientNetLite0"))
def test_a_blocks_name_unfreezes_from_that_block_on(name):
    row = BACKBONES[name]
    block = row.blocks[-2]
    network = build_network(build_backbone(name, row.smallest_size, "none"), dropout=0.2, seed=1)
    cut = cut_last(network, block)
    layers = [layer.name for layer in network.layers]
    first = next(i for i, layer in enumerate(layers) if layer == block or layer.startswith(f"{block}_"))
    assert not any(layer.trainable for layer in network.layers[:first])
    trained = {layer.name for layer in network.layers if layer.trainable_variables}
    assert trained >= {"head_bn", "head_softmax"}
    assert any(layer.startswith(f"{block}_") for layer in trained)
    same = cut_last(network, layers.index("head_pool") - first)
    assert [v.path for v in same.tail.trainable_variables] == [v.path for v in cut.tail.trainable_variables]


def test_a_block_that_the_backbone_lacks_is_refused():
    with pytest.raises(ParamsError, match="block9z"):
        cut_last(small.tiny_network(), "block9z")


def test_a_backbone_that_does_not_exist_is_refused_with_the_nearest_first():
    with pytest.raises(ParamsError) as caught:
        build_backbone("efficientnet-b7", 64, "none")
    assert caught.value.remedy.startswith("choose one of: EfficientNetB7, ")
    assert set(nearest("x")) == set(BACKBONES)


def test_images_that_a_backbone_cannot_take_are_refused_with_the_smallest():
    with pytest.raises(ParamsError, match="70 pixels") as caught:
        build_backbone("Xception", 70, "none")
    assert "71 or more" in caught.value.remedy


def test_weights_of_another_backbone_are_told_by_name(tmp_path):
    other = keras.applications.MobileNetV3Small(include_top=False, weights=None, input_shape=(32, 32, 3))
    legacy(other, tmp_path / "some.h5")
    refused(tmp_path / "some.h5", "it looks like MobileNetV3Small", name="MobileNetV3Large")


def test_weights_with_a_layer_of_classes_are_told_so(tmp_path):
    whole = keras.applications.MobileNetV3Small(weights=None, classes=7, input_shape=(32, 32, 3))
    legacy(whole, tmp_path / "top.h5")
    refused(tmp_path / "top.h5", name="MobileNetV3Small")


def test_imagenet_from_keras_cache_computes_what_keras_own_graph_does(imagenet, monkeypatch):
    graph, file = imagenet
    accept(monkeypatch, file.parents[1], file)
    ours = build_backbone(NAME, 32, "imagenet")
    assert sum(isinstance(layer, keras.layers.Rescaling) for layer in ours.layers) == 1
    agree(ours, graph)


def test_keras_own_file_is_known_by_its_content_wherever_it_lies(imagenet, monkeypatch, tmp_path):
    graph, file = imagenet
    accept(monkeypatch, tmp_path, file)
    copy = tmp_path / "weights.h5"
    copy.write_bytes(file.read_bytes())
    agree(build_backbone(NAME, 32, str(copy)), graph)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_saved_from_keras_own_graph_computes_what_that_graph_does(suffix, imagenet, tmp_path):
    graph, _ = imagenet
    path = tmp_path / f"saved{suffix}"
    graph.save_weights(path) if suffix == ".weights.h5" else graph.save(path)
    agree(build_backbone(NAME, 32, str(path)), graph)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5", "legacy.h5"])
def test_weights_from_a_file_give_the_outputs_of_the_model_that_was_saved(suffix, plain, tmp_path):
    path = tmp_path / f"saved{suffix}"
    if suffix == "legacy.h5":
        legacy(plain, path)
    else:
        plain.save_weights(path) if suffix == ".weights.h5" else plain.save(path)
    ours = build_backbone("Tiny", 32, str(path))
    small.same_arrays(ours.get_weights(), plain.get_weights())
    np.testing.assert_array_equal(outputs(ours), outputs(plain))


@pytest.mark.skipif(not SHARED.is_file(), reason="the weights that are tried with lie outside the project")
def test_weights_of_another_image_size_and_maker_fit():
    ours = build_backbone(NAME, 96, str(SHARED))
    theirs = keras.applications.EfficientNetB0(include_top=False, weights=str(SHARED), input_shape=(96, 96, 3))
    small.same_arrays(ours.get_weights(), theirs.get_weights())


def test_without_a_file_weights_are_random_from_the_seed():
    def built(seed: int) -> np.ndarray:
        keras.utils.set_random_seed(seed)
        return build_backbone("Tiny", 32, "none").get_layer("a_conv").get_weights()[0]

    np.testing.assert_array_equal(built(1), built(1))
    assert not np.array_equal(built(1), built(2))


def refused(path: Path | str, *words: str, name: str = "Tiny") -> None:
    with pytest.raises(WeightsError) as caught:
        build_backbone(name, 32, str(path))
    for word in ("backbone.weights", str(path), *words):
        assert word in caught.value.found
    assert f"set backbone.weights to a file of {name}" in caught.value.remedy
    assert "\n" not in caught.value.found


def test_weights_that_are_not_there_are_named(tmp_path, monkeypatch):
    refused(tmp_path / "weights.h5", "does not exist")
    refused(tmp_path, "is a folder")
    refused("imagnet", "does not exist")  # a typo counts as a path
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(WeightsError, match=str(tmp_path / "weights.h5")):
        build_backbone("Tiny", 32, "~/weights.h5")


@pytest.mark.parametrize("suffix", [".h5", ".weights.h5", ".hdf5", ".keras", ".bin"])
def test_a_file_that_holds_no_weights_is_refused(suffix, tmp_path):
    for number, content in enumerate((b"", b"<html>404 Not Found</html>", b"\x89HDF\r\n\x1a\n" + bytes(300))):
        path = tmp_path / f"file{number}{suffix}"
        path.write_bytes(content)
        refused(path)
    with h5py.File(tmp_path / f"hollow{suffix}", "w") as file:
        file["measurements"] = np.zeros(3)
    refused(tmp_path / f"hollow{suffix}")


def test_weights_cut_short_are_refused(plain, tmp_path):
    for name in ("whole.h5", "whole.weights.h5", "whole.keras"):
        path = tmp_path / name
        if name == "whole.h5":
            legacy(plain, path)
        else:
            plain.save_weights(path) if name == "whole.weights.h5" else plain.save(path)
        for share in (0.01, 0.5, 0.99):
            cut = tmp_path / f"cut{share}{name}"
            cut.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
            refused(cut)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5", "legacy.h5"])
def test_weights_of_another_architecture_are_refused(suffix, tmp_path):
    other = keras.Sequential([keras.Input((32, 32, 3)), keras.layers.Conv2D(6, 3, name="a_conv")])
    path = tmp_path / f"saved{suffix}"
    if suffix == "legacy.h5":
        legacy(other, path)
    else:
        other.save_weights(path) if suffix == ".weights.h5" else other.save(path)
    refused(path, "does not fit Tiny")


def test_a_network_with_a_head_is_no_backbone(tmp_path):
    small.tiny_network().save(tmp_path / "network.keras")
    refused(tmp_path / "network.keras", "does not fit", "classification layer")


def test_weights_that_are_no_numbers_are_refused(plain, tmp_path):
    spoilt = keras.models.clone_model(plain)
    spoilt.set_weights(plain.get_weights())
    layer = spoilt.get_layer("c_conv")
    layer.set_weights([np.full(w.shape, np.nan, w.dtype) for w in layer.get_weights()])
    spoilt.save(tmp_path / "spoilt.keras")
    refused(tmp_path / "spoilt.keras", "no finite numbers")


def test_imagenet_without_internet_says_which_file_to_put_where(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "keras home"))
    unreachable = dataclasses.replace(BACKBONES["Tiny"], imagenet_url="http://127.0.0.1:9/efficientnetb0_notop.h5")
    monkeypatch.setitem(BACKBONES, "Tiny", unreachable)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(WeightsError) as caught:
        build_backbone("Tiny", 32, "imagenet")
    assert "http://127.0.0.1:9/efficientnetb0_notop.h5 could not be fetched" in caught.value.found
    assert str(tmp_path / "keras home" / "models" / "efficientnetb0_notop.h5") in caught.value.remedy
    assert "EfficientNetLite0, whose ImageNet weights were installed with this" in caught.value.remedy
