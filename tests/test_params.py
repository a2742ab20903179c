"""params.yaml: invalid values are rejected by name, with the value found and the valid ones."""

from __future__ import annotations

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from glaucoma.base.errors import ParamsError
from glaucoma.base.params import load_params

ROOT = Path(__file__).resolve().parents[1]
SHIPPED = (ROOT / "params.yaml").read_text()


@pytest.fixture
def edited(tmp_path: Path):
    """Write params.yaml with one value changed (None removes the key) and load it."""

    def load(key: str, value: object):
        yaml = YAML(typ="safe", pure=True)
        params = yaml.load(SHIPPED)
        *parents, last = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        if value is None:
            del section[last]
        else:
            section[last] = value
        yaml.dump(params, tmp_path / "params.yaml")
        return load_params(tmp_path / "params.yaml")

    return load


def refusal(edited, key: str, value: object) -> str:
    with pytest.raises(ParamsError) as caught:
        edited(key, value)
    assert caught.value.exit_code == 2
    return caught.value.found


def test_the_shipped_parameters_are_valid_and_each_key_is_explained():
    assert load_params(ROOT / "params.yaml").crossval.folds == list(range(10))
    known = {*load_params(ROOT / "params.yaml").data.classes, "lr", "optimizer", "batch_size", "epochs"}
    named = [line.strip().split(":", 1) for line in SHIPPED.splitlines() if ":" in line.split("#")[0]]
    # Headings, the user's class names, and a grid's keys, explained above, need no comment
    assert not [key for key, rest in named if rest.strip() and "#" not in rest and key.strip('"') not in known]


@pytest.mark.parametrize(
    ("key", "meant"),
    [("epoch", "epochs"), ("data.rot", "data.root"), ("stage1.grid.lrs", "stage1.grid.lr"), ("crossval.fold", "folds")],
)
def test_an_unknown_key_is_refused_with_the_one_that_was_meant(edited, key: str, meant: str):
    said = refusal(edited, key, 1)
    assert f"{key} is not a known key" in said
    assert "did you mean" in said
    assert meant in said


def test_an_unknown_key_that_resembles_none_is_refused_without_a_guess(edited):
    assert "did you mean" not in refusal(edited, "zzz", 1)


