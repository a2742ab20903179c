from pathlib import Path

import pytest

from glaucoma.base.params import Grid, Trial, expand, group
from glaucoma.base.profiles import load_profile

PUBLISHED = Path(__file__).parents[1] / "profiles" / "published.yaml"


@pytest.mark.parametrize(("stage", "trials", "runs"), [("stage1", 32, 16), ("stage2", 36, 12)])
def test_the_published_grids_are_32_and_36_trials_in_16_and_12_runs(stage, trials, runs):
    expanded = expand(getattr(load_profile(PUBLISHED), stage).grid)
    assert len(expanded) == len(set(expanded)) == trials
    assert len(group(expanded)) == runs


def test_the_published_profile_trains_as_long_on_images_as_large_as_the_report():
    params = load_profile(PUBLISHED)
    assert (params.epochs, params.data.image_size, params.backbone.weights) == (50, 224, "imagenet")


def test_the_reports_winners_are_among_the_published_trials():
    params = load_profile(PUBLISHED)
    assert Trial(lr=0.001, optimizer="adam", batch_size=32, epochs=10) in expand(params.stage1.grid)
    assert Trial(lr=0.0001, optimizer="adam", batch_size=64, epochs=100) in expand(params.stage2.grid)


def test_a_grid_expands_with_epochs_fastest():
    grid = Grid(lr=[0.1, 0.2], optimizer=["adam"], batch_size=[8, 4], epochs=[1, 3])
    found = [(trial.lr, trial.batch_size, trial.epochs) for trial in expand(grid)]
    assert found[:4] == [(0.1, 8, 1), (0.1, 8, 3), (0.1, 4, 1), (0.1, 4, 3)]
    assert found[4:] == [(0.2, *rest) for _, *rest in found[:4]]


def test_runs_hold_every_trial_once_and_epochs_ascending():
    trials = expand(Grid(lr=[0.2, 0.1], optimizer=["sgd", "adam"], batch_size=[8, 4], epochs=[50, 10, 100]))
    runs = group(trials)
    covered = [trial for run in runs for trial in run]
    assert sorted(covered, key=str) == sorted(trials, key=str)
    assert all([trial.epochs for trial in run] == [10, 50, 100] for run in runs)


def test_runs_do_not_depend_on_the_order_of_the_trials():
    trials = expand(Grid(lr=[0.2, 0.1], optimizer=["sgd", "adam"], batch_size=[8, 4], epochs=[5, 1]))
    assert group(trials[::-1]) == group(trials)


def test_runs_of_an_optimizer_follow_each_other():
    trials = expand(Grid(lr=[0.2, 0.1], optimizer=["sgd", "adam"], batch_size=[8, 4], epochs=[1]))
    optimizers = [run[-1].optimizer for run in group(trials)]
    assert optimizers == sorted(optimizers)


def test_a_run_of_what_is_left_ends_where_its_longest_trial_does():
    ten, fifty = (Trial(lr=0.1, optimizer="sgd", batch_size=8, epochs=epochs) for epochs in (10, 50))
    assert group([fifty, ten]) == [(ten, fifty)]
