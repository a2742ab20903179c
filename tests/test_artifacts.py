import contextlib
import io
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import small

from glaucoma.base.errors import WeightsError
from glaucoma.base.files import hash_json, read_json, sha256_file, write_json
from glaucoma.model.artifacts import load_model, load_values, save_model
from glaucoma.model.runtime import fresh, keras
from glaucoma.model.sidecar import read_sidecar, sidecar_of
from glaucoma.train.identity import hash_model


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> tuple[keras.Model, Path]:
    network, path = small.tiny_network(), tmp_path_factory.mktemp("model") / "model.keras"
    save_model(network, path, {"stage": "stage1", "threshold": 0.5})
    return network, path


@pytest.mark.workflow
@pytest.mark.slow
def test_equal_models_are_equal_files_whichever_process_made_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import small, sys; from pathlib import Path\n"
        "from glaucoma.model.artifacts import save_model; from glaucoma.train.identity import hash_model\n"
        "network = small.tiny_network(); save_model(network, Path(sys.argv[1]), {})\n"
        "sys.stdout.write(hash_model(network))"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    command = [sys.executable, str(script), str(tmp_path / "one.keras")]
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "1"}
    other = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True, timeout=200)
    fresh(0)  # as at the start of each stage: names count the models built by a process
    network = small.tiny_network()
    save_model(network, tmp_path / "other.keras", {})
    assert (tmp_path / "one.keras").read_bytes() == (tmp_path / "other.keras").read_bytes()
    # The journal finds trials of other processes, and trials from before the network was saved
    assert other.stdout == hash_model(small.tiny_network())


def test_a_model_that_was_loaded_is_saved_as_the_same_file(saved, tmp_path):
    _, path = saved
    save_model(load_model(path), tmp_path / "again.keras", {})
    assert (tmp_path / "again.keras").read_bytes() == path.read_bytes()


def test_a_loaded_model_predicts_exactly_as_before(saved):
    network, path = saved
    pixels = small.images(8)[0].astype("float32")
    loaded = load_model(path)
    np.testing.assert_array_equal(loaded.predict(pixels, verbose=0), network.predict(pixels, verbose=0))
    assert [layer.name for layer in loaded.layers] == [layer.name for layer in network.layers]


def test_a_loaded_model_takes_over_the_values_of_another_file_of_its_kind_and_of_no_other(saved, tmp_path):
    network, path = saved
    other, larger = load_model(path), keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    other.set_weights([weight + 1 for weight in other.get_weights()])
    for name, model in (("other", other), ("larger", larger)):
        save_model(model, tmp_path / f"{name}.keras", {})
    taken = load_model(path)
    assert not load_values(taken, path, tmp_path / "larger.keras")
    small.same_arrays(taken.get_weights(), network.get_weights())
    assert load_values(taken, path, tmp_path / "other.keras")
    small.same_arrays(taken.get_weights(), other.get_weights())
    whole = (tmp_path / "other.keras").read_bytes()
    (tmp_path / "other.keras").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(WeightsError, match="not a whole Keras model"):
        load_values(taken, path, tmp_path / "other.keras")


def test_the_sidecar_holds_the_card_and_the_hash(saved):
    _, path = saved
    told = read_json(path.with_suffix(".json"))
    assert told.pop("sidecar_sha256") == hash_json(told)
    assert told == {"stage": "stage1", "threshold": 0.5, "sha256": sha256_file(path)}
    assert read_sidecar(path) == told


def test_nothing_but_the_model_and_its_card_is_left(saved):
    _, path = saved
    assert {file.name for file in path.parent.iterdir()} == {"model.keras", "model.json"}


def refused(path: Path, *words: str) -> None:
    with pytest.raises(WeightsError) as caught:
        load_model(path)
    for word in (str(path), *words):
        assert word in caught.value.found
    assert caught.value.remedy


def test_a_missing_model_is_told_with_what_makes_it(tmp_path):
    refused(tmp_path / "model.keras", "no model")
    (tmp_path / "folder.keras").mkdir()
    refused(tmp_path / "folder.keras", "no model")


def test_a_file_that_is_no_model_is_refused(tmp_path):
    contents = {"empty": b"", "text": b"weights: none\n", "photograph": b"\xff\xd8\xff\xe0" + bytes(500)}
    for name, content in contents.items():
        path = tmp_path / f"{name}.keras"
        path.write_bytes(content)
        refused(path, "not a whole Keras model")


@pytest.mark.parametrize("member", ["config.json", "model.weights.h5", "metadata.json"])
def test_an_archive_with_a_part_missing_or_garbled_is_refused(member, saved, tmp_path):
    for content in (None, b"", b"{", b"[]"):
        path = tmp_path / "part.keras"
        with zipfile.ZipFile(saved[1]) as whole, zipfile.ZipFile(path, "w") as part:
            for name in whole.namelist():
                if name != member:
                    part.writestr(name, whole.read(name))
            if content is not None:
                part.writestr(member, content)
        if member == "metadata.json":  # does not affect the model's output
            with contextlib.suppress(WeightsError):
                load_model(path)
        else:
            refused(path, "not a whole Keras model")