@pytest.mark.parametrize("key", ["lr", "data", "data.root", "stage2.grid.optimizer", "crossval.folds"])
def test_a_missing_key_is_named(edited, key: str):
    assert f"{key} is missing" in refusal(edited, key, None)


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("lr", "fast", "lr is 'fast'"),
        ("lr", "0.1", "lr is '0.1'"),
        ("lr", 0, "lr is 0"),
        ("lr", -0.1, "lr is -0.1"),
        ("lr", True, "lr is True"),
        ("lr", float("nan"), "lr is nan"),
        ("lr", float("inf"), "lr is inf"),
        ("lr", [0.1], "lr is [0.1]"),
        ("epochs", 2.5, "epochs is 2.5"),
        ("epochs", 0, "epochs is 0"),
        ("batch_size", False, "batch_size is False"),
        ("seed", -1, "seed is -1"),
        ("optimizer", "adamw", "optimizer is 'adamw'"),
        ("data.image_size", 31, "data.image_size is 31"),
        ("data.layout", "folder", "data.layout is 'folder'"),
        ("data.patients", "", "data.patients is ''"),
        ("data.classes", {"RG": "glaucoma", "NRG": "normal"}, "data.classes.RG is 'glaucoma'"),
        ("head.dropout", 1.0, "head.dropout is 1.0"),
        ("search.metric", "loss", "search.metric is 'loss'"),
        ("stage1.grid.lr", [], "stage1.grid.lr is []"),
        ("stage1.grid.lr", [0.1, float("nan")], "stage1.grid.lr.1 is nan"),
        ("stage1.grid.lr", [0.1, 0.1], "lists a value twice"),
        ("stage1.grid.lr", 0.1, "stage1.grid.lr is 0.1"),
        ("stage2.grid.epochs", [5, 0], "stage2.grid.epochs.1 is 0"),
        ("stage3.grid.optimizer", ["adam", "rmsprop"], "stage3.grid.optimizer.1 is 'rmsprop'"),
        ("crossval.folds", 3, "crossval.folds is 3"),
        ("crossval.folds", [], "crossval.folds is []"),
        ("crossval.folds", [0, -1], "crossval.folds.1 is -1"),
        ("crossval.folds", [0, 0], "lists a value twice"),
        ("crossval.folds", ["0"], "crossval.folds.0 is '0'"),
        ("crossval.warm_start", "stage1", "crossval.warm_start is 'stage1'"),
        ("crossval.held_out", 0.5, "crossval.held_out is 0.5"),
        ("crossval.model", "model3", "crossval.model is 'model3'"),
        ("crossval.model", "model4", "crossval.warm_start is 'fold': crossval.model is model4"),
        ("head.blocks", 0, "head.blocks is 0"),
        ("model5.backbone.name", "EfficientNetB8", "nearest first, are EfficientNet"),
        ("model4.grid.lr", [], "model4.grid.lr is []"),
        ("fit.schedule", "linear", "fit.schedule is 'linear'"),
        ("fit.label_smoothing", 1.0, "fit.label_smoothing is 1.0"),
        ("fit.precise_bn", "on", "fit.precise_bn is 'on'"),
        ("stage1.grid.warmup", [], "stage1.grid.warmup is []"),
        ("augment.rotation", 200, "augment.rotation is 200"),
        ("audit.waive", "copies", "audit.waive is 'copies'"),
        ("stage1", 5, "stage1 is 5"),
        ("backbone.name", "EfficentNetB3", "nearest first, are EfficientNetB3, "),
        ("backbone.name", "resnet50", "nearest first, are ResNet50V2, "),
        ("stage2.unfreeze_last", 0, "stage2.unfreeze_last is 0: should be a whole number ≥ 1"),
        ("stage2.unfreeze_last", True, "stage2.unfreeze_last is True"),
        ("stage2.unfreeze_last", "block7b", "stage2.unfreeze_last is 'block7b': did you mean block7a?"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_was_found(edited, key: str, value: object, says: str):
    assert says in refusal(edited, key, value)


def test_all_faults_are_told_at_once(tmp_path: Path):
    file = tmp_path / "params.yaml"
    file.write_text(SHIPPED.replace("\nlr: 0.00005 ", "\nlr: none ").replace("\nepochs: 1 ", "\nepochs: 0 "))
    with pytest.raises(ParamsError) as caught:
        load_params(file)
    assert "lr is 'none'" in str(caught.value)
    assert "epochs is 0" in str(caught.value)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "has no keys"),
        (b"# nothing\n", "has no keys"),
        (b"1: 2\n", "seed is missing"),
        (b"- lr\n- epochs\n", "has no keys"),
        (b"lr: [0.1\n", "is not valid YAML"),
        (SHIPPED.encode() + b"\nepochs: 3\n", f'line {SHIPPED.count(chr(10)) + 2}: found duplicate key "epochs"'),
    ],
)
def test_a_file_that_is_no_mapping_of_keys_is_refused(tmp_path: Path, content: bytes, says: str):
    file = tmp_path / "params.yaml"
    file.write_bytes(content)
    with pytest.raises(ParamsError) as caught:
        load_params(file)
    assert says in str(caught.value)
    assert str(file) in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused_with_where_to_run(tmp_path: Path):
    with pytest.raises(ParamsError, match="does not exist"):
        load_params(tmp_path / "params.yaml")
    with pytest.raises(ParamsError, match="cannot be read"):
        load_params(tmp_path)


def test_parameters_do_not_change_after_loading():
    params = load_params(ROOT / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        params.lr = 1.0
