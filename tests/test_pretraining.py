"""Pretraining on rendered eyes: their measures, resuming with the loss of at most one epoch, and the small file."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import Project
from small import efficientnet, images, tiny_network

from glaucoma.base.errors import WeightsError
from glaucoma.base.files import read_csv, write_json
from glaucoma.base.paths import pretrain_files
from glaucoma.model import backbones as bundled
from glaucoma.model.backbones import build_backbone, read_half, write_half
from glaucoma.synthetic.anatomy import draw_eyes
from glaucoma.synthetic.eyes import TARGETS, measures, write_eyes
from glaucoma.synthetic.render import render_eye

TINY = {
    "pretrain": {"backbones": [], "images": 60, "image_size": 64, "lr": 0.001, "batch_size": 8, "epochs": 4},
}


def test_the_box_holds_the_disc_which_is_brighter_than_what_lies_around_it():
    for eye in draw_eyes(np.random.default_rng(3), "abnormal", 12):
        box = measures(eye)
        size = 96
        picture = render_eye(eye, size).astype(float).mean(axis=2)
        left, top, right, bottom = (round(size * box[f"disc_{side}"]) for side in ("left", "top", "right", "bottom"))
        assert 0 < left < right < size
        assert 0 < top < bottom < size
        # illumination is uneven, so each disc is compared with its surroundings
        around = picture[max(top - 8, 0) : bottom + 8, max(left - 8, 0) : right + 8]
        inside = picture[top:bottom, left:right]
        assert inside.mean() > (around.sum() - inside.sum()) / (around.size - inside.size)


def test_a_notch_is_told_by_the_half_of_the_rim_that_it_lies_in():
    eyes = draw_eyes(np.random.default_rng(5), "abnormal", 40)
    notched = [(eye, measures(eye)) for eye in eyes if eye.rim.notch is not None]
    assert len(notched) > 5
    for eye, found in notched:
        below = np.sin(eye.rim.notch.angle) > 0
        assert (found["notch_inferior"], found["notch_superior"]) == (float(below), float(not below))
        assert found["rim_inferior" if below else "rim_superior"] < 0.2
    for eye in draw_eyes(np.random.default_rng(5), "normal", 10):
        assert measures(eye)["notch_inferior"] == measures(eye)["notch_superior"] == 0


def test_eyes_depend_on_the_seed_alone_and_mix_both_classes(tmp_path: Path):
    written = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        write_eyes(tmp_path / f"{name}.npy", tmp_path / f"{name}.csv", images=10, size=64, seed=seed)
        written.append((np.load(tmp_path / f"{name}.npy"), read_csv(tmp_path / f"{name}.csv")))
    (one, table), (again, same), (other, _) = written
    assert one.shape == (10, 64, 64, 3)
    assert one.dtype == np.uint8
    assert list(table) == list(TARGETS)
    np.testing.assert_array_equal(one, again)
    assert table.equals(same)
    assert (one != other).any()
    assert len({picture.tobytes() for picture in one}) == 10
    assert table["cdr_vertical"].between(0.2, 1).all()
    assert table["cdr_vertical"].std() > 0.1


def test_half_precision_predicts_nearly_the_same(tmp_path: Path):
    network, pixels = efficientnet(), images(6)[0]
    before, weights = network.predict(pixels, verbose=0), network.get_weights()
    write_half(network, tmp_path / "half.npz", {})
    try:
        read_half(network, tmp_path / "half.npz")
        after = network.predict(pixels, verbose=0)
    finally:
        network.set_weights(weights)
    np.testing.assert_allclose(after, before, atol=0.02)
    assert (tmp_path / "half.npz").stat().st_size < 10e6


@pytest.mark.parametrize("damage", [lambda data: data[:2000], lambda data: b"no archive", lambda data: b""])
def test_a_damaged_small_file_is_a_sentence(tmp_path: Path, damage):
    write_half(tiny_network(), tmp_path / "half.npz", {})
    (tmp_path / "half.npz").write_bytes(damage((tmp_path / "half.npz").read_bytes()))
    with pytest.raises(WeightsError, match=r"half\.npz does not fit"):
        read_half(tiny_network(), tmp_path / "half.npz")


def test_what_is_shipped_is_taken_by_its_own_backbone_and_only_as_its_recipe_names_it(tmp_path: Path, monkeypatch):
    file = tmp_path / "efficientnetb0_eyes.npz"
    monkeypatch.setattr(bundled, "BUNDLED", file)
    with pytest.raises(WeightsError, match="no weights are shipped with this version"):
        build_backbone("EfficientNetB0", 32, "bundled")
    with pytest.raises(WeightsError, match="no weights are shipped for MobileNetV3Small"):
        build_backbone("MobileNetV3Small", 32, "bundled")
    source = build_backbone("EfficientNetB0", 32, "none")
    write_half(source, file, {"backbone": "EfficientNetB0"})
    taken = build_backbone("EfficientNetB0", 32, "bundled")
    for ours, theirs in zip(taken.get_weights(), source.get_weights(), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-6)
    write_json(file.with_suffix(".json"), {"sha256": "0" * 64})
    with pytest.raises(WeightsError, match="is not the file that efficientnetb0_eyes"):
        build_backbone("EfficientNetB0", 32, "bundled")


def test_dvc_pretrains_only_the_backbones_that_are_named(bare: Project):
    assert "pretrain" not in bare.dvc("stage", "list", "--all", "--name-only").stdout
    bare.set({"pretrain.backbones": ["MobileNetV3Small"]})
    assert "pretrain.py --backbone MobileNetV3Small" in bare.dvc("repro", "--dry", "pretrain/dvc.yaml").stdout


@pytest.mark.slow  # trains three times
def test_a_pretraining_that_is_killed_goes_on_at_its_epoch_and_ends_the_same(bare: Project, tmp_path: Path):
    bare.set(TINY)
    undisturbed = bare.copy(tmp_path / "undisturbed")
    process = bare.start("python", "stages/pretrain.py", "--backbone", "MobileNetV3Small")
    while not list((bare / ".state/pretrain").glob("*/epoch0002.weights.h5")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()

    for project in (bare, undisturbed):
        project.script("pretrain", "--backbone", "MobileNetV3Small")

    files = [file for kind, file in pretrain_files("MobileNetV3Small").items() if kind != "timing"]
    for file in [*files, files[0].with_suffix(".json")]:
        assert (bare / str(file)).read_bytes() == (undisturbed / str(file)).read_bytes(), file
    assert len(read_csv(bare / "reports/pretrain/MobileNetV3Small.csv")) == 4
