"""Prediction is traced once for all batch sizes and equals Keras' own; TensorFlow does not tune our data sets."""

import numpy as np
import pytest
import small

from glaucoma.model.batches import Batches
from glaucoma.model.cut import cut_last
from glaucoma.model.runtime import keras, ready_to_predict

PIXELS, ABNORMAL = small.images()
SIZES = (5, 38, 16)  # images to predict, in batches of 16: smaller, full and a rest, full


def calls(model: keras.Model) -> list:
    """A list that grows at each Python call of the model's first convolution: once per trace."""
    layer, found = next(layer for layer in model.layers if "conv" in layer.name), []
    inner = layer.call
    layer.call = lambda *given, **options: found.append(1) or inner(*given, **options)
    return found


@pytest.fixture(params=["one input", "two inputs"])
def models_and_arrays(request):
    """The same model built twice, and its inputs."""
    cuts = [cut_last(small.tiny_network(), 4) for _ in range(2)]
    if request.param == "one input":
        return [cut.network for cut in cuts], [PIXELS]
    crossing = cuts[0].trunk.predict(PIXELS.astype("float32"), verbose=0)
    assert len(crossing) == 2
    return [cut.tail for cut in cuts], crossing


def predicted(model: keras.Model, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return [model.predict(Batches(arrays, np.arange(n), None, batch_size=16), verbose=0) for n in SIZES]


def test_a_model_made_ready_is_traced_once_and_predicts_the_same(models_and_arrays):
    (ready, plain), arrays = models_and_arrays
    ready_to_predict(ready)
    traced = calls(ready)
    small.same_arrays(predicted(ready, arrays), predicted(plain, arrays))
    if keras.backend.backend() == "tensorflow":
        assert not traced


def test_a_model_made_ready_again_is_not_traced_again_and_follows_its_weights():
    model = small.tiny_network()
    ready_to_predict(model)
    traced, before = calls(model), predicted(model, [PIXELS])
    for variable in model.trainable_variables:
        variable.assign(variable + 0.1)
    ready_to_predict(model)
    assert not np.array_equal(predicted(model, [PIXELS])[0], before[0])
    if keras.backend.backend() == "tensorflow":
        assert not traced
