"""Saved networks predict exactly the same after loading: after each stage, for each kind of weights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import small
from test_backbones import NAME, PIXELS, accept, imagenet  # noqa: F401 - a fixture

from glaucoma.base.params import Trial
from glaucoma.model.artifacts import load_model, save_model
from glaucoma.model.backbones import build_backbone
from glaucoma.model.cut import cut_all, cut_head, cut_last
from glaucoma.model.network import build_network
from glaucoma.model.runtime import keras
from glaucoma.train.search import Searcher

TRIAL = Trial(lr=0.01, optimizer="sgd", batch_size=20, epochs=1)  # in two batches, with little to trace
STAGES = {"stage1": cut_head, "stage2": lambda network: cut_last(network, 4), "stage3": cut_all}


def predicted(network: keras.Model) -> np.ndarray:
    return network.predict(PIXELS, verbose=0)


def kept(network: keras.Model, path: Path) -> keras.Model:
    """The network after saving and loading."""
    save_model(network, path, {})
    loaded = load_model(path)
    np.testing.assert_array_equal(predicted(loaded), predicted(network))
    return loaded


@pytest.mark.slow  # whole EfficientNets
@pytest.mark.parametrize("kind", ["none", "imagenet", ".h5", ".weights.h5", ".keras"])
def test_a_network_with_each_kind_of_weights_predicts_the_same_once_it_is_loaded(
    kind: str,
    imagenet: tuple[keras.Model, Path],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
):
    graph, file = imagenet
    accept(monkeypatch, file.parents[1], file)
    weights = kind
    if kind.startswith("."):
        weights = str(tmp_path / f"weights{kind}")
        graph.save_weights(weights) if kind == ".weights.h5" else graph.save(weights)
    backbone = kept(build_backbone(NAME, 32, weights), tmp_path / "backbone.keras")
    network = build_network(backbone, dropout=0.2, seed=1)
    kept(network, tmp_path / "network.keras")
    if kind != "none":
        np.testing.assert_allclose(backbone.predict(PIXELS, verbose=0), graph.predict(PIXELS, verbose=0), rtol=1e-3)


@pytest.mark.slow
def test_after_each_stage_a_network_predicts_the_same_once_it_is_loaded(tmp_path: Path):
    pixels, abnormal = small.images()
    network = build_network(small.tiny_backbone(), dropout=0.2, seed=1, blocks=3)  # the first is the report's head
    for stage, cut in STAGES.items():
        before = predicted(network)
        parts = small.splits(abnormal)
        searcher = Searcher(cut(network), pixels, parts, seed=1, state=tmp_path / "state", title=stage)
        finished = searcher.train([TRIAL])[TRIAL]
        searcher.take(finished)
        assert not np.array_equal(predicted(network), before)
        network = kept(network, tmp_path / f"{stage}.keras")
        test = network.predict(pixels[parts["test"].rows].astype("float32"), batch_size=20, verbose=0)
        np.testing.assert_allclose(test[:, 1], finished.probability["test"], rtol=1e-5)