@pytest.mark.parametrize("damage", ["cut", "flipped"])
def test_a_damaged_archive_is_refused_or_gives_the_very_same_weights(damage, saved, tmp_path):
    network, path = saved
    whole = path.read_bytes()
    damaged = tmp_path / "damaged.keras"
    refusals = 0
    for at in np.linspace(1, len(whole) - 2, 12).astype(int):
        broken = whole[:at] if damage == "cut" else whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :]
        damaged.write_bytes(broken)
        try:
            small.same_arrays(load_model(damaged).get_weights(), network.get_weights())
        except WeightsError:
            refusals += 1
    assert refusals == 12 if damage == "cut" else refusals > 7


def test_code_in_a_model_is_not_run(tmp_path):
    proof = tmp_path / "proof"
    inputs = keras.Input((2,))
    function = eval(f"lambda x: x if open({str(proof)!r}, 'w') is None else x")
    keras.Model(inputs, keras.layers.Lambda(function, output_shape=(2,))(inputs)).save(tmp_path / "lambda.keras")
    proof.unlink(missing_ok=True)
    refused(tmp_path / "lambda.keras")
    assert not proof.exists()


@pytest.mark.parametrize(
    ("module", "name", "arguments"),
    [
        ("os", "system", {"command": "touch PROOF"}),
        ("subprocess", "Popen", {"args": ["touch", "PROOF"]}),
        ("builtins", "exec", {"source": "open('PROOF', 'w')"}),
        ("pathlib", "Path", {"args": ["PROOF"]}),
        ("keras.src.utils.file_utils", "get_file", {"fname": "PROOF", "origin": "file:///etc/hosts"}),
    ],
)
def test_a_configuration_that_names_other_code_is_refused(module, name, arguments, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "unsafe.keras"
    with zipfile.ZipFile(saved[1]) as whole, zipfile.ZipFile(path, "w") as unsafe:
        for member in whole.namelist():
            content = whole.read(member)
            if member == "config.json":
                config = json.loads(content)
                config["config"]["layers"][1] = {
                    **config["config"]["layers"][1],
                    "module": module,
                    "class_name": name,
                    "registered_name": None,
                    "config": arguments,
                }
                content = json.dumps(config).encode()
            unsafe.writestr(member, content)
    refused(path)
    assert not (tmp_path / "PROOF").exists()


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda told: told | {"threshold": 0.01}, "not as it was written"),
        (lambda told: {key: value for key, value in told.items() if key != "sidecar_sha256"}, "not as it was written"),
        (lambda told: {key: value for key, value in told.items() if key != "sha256"}, "no sidecar"),
        (lambda told: [], "no sidecar"),
    ],
)
def test_a_sidecar_that_was_changed_is_refused(change, said, saved, tmp_path):
    path = tmp_path / "model.keras"
    path.write_bytes(saved[1].read_bytes())
    write_json(sidecar_of(path), change(read_json(sidecar_of(saved[1]))))
    with pytest.raises(WeightsError, match=said):
        read_sidecar(path)
    sidecar_of(path).unlink()
    assert read_sidecar(path) == {}


def rewritten(saved: Path, path: Path, **members: bytes) -> Path:
    """A compressed copy of an archive with different content in some members."""
    with zipfile.ZipFile(saved) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as other:
        contents = {name: whole.read(name) for name in whole.namelist()} | members
        for name, content in contents.items():
            other.writestr(name, content)
    return path


def test_weights_that_lie_elsewhere_or_claim_to_be_huge_are_refused(saved, tmp_path):
    def weights(change) -> dict[str, bytes]:
        with zipfile.ZipFile(saved[1]) as whole:
            file = io.BytesIO(whole.read("model.weights.h5"))
        with h5py.File(file, "r+") as held:
            change(held)
        return {"model.weights.h5": file.getvalue()}

    def link(held):
        held["elsewhere"] = h5py.ExternalLink("/etc/hosts", "/")

    def outside(held):
        held.create_dataset("elsewhere", (8,), "u1", external=[("/etc/hosts", 0, 8)])

    def huge(held):
        held.create_dataset("huge", (10**6, 10**6), "f4", chunks=(1, 10**6), compression="gzip")

    for change, word in ((link, "link"), (outside, "another file"), (huge, "bytes")):
        refused(rewritten(saved[1], tmp_path / "model.keras", **weights(change)), word)


def test_what_would_need_more_memory_than_any_network_or_holds_more_than_one_is_refused(saved, tmp_path):
    with zipfile.ZipFile(saved[1]) as whole:
        config = json.loads(whole.read("config.json"))
    config["config"]["layers"][-1]["config"]["units"] = 10**9
    path = tmp_path / "model.keras"
    refused(rewritten(saved[1], path, **{"config.json": json.dumps(config).encode()}), "units is 1000000000")
    refused(rewritten(saved[1], path, **{"assets/run.py": b"print()"}), "assets/run.py")


def test_files_of_other_kinds_are_refused_unopened(saved, tmp_path):
    for name in ("model.h5", "model.pkl", "model"):
        (tmp_path / name).write_bytes(saved[1].read_bytes())
        refused(tmp_path / name, "no .keras file")
