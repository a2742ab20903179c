import numpy as np
import pytest
import small

from glaucoma.model.cut import Cut, before_statistics, cut_all, cut_head, cut_last, through_trunk
from glaucoma.model.network import HEAD, build_network, values
from glaucoma.model.runtime import keras
from glaucoma.train.trainer import Trainer

PIXELS, ABNORMAL = small.images()
SPLITS = small.splits(ABNORMAL)
EIGHT = PIXELS[:8].astype("float32")


def in_two_steps(cut: Cut) -> np.ndarray:
    crossing = cut.trunk.predict(EIGHT, verbose=0)
    return cut.tail.predict(crossing if isinstance(crossing, np.ndarray) else tuple(crossing), verbose=0)


def boundary(cut: Cut) -> list[str]:
    return [tensor._keras_history.operation.name for tensor in cut.trunk.outputs]


@pytest.fixture(scope="module")
def whole() -> np.ndarray:
    return small.efficientnet().predict(EIGHT, verbose=0)


@pytest.mark.parametrize(
    ("layers", "crossing"),
    [
        (0, ["head_pool"]),
        pytest.param(3, ["block7a_project_bn"], marks=pytest.mark.slow),
        (20, ["block6d_se_excite", "block6c_add"]),
        pytest.param(100, ["block5b_bn", "block5a_project_bn"], marks=pytest.mark.slow),
    ],
)
def test_trunk_and_tail_together_are_the_network_bit_for_bit(layers, crossing, whole):
    network = small.efficientnet()
    cut = cut_last(network, layers) if layers else cut_head(network)
    assert boundary(cut) == crossing
    np.testing.assert_array_equal(in_two_steps(cut), whole)
    assert cut.tail.count_params() + cut.trunk.count_params() == network.count_params()


def test_stage_2_trains_the_last_20_layers_but_batch_normalisation_and_the_head():
    network = small.efficientnet()
    cut = cut_last(network, 20)
    names = [layer.name for layer in network.layers]
    end = names.index(HEAD[0])
    norms = {layer.name for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)}
    allowed = {*names[end - 20 : end], *HEAD} - (norms - set(HEAD))
    holding = {layer.name for layer in network.layers if layer.weights}
    trained = {variable.path.split("/")[0] for variable in network.trainable_variables}
    assert trained == allowed & holding
    assert [v.path for v in cut.tail.trainable_variables] == [v.path for v in network.trainable_variables]
    assert not cut.trunk.trainable_variables
    assert {"top_conv", "block7a_dwconv", "head_bn", "head_softmax"} < trained
    assert not {"top_bn", "block7a_bn", "block6d_se_expand"} & trained


def test_stage_1_trains_the_head_alone():
    cut = cut_head(small.efficientnet())
    trained = [variable.path for variable in cut.network.trainable_variables]
    assert trained == ["head_bn/gamma", "head_bn/beta", "head_softmax/kernel", "head_softmax/bias"]


def test_a_network_can_be_cut_again_elsewhere():
    network = small.efficientnet()
    total = len([v for layer in network.layers for v in layer._trainable_variables])
    cut_last(network, 20)
    cut_head(network)
    assert boundary(cut_last(network, 20)) == ["block6d_se_excite", "block6c_add"]
    assert len(cut_all(network).tail.trainable_variables) == total


def test_every_layer_may_be_trained_but_the_backbones_batch_normalisation():
    network = small.efficientnet()
    every = {variable.path for variable in cut_all(network).network.trainable_variables}
    kept = {variable.path for variable in cut_all(network, "frozen").network.trainable_variables}
    assert {path.rpartition("/")[2] for path in every - kept} == {"gamma", "beta"}
    assert kept < every
    assert {"stem_conv/kernel", "head_bn/gamma", "head_softmax/kernel"} <= kept


def test_frozen_batch_normalisation_keeps_its_bits_in_training():
    network = cut_all(small.efficientnet(), "frozen").network
    backbone = [layer for layer in network.layers if "bn" in layer.name and not layer.name.startswith("head")]
    before, start = [layer.get_weights() for layer in backbone], network.get_weights()
    network.compile(optimizer="adam", loss="binary_crossentropy", run_eagerly=True)  # one step, tracing takes longer
    pixels = np.random.default_rng(0).integers(0, 256, (4, *network.input_shape[1:])).astype("float32")
    network.fit(pixels, np.eye(2)[[0, 1, 0, 1]], epochs=1, verbose=0)
    for one, layer in zip(before, backbone, strict=True):
        np.testing.assert_equal(layer.get_weights(), one)
    network.set_weights(start)  # other tests use it too


