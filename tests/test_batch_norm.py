import numpy as np
import pytest
import small

from glaucoma.model.batch_norm import one_kernel
from glaucoma.model.network import values
from glaucoma.model.runtime import fresh, keras, tensorflow

PIXELS, ABNORMAL = small.images()
LABELS = np.stack([ABNORMAL == 0, ABNORMAL == 1], axis=1).astype("float32")
UNFIT = ({"scale": False}, {"axis": 1}, {"renorm": True})  # settings that the kernel does not support

needs_kernel = pytest.mark.skipif(keras.backend.backend() != "tensorflow", reason="the kernel is TensorFlow's")


def network(trainable: bool = True, **settings) -> keras.Model:
    fresh(3)
    inputs = keras.Input(PIXELS.shape[1:])
    x = keras.layers.Conv2D(6, 3, strides=2)(keras.layers.Rescaling(1 / 255)(inputs))
    x = keras.layers.BatchNormalization(name="norm", **settings)(x)
    x = keras.layers.GlobalAveragePooling2D()(keras.layers.Activation("swish")(x))
    outputs = keras.layers.Dense(2, activation="softmax")(keras.layers.BatchNormalization(name="flat")(x))
    model = keras.Model(inputs, outputs)
    model.get_layer("norm").trainable = trainable
    model.compile(optimizer=keras.optimizers.SGD(0.05), loss="binary_crossentropy")
    return model


def train(model: keras.Model) -> list[np.ndarray]:
    model.fit(PIXELS, LABELS, batch_size=12, epochs=3, shuffle=False, verbose=0)  # the last batch is smaller
    return values(model.variables)


def in_one_kernel(model: keras.Model) -> list[np.ndarray]:
    with one_kernel(model):
        return train(model)


def operations(model: keras.Model) -> list[str]:
    """The operations of a training step of the layer."""
    tf = tensorflow()
    step = tf.function(lambda batch: model.get_layer("norm")(batch, training=True))
    return [each.type for each in step.get_concrete_function(tf.TensorSpec((None, 5, 5, 6))).graph.get_operations()]


@needs_kernel
def test_a_layer_is_one_kernel_within_and_keras_own_operations_before_and_after():
    model = network()
    stock = operations(model)
    with one_kernel(model):
        assert operations(model).count("FusedBatchNormV3") == 1
    assert operations(model) == stock
    assert "FusedBatchNormV3" not in stock


@needs_kernel
@pytest.mark.parametrize("settings", [{}, {"momentum": 0.5, "epsilon": 1e-5}], ids=["as published", "other settings"])
def test_training_in_one_kernel_ends_with_the_weights_and_moving_averages_of_keras_own_up_to_rounding(settings):
    untrained, stock, model = network(**settings), network(**settings), network(**settings)
    start, expected, ended = values(untrained.variables), train(stock), in_one_kernel(model)
    for before, ours, theirs in zip(start, ended, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=2e-4, atol=2e-5)
        assert before.size == 0 or not np.array_equal(before, theirs)
    np.testing.assert_allclose(model.predict(PIXELS, verbose=0), stock.predict(PIXELS, verbose=0), atol=1e-5)


@pytest.mark.parametrize(
    "settings", [{"trainable": False}, *(pytest.param(each, marks=pytest.mark.slow) for each in UNFIT)]
)
def test_a_layer_that_the_kernel_does_not_fit_is_trained_by_keras_bit_for_bit(settings):
    small.same_arrays(in_one_kernel(network(**settings)), train(network(**settings)))


def test_a_batch_of_one_pixel_an_image_has_finite_statistics():
    fresh(3)
    inputs = keras.Input((1, 1, 4))
    model = keras.Model(inputs, keras.layers.BatchNormalization()(inputs))
    model.compile(optimizer="sgd", loss="mse")
    with one_kernel(model):
        model.fit(np.ones((1, 1, 1, 4), "float32"), np.ones((1, 1, 1, 4), "float32"), verbose=0)
    assert all(np.isfinite(each).all() for each in values(model.variables))


def test_a_model_trained_in_one_kernel_is_left_and_saved_as_any_other(tmp_path):
    model = network()
    with one_kernel(model), pytest.raises(ZeroDivisionError):
        1 / 0  # noqa: B018
    in_one_kernel(model)
    assert "call" not in vars(model.get_layer("norm"))
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    small.same_arrays(values(again.variables), values(model.variables))
    assert np.array_equal(again.predict(PIXELS, verbose=0), model.predict(PIXELS, verbose=0))
