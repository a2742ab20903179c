"""Nested selection: a fold chooses its configuration within its own train split."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from ruamel.yaml import YAML
from small import images, splits, tiny_backbone

from glaucoma.base import paths
from glaucoma.base.errors import DataError, ParamsError
from glaucoma.base.params import load_params
from glaucoma.dataset.folds import inner_splits
from glaucoma.dataset.splits import Split
from glaucoma.model.artifacts import save_model
from glaucoma.train.fold_stage import _FoldTrainer

GRID = {"lr": [0.0001, 0.01], "optimizer": ["adam"], "batch_size": [16], "epochs": [2]}


def test_copies_and_patients_are_not_parted_and_both_classes_are_on_both_sides():
    names = tuple(f"{i:02}" for i in range(60))
    patients = tuple(f"p{i // 2}" if i < 40 else "" for i in range(60))
    train = Split(names, np.arange(60), np.arange(60) // 2 % 2 == 0, patients)
    copies = {"50": "7", "54": "7"}
    inner = inner_splits(train, copies, seed=0)
    sides = {image: name for name, split in inner.items() for image in split.images}
    assert sorted(sides) == list(names)
    assert all(sides[f"{i:02}"] == sides[f"{i + 1:02}"] for i in range(0, 40, 2))
    assert sides["50"] == sides["54"]
    assert 8 <= len(inner["test"]) <= 12
    for split in inner.values():
        assert len(set(split.abnormal)) == 2
        assert [patients[row] for row in split.rows] == list(split.patients)
    assert inner_splits(train, copies, seed=0)["test"].images == inner["test"].images


def test_a_train_split_that_cannot_be_parted_is_a_sentence():
    with pytest.raises(DataError, match="cannot be parted"):
        inner_splits(Split(("a", "b"), np.arange(2), np.array([True, False])), {}, seed=0)


@pytest.fixture
def trainer(tmp_path, monkeypatch):
    """A function that makes a trainer of one fold in an empty project, given the labels of all images."""
    params = load_params("params.yaml").model_dump()
    params["search"]["nested"] = True
    params["stage1"]["grid"] = params["stage2"]["grid"] = GRID
    params["stage2"]["unfreeze_last"] = 2
    params = type(load_params("params.yaml")).model_validate(params)
    monkeypatch.chdir(tmp_path)
    save_model(tiny_backbone(), paths.BACKBONE, {})
    pixels, abnormal = images()
    parts = splits(abnormal)

    def make(change=lambda labels: labels) -> _FoldTrainer:
        changed = {name: replace(parts[name], abnormal=change(parts[name].abnormal)) for name in ("test", "valid")}
        data = SimpleNamespace(pixels=pixels, fold=lambda _: {"train": parts["train"], **changed})
        return _FoldTrainer(params, 0, data, {})

    return make


@pytest.mark.workflow
@pytest.mark.slow
def test_labels_of_test_and_valid_do_not_change_the_choice_and_the_journal_keeps_it(trainer):
    one = trainer()
    one.warm_start(one.splits["train"])
    trials = sorted((paths.STATE / "trials").iterdir())
    times = {trial: (trial / "record.json").stat().st_mtime_ns for trial in trials}
    other = trainer(np.logical_not)
    assert other._nested() == one.winners
    # All trials of the selection were taken from the journal
    assert all((trial / "record.json").stat().st_mtime_ns == time for trial, time in times.items())
    assert len(list((paths.STATE / "trials").iterdir())) == len(trials)
    said = {row["stage"]: row["chosen_on"] for row in one.chosen(next(iter(one.winners.values())).as_dict())}
    assert said == dict.fromkeys(("stage1", "stage2"), "fold 0, part of train") | {"final": "params.yaml"}


def test_nested_selection_with_a_training_that_stops_by_the_test_split_is_refused(tmp_path):
    params = YAML(typ="safe").load(paths.PARAMS)
    params["search"]["nested"], params["fit"]["early_stopping"] = True, 3
    YAML(typ="safe").dump(params, tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="follow the loss on the fold's test split"):
        load_params(tmp_path / "params.yaml")


def test_nested_selection_without_a_search_within_the_fold_is_refused(tmp_path):
    text = (paths.PARAMS).read_text(encoding="utf-8")
    text = text.replace("nested: false", "nested: true").replace("warm_start: fold ", "warm_start: none ")
    (tmp_path / "params.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ParamsError, match=r"search\.nested is true"):
        load_params(tmp_path / "params.yaml")
