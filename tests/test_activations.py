import os
import time

import numpy as np
import pytest
import small

from glaucoma.base.errors import ParamsError
from glaucoma.model.cut import cut_last
from glaucoma.model.runtime import keras
from glaucoma.train.activations import CHUNK, activations

PIXELS, _ = small.images()


@pytest.fixture
def trunk() -> keras.Model:
    """A trunk with two outputs: the cut goes through a block with a shortcut."""
    return cut_last(small.tiny_network(), 4).trunk


def entries(folder) -> dict[str, list[tuple[str, int]]]:
    """The cache's folders, and their files with the moment of their last writing."""
    return {
        entry.name: [(file.name, file.stat().st_mtime_ns) for file in sorted(entry.iterdir())]
        for entry in folder.iterdir()
    }


def test_activations_are_what_the_trunk_predicts(trunk, tmp_path):
    found = activations(trunk, PIXELS, tmp_path)
    predicted = trunk.predict(PIXELS.astype("float32"), batch_size=32, verbose=0)
    assert len(found) == len(predicted) == 2
    for array, expected in zip(found, predicted, strict=True):
        assert isinstance(array, np.memmap)
        assert array.dtype == np.float32
        assert not array.flags.writeable
        np.testing.assert_array_equal(array, expected)


def test_more_images_than_are_held_at_a_time_stay_in_order(trunk, tmp_path):
    many = np.resize(PIXELS, (CHUNK + 37, *PIXELS.shape[1:]))
    few = activations(trunk, PIXELS, tmp_path)
    for array, known in zip(activations(trunk, many, tmp_path), few, strict=True):
        np.testing.assert_allclose(array, np.resize(known, array.shape), atol=1e-6)


def test_what_was_computed_is_found_again_by_an_equal_trunk(trunk, tmp_path):
    first = activations(trunk, PIXELS, tmp_path)
    before = entries(tmp_path)
    again = activations(cut_last(small.tiny_network(), 4).trunk, PIXELS.copy(), tmp_path)
    assert entries(tmp_path) == before
    small.same_arrays(first, again)


def test_other_pixels_weights_or_cuts_are_computed_anew(trunk, tmp_path):
    activations(trunk, PIXELS, tmp_path)
    changed = PIXELS.copy()
    changed[3, 5, 7, 1] += 1
    activations(trunk, changed, tmp_path)
    assert len(entries(tmp_path)) == 2
    variable = trunk.get_layer("a_conv").bias
    variable.assign(variable + 1e-6)
    activations(trunk, PIXELS, tmp_path)
    assert len(entries(tmp_path)) == 3
    activations(cut_last(small.tiny_network(), 3).trunk, PIXELS, tmp_path)
    assert len(entries(tmp_path)) == 4


def test_a_folder_that_a_killed_process_left_is_not_used_and_is_cleaned_up_a_day_later(trunk, tmp_path):
    whole = [array.copy() for array in activations(trunk, PIXELS, tmp_path)]
    (entry,) = tmp_path.iterdir()
    old, young = tmp_path / ".making-old", tmp_path / ".making-young"
    entry.rename(old)
    (old / "01.npy").write_bytes((old / "01.npy").read_bytes()[:1000])
    young.mkdir()
    then = time.time() - 2 * 24 * 3600
    os.utime(old, (then, then))
    small.same_arrays(activations(trunk, PIXELS, tmp_path), whole)
    assert {path.name for path in tmp_path.iterdir()} == {entry.name, young.name}


@pytest.mark.parametrize("damage", ["one file missing", "one file cut short", "other shape", "empty"])
def test_a_damaged_entry_is_computed_anew(damage, trunk, tmp_path):
    whole = [array.copy() for array in activations(trunk, PIXELS, tmp_path)]
    (entry,) = tmp_path.iterdir()
    file = entry / "01.npy"
    if damage == "one file missing":
        file.unlink()
    elif damage == "one file cut short":
        os.truncate(file, file.stat().st_size // 2)
    elif damage == "other shape":
        np.save(file, np.zeros((3, 4), "float32"))
    else:
        os.truncate(file, 0)
    small.same_arrays(activations(trunk, PIXELS, tmp_path), whole)


def test_the_cache_can_be_deleted_while_its_arrays_are_in_use(trunk, tmp_path):
    found = activations(trunk, PIXELS, tmp_path / "cache")
    copies = [array.copy() for array in found]
    for entry in (tmp_path / "cache").iterdir():
        for file in entry.iterdir():
            file.unlink()
        entry.rmdir()
    (tmp_path / "cache").rmdir()
    small.same_arrays(found, copies)
    small.same_arrays(activations(trunk, PIXELS, tmp_path / "cache"), copies)


def test_the_cache_keeps_within_its_bytes_what_was_used_last(trunk, tmp_path, monkeypatch):
    def use(number: int) -> None:
        variable.assign(np.full(variable.shape, number, "float32"))
        activations(trunk, PIXELS[:4], tmp_path)
        for path in tmp_path.iterdir():  # one clock tick older
            os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 10))

    variable = trunk.get_layer("a_conv").bias
    use(0)
    (entry,) = tmp_path.iterdir()
    size = sum(file.stat().st_size for file in entry.iterdir())
    monkeypatch.setenv("GLAUCOMA_CACHE_GB", str(3.5 * size / 1e9))
    for number in (1, 2, 0, 3):
        use(number)
    before = entries(tmp_path)
    assert len(before) == 3
    for number in (0, 2, 3):  # 1 was used longest ago
        use(number)
    assert entries(tmp_path) == before
    monkeypatch.setenv("GLAUCOMA_CACHE_GB", "0")  # no room at all: the entry in use is kept
    use(4)
    assert len(entries(tmp_path)) == 1


def test_a_cache_that_is_no_number_of_gb_large_is_refused(trunk, tmp_path, monkeypatch):
    for given in ("much", "-1", "nan"):
        monkeypatch.setenv("GLAUCOMA_CACHE_GB", given)
        with pytest.raises(ParamsError, match="GLAUCOMA_CACHE_GB"):
            activations(trunk, PIXELS[:4], tmp_path / "cache")


def test_a_full_disk_ends_in_an_error_and_leaves_nothing(trunk, tmp_path):
    resource = pytest.importorskip("resource", reason="Windows has no limit on file sizes to try this with")
    import signal

    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    try:
        with pytest.raises(OSError, match="too large"):
            activations(trunk, PIXELS, tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    assert not list(tmp_path.iterdir())
