import importlib.util
import os
import subprocess
import sys

import numpy as np
import pytest
import small

from glaucoma.model.network import assign, values
from glaucoma.model.optimizers import OPTIMIZERS, SideBySide, make_optimizer
from glaucoma.model.runtime import keras

SHAPES = [(3, 3, 2, 5), (5,), (1,), (7, 11), (11, 2), (2,)]
STEPS = 5


def variables(seed: int = 0) -> list[keras.Variable]:
    random = np.random.default_rng(seed)
    return [keras.Variable(random.normal(size=shape).astype("float32")) for shape in SHAPES]


def steps(optimizer: keras.optimizers.Optimizer, weights: list[keras.Variable], seed: int = 1) -> list[np.ndarray]:
    """The weights after several steps along random gradients."""
    random = np.random.default_rng(seed)
    for _ in range(STEPS):
        gradients = [random.normal(size=v.shape).astype("float32") for v in weights]
        optimizer.apply([keras.ops.convert_to_tensor(g) for g in gradients], weights)
    return values(weights)


@pytest.mark.parametrize("lr", [0.0001, 0.03])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_one_vector_is_updated_as_keras_updates_the_variables_one_by_one(name, lr):
    stock = steps(OPTIMIZERS[name](learning_rate=lr), variables())
    ours = steps(make_optimizer(name, lr), variables())
    small.same_arrays(ours, stock)
    assert not np.array_equal(ours[0], values(variables())[0])


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_optimizer_put_back_to_its_first_state_starts_anew(name):
    weights, optimizer = variables(), make_optimizer(name, 0.01)
    optimizer.build(weights)
    start, state = values(weights), values(optimizer.variables)
    first = steps(optimizer, weights)
    steps(optimizer, weights, seed=2)
    assign(weights, start)
    assign(optimizer.variables, state)
    small.same_arrays(steps(optimizer, weights), first)


def test_a_new_learning_rate_takes_effect_on_a_built_optimizer():
    optimizer = make_optimizer("adam", 0.5)
    weights = variables()
    optimizer.build(weights)
    optimizer.learning_rate = 0.01
    small.same_arrays(steps(optimizer, weights), steps(make_optimizer("adam", 0.01), variables()))


def test_a_variable_without_a_gradient_is_refused():
    weights, optimizer = variables(), make_optimizer("sgd", 0.1)
    optimizer.build(weights)
    gradients = [keras.ops.ones(v.shape) for v in weights]
    gradients[2] = None
    with pytest.raises(ValueError, match="1 of 6 variables have no gradient"):
        optimizer.apply(gradients, weights)


def test_optimizers_side_by_side_update_as_each_would_alone():
    settings = [("adam", 0.01), ("sgd", 0.1), ("adam", 0.001)]
    models = [variables(seed) for seed in range(3)]
    joined = SideBySide([make_optimizer(*each) for each in settings], models)
    flat = [v for model in models for v in model]
    joined.build(flat)
    random = np.random.default_rng(9)
    gradients = [[random.normal(size=v.shape).astype("float32") for v in flat] for _ in range(STEPS)]
    for step in gradients:
        joined.apply([keras.ops.convert_to_tensor(g) for g in step], flat)
    for part, each in enumerate(settings):
        alone, optimizer = variables(part), make_optimizer(*each)
        own = slice(part * len(SHAPES), (part + 1) * len(SHAPES))
        for step in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in step[own]], alone)
        small.same_arrays(values(models[part]), values(alone))


@pytest.mark.parametrize("backend", ["jax", "torch"])
def test_other_backends_update_as_keras_does(backend):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed")
    code = (
        "import numpy as np; from test_optimizers import *\n"
        "for name, stock in OPTIMIZERS.items():\n"
        "    pairs = zip(steps(make_optimizer(name, .01), variables()), steps(stock(.01), variables()))\n"
        "    for ours, theirs in pairs: np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)"
    )
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])  # noqa: PTH120
    environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=200)
