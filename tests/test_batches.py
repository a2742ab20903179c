import numpy as np
import pytest
import small  # noqa: F401

from glaucoma.model.batches import Batches
from glaucoma.model.network import CLASSES

ROWS = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 97], np.int64)
ABNORMAL = np.array([0, 1, 1, 0, 1, 0, 0, 1, 1, 0, 1], bool)
PIXELS = np.arange(100, dtype="uint8")[:, None, None, None] * np.ones((1, 2, 2, 3), "uint8")


def epoch(batches: Batches) -> list[int]:
    """The rows of an epoch in order, read from the images themselves."""
    rows = [int(value) for i in range(len(batches)) for value in batches[i][0][:, 0, 0, 0]]
    batches.on_epoch_end()
    return rows


@pytest.mark.parametrize("size", [1, 4, 11, 64])
def test_every_epoch_is_a_permutation_of_all_rows_and_no_two_are_alike(size):
    batches = Batches([PIXELS], ROWS, ABNORMAL, batch_size=size, seed=3)
    epochs = [epoch(batches) for _ in range(5)]
    assert all(sorted(rows) == sorted(ROWS) for rows in epochs)
    assert len(set(map(tuple, epochs))) == 5


def test_only_the_seed_and_the_epoch_decide_the_order():
    def epochs(size: int, seed: int) -> list[list[int]]:
        np.random.seed(size)
        batches = Batches([PIXELS], ROWS, ABNORMAL, batch_size=size, seed=seed)
        return [epoch(batches) for _ in range(3)]

    assert epochs(4, seed=3) == epochs(11, seed=3)
    assert epochs(4, seed=3) != epochs(4, seed=4)


def test_without_a_seed_the_order_is_as_given():
    batches = Batches([PIXELS], ROWS, ABNORMAL, batch_size=4)
    assert [epoch(batches) for _ in range(2)] == [list(ROWS)] * 2


def test_labels_stay_with_their_images_and_their_column_is_named():
    label = dict(zip(ROWS.tolist(), ABNORMAL.tolist(), strict=True))
    batches = Batches([PIXELS], ROWS, ABNORMAL, batch_size=4, seed=1)
    for i in range(len(batches)):
        inputs, labels = batches[i]
        assert labels.dtype == np.float32
        assert (labels.sum(axis=1) == 1).all()
        found = labels[:, CLASSES.index("abnormal")] == 1
        assert found.tolist() == [label[int(row)] for row in inputs[:, 0, 0, 0]]


def test_the_last_batch_holds_what_is_left():
    batches = Batches([PIXELS], ROWS, ABNORMAL, batch_size=4, seed=1)
    assert [len(batches[i][0]) for i in range(len(batches))] == [4, 4, 3]


def test_several_inputs_are_rows_of_the_same_images():
    other = np.arange(100, dtype="float32")[:, None] + 0.5
    batches = Batches([PIXELS, other], ROWS, None, batch_size=4, seed=1)
    for i in range(len(batches)):
        ((images, values),) = batches[i]
        np.testing.assert_array_equal(images[:, 0, 0, 0] + 0.5, values[:, 0])


def test_of_a_memory_mapped_array_only_a_batch_is_read(tmp_path):
    path = tmp_path / "sparse.npy"
    images = np.lib.format.open_memmap(path, "w+", "uint8", (10_000, 1024, 1024, 3))  # 31 GB, sparse
    images[9_999] = 7
    images = np.load(path, mmap_mode="r")
    batches = Batches([images], np.array([0, 9_999]), None, batch_size=2)
    (given,) = batches[0]
    assert given.dtype == np.float32
    assert given.shape == (2, 1024, 1024, 3)
    assert [given[0].max(), given[1].min()] == [0, 7]
    assert batches.arrays[0] is images
