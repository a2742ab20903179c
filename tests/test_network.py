import numpy as np
import pytest
import small

from glaucoma.model.network import CLASSES, HEAD, build_network, reseed
from glaucoma.model.runtime import keras


def test_the_head_is_the_reports():
    network = small.tiny_network(dropout=0.3)
    pool, norm, drop, top = [network.get_layer(name) for name in HEAD]
    assert [layer.name for layer in network.layers[-4:]] == list(HEAD)
    assert isinstance(pool, keras.layers.GlobalMaxPooling2D)
    assert isinstance(norm, keras.layers.BatchNormalization)
    assert drop.rate == 0.3
    assert top.units == len(CLASSES) == 2
    assert top.activation is keras.activations.softmax


def test_a_head_of_three_blocks_is_three_times_pooling_normalisation_and_dropout():
    network = build_network(small.tiny_backbone(), dropout=0.2, seed=1, blocks=3)
    kinds = [type(layer).__name__ for layer in network.layers[-10:]]
    assert kinds == [*["GlobalMaxPooling2D", "BatchNormalization", "Dropout"] * 3, "Dense"]
    assert [network.get_layer(name).output.shape[1:] for name in ("head_pool", "head_pool_3")] == [(1, 1, 12), (12,)]
    one = build_network(small.tiny_backbone(), dropout=0.2, seed=1)
    small.same_arrays(network.get_layer(HEAD[3]).get_weights(), one.get_layer(HEAD[3]).get_weights())
    assert len({str(state) for name, state in states(network).items() if name.startswith("head")}) == 3


def test_probabilities_of_the_two_classes_add_up_to_one():
    pixels, _ = small.images(4)
    found = small.tiny_network().predict(pixels.astype("float32"), verbose=0)
    assert found.shape == (4, 2)
    np.testing.assert_allclose(found.sum(axis=1), 1, rtol=1e-6)


def states(network: keras.Model) -> dict[str, list[int]]:
    found = {layer.name: getattr(layer, "seed_generator", None) for layer in network.layers}
    return {name: keras.ops.convert_to_numpy(g.state.value).tolist() for name, g in found.items() if g is not None}


def test_equal_seeds_give_equal_networks_and_others_other_ones():
    one, same, other = small.tiny_network(3), small.tiny_network(3), small.tiny_network(4)
    small.same_arrays(one.get_weights(), same.get_weights())
    assert states(one) == states(same)
    assert not np.array_equal(one.get_layer("head_softmax").kernel, other.get_layer("head_softmax").kernel)
    assert all(states(one)[name] != states(other)[name] for name in states(one))


def test_each_dropout_layer_has_a_sequence_of_its_own():
    found = states(small.tiny_network())
    assert set(found) == {"b_drop", "head_dropout"}
    assert found["b_drop"] != found["head_dropout"]


def test_the_heads_first_weights_depend_on_the_seed_alone_not_on_what_was_drawn_before():
    backbone = small.tiny_backbone()
    one = build_network(backbone, dropout=0.2, seed=1).get_layer("head_softmax").get_weights()
    keras.utils.set_random_seed(99)
    other = build_network(backbone, dropout=0.2, seed=1).get_layer("head_softmax").get_weights()
    small.same_arrays(one, other)


@pytest.mark.parametrize("seed", [0, 1, 2**31 - 1])
def test_reseeding_starts_the_dropout_masks_again(seed):
    network = small.tiny_network()
    reseed(network, seed)
    drop, ones = network.get_layer("head_dropout"), np.ones((4, 12), "float32")
    first = keras.ops.convert_to_numpy(drop(ones, training=True))
    second = keras.ops.convert_to_numpy(drop(ones, training=True))
    reseed(network, seed)
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(drop(ones, training=True)), first)
    assert not np.array_equal(first, second)