@pytest.mark.slow
def test_images_pass_once_through_the_part_before_trained_batch_normalisation():
    network = cut_all(small.efficientnet(), batch_norm="frozen").network
    front, rear = before_statistics(network)
    expected = network.predict(EIGHT, verbose=0)
    np.testing.assert_allclose(rear.predict(front.predict(EIGHT, verbose=0), verbose=0), expected, rtol=1e-5)
    assert [layer.name for layer in rear.layers[1:]] == list(HEAD[1:])

    cut = cut_last(small.efficientnet(), 20)
    front, rear = before_statistics(cut.tail)
    assert len(front.inputs) == len(cut.tail.inputs)
    assert [layer.name for layer in rear.layers[1:]] == list(HEAD[1:])

    for cut in (lambda network: cut_all(network, batch_norm="trained"), cut_head):
        model = cut(small.efficientnet()).tail
        assert before_statistics(model) == (None, model)


@pytest.mark.parametrize("layers", [236, 237, 238, 10_000])
def test_unfreezing_as_many_layers_as_there_are_freezes_only_batch_statistics(layers):
    network = small.efficientnet()
    cut = cut_last(network, layers)
    if cut.trunk is None:
        assert cut.tail is network
    else:
        assert not cut.trunk.weights
    kinds = {type(layer).__name__ for layer in network.layers if layer.weights and not layer.trainable}
    assert kinds <= {"BatchNormalization", "Normalization"}
    assert network.get_layer("head_bn").trainable
    assert not network.get_layer("stem_bn").trainable


@pytest.mark.slow
def test_the_cut_is_found_from_the_graph_of_any_backbone():
    keras.utils.set_random_seed(2)
    backbone = keras.applications.MobileNetV3Small(
        include_top=False, weights=None, input_shape=(small.SIZE, small.SIZE, 3)
    )
    network = build_network(backbone, dropout=0.2, seed=2)
    cut = cut_last(network, 12)
    assert len(cut.trunk.outputs) > 1  # within a block with a shortcut
    np.testing.assert_array_equal(in_two_steps(cut), network.predict(EIGHT, verbose=0))


def frozen_part(network: keras.Model) -> dict[str, list[np.ndarray]]:
    return {
        layer.name: [w for w in layer.get_weights() if w.dtype == np.float32]
        for layer in network.layers
        if not layer.trainable
    }


@pytest.mark.parametrize("layers", [0, 4])
def test_training_leaves_the_trunk_and_all_frozen_batch_statistics_as_they_were(layers):
    """`through_trunk` and the tail on stored activations give the same weights and scores, bit for bit."""
    ended = []
    for stored in (True, False):
        network = small.tiny_network()
        cut = cut_last(network, layers) if layers else cut_head(network)
        before = frozen_part(network)
        assert {"a_conv", "a_bn"} < before.keys()
        if stored:
            crossing = cut.trunk.predict(PIXELS.astype("float32"), verbose=0)
            model, arrays = cut.tail, crossing if isinstance(crossing, list) else [crossing]
        else:
            model, arrays = through_trunk(cut), [PIXELS]
        start = values(cut.tail.trainable_variables)
        run = small.run(0.01, "adam", 16, (2,))
        snapshots, failures = small.trained(Trainer(model, cut.tail.variables, arrays, 7), [run], SPLITS)
        assert not failures
        for name, weights in frozen_part(network).items():
            small.same_arrays(weights, before[name])
        assert not np.array_equal(values(cut.tail.trainable_variables)[0], start[0])
        ended.append(snapshots[run, 2])
    small.same(*ended)


@pytest.mark.slow
def test_training_the_end_of_efficientnet_from_pixels_or_from_stored_activations_is_the_same():
    network = small.efficientnet()
    start = network.get_weights()
    run = small.run(0.001, "adam", 16, (1,))
    try:
        cut = cut_last(network, 20)
        before = frozen_part(network)
        initial = values(cut.tail.variables)
        arrays = cut.trunk.predict(PIXELS.astype("float32"), verbose=0)
        stored = Trainer(cut.tail, cut.tail.variables, arrays, 7)
        from_stored, _ = small.trained(stored, [run], SPLITS)
        for variable, value in zip(cut.tail.variables, initial, strict=True):
            variable.assign(value)
        pixels = Trainer(through_trunk(cut), cut.tail.variables, [PIXELS], 7)
        from_pixels, _ = small.trained(pixels, [run], SPLITS)
        one, other = from_stored[run, 1], from_pixels[run, 1]
        # At 1 × 1 features, a convolution's sums depend on the batch size; they agree up to rounding
        for some, others in zip(one.weights, other.weights, strict=True):
            np.testing.assert_allclose(some, others, rtol=1e-4, atol=1e-5)
        for name, log_odds in one.log_odds.items():
            np.testing.assert_allclose(log_odds, other.log_odds[name], atol=5e-6)
        for name, weights in frozen_part(network).items():
            small.same_arrays(weights, before[name])
        assert not np.array_equal(values(cut.tail.variables)[0], initial[0])
    finally:
        network.set_weights(start)
