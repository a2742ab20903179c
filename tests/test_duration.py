"""The estimate of a run's duration: its arithmetic, and that real steps are timed."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from glaucoma.base.params import Params, check_params
from glaucoma.base.profiles import merge, nested, shipped
from glaucoma.base.yaml12 import parse_yaml
from glaucoma.train.duration import Speed, estimate, measure

SPEED = Speed(start=10, predict=0.02, head=0.001, last=0.01, all=0.06)
STILL = Speed(start=0, predict=0, head=0, last=0, all=0)


def params(**values: object) -> Params:
    change = nested({key.replace("__", "."): value for key, value in values.items()})
    return check_params(merge(parse_yaml(shipped(), "shipped.yaml"), change), "test")


def test_more_images_epochs_trials_and_folds_take_longer():
    least = estimate(params(), SPEED, 500, 0.1)
    assert estimate(params(), SPEED, 1000, 0.1) > least
    assert estimate(params(epochs=20), SPEED, 500, 0.1) > least
    assert estimate(params(stage3__grid__lr=[0.1, 0.2]), SPEED, 500, 0.1) > least
    assert estimate(params(crossval__folds=[0, 1]), SPEED, 500, 0.1) < least
    assert estimate(params(crossval__warm_start="none"), SPEED, 500, 0.1) < least
    assert estimate(params(), SPEED, 500, 1.0) == pytest.approx(least + 2 * 500 * 0.9)


def test_the_final_training_of_every_fold_counts_each_of_its_images():
    few = params(crossval__warm_start="none", crossval__folds=[0], epochs=3)
    more = params(crossval__warm_start="none", crossval__folds=[0, 1], epochs=3)
    of_training = replace(STILL, all=1.0)
    fold = estimate(more, of_training, 100, 0) - estimate(few, of_training, 100, 0)
    assert fold == pytest.approx(3 * 81)  # 100 images less 10 for test and 9 for valid; predictions take no time here


def test_a_regression_has_no_epochs():
    regression = {"crossval__model": "regression", "crossval__warm_start": "none"}
    assert estimate(params(**regression, epochs=2), SPEED, 500, 0) == estimate(
        params(**regression, epochs=90), SPEED, 500, 0
    )


@pytest.mark.slow
def test_real_steps_are_timed():
    begin = time.perf_counter()
    values = {
        "backbone__name": "MobileNetV3Small",
        "data__image_size": 64,
        "batch_size": 8,
        "stage2__unfreeze_last": 20,
    }
    found = measure(params(**values))
    taken = time.perf_counter() - begin
    assert 0 < found.predict < taken
    assert 0 < found.head < found.all < taken
    assert 0 < found.last < taken
    assert 0 < found.start < taken
