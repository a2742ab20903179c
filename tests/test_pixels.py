import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import CLASSES, class_tree, fold_tree

from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv, write_csv
from glaucoma.base.workers import in_threads
from glaucoma.dataset.intake import build_index
from glaucoma.photos.pixels import write_pixels

OPTIONS = {"size": 32, "max_megapixels": 10, "drop_unreadable": False}


def index_of(root):
    return build_index(root, layout="auto", classes=CLASSES, n_folds=4, held_out=0.1, seed=0)[0]


def written(index, root, folder, **options):
    files = folder / "pixels.npy", folder / "pixels.csv"
    dropped = write_pixels(index, root, *files, **{**OPTIONS, **options})
    return np.load(files[0]), read_csv(files[1], dtype=str), dropped


def test_each_distinct_image_is_one_row_in_the_order_of_content_ids(tmp_path):
    root = fold_tree(tmp_path / "data", images=12)
    array, table, dropped = written(index_of(root), root, tmp_path)
    assert (array.shape, array.dtype, array.flags.c_contiguous, dropped) == ((12, 32, 32, 3), np.uint8, True, 0)
    assert list(table) == ["image", "path"]
    assert table["image"].is_monotonic_increasing
    for row in (0, 7):
        with Image.open(root / table["path"][row]) as image:
            expected = np.asarray(image.resize((32, 32), Image.Resampling.LANCZOS))
        assert np.array_equal(array[row], expected)


def test_a_repeated_run_writes_the_same_bytes(tmp_path):
    root = fold_tree(tmp_path / "data")
    contents = []
    for _ in range(2):
        written(index_of(root), root, tmp_path)
        contents.append([(tmp_path / name).read_bytes() for name in ("pixels.npy", "pixels.csv")])
    assert contents[0] == contents[1]


def test_unreadable_images_are_all_named_and_the_old_files_stay(tmp_path):
    root = class_tree(tmp_path / "data")
    written(index_of(root), root, tmp_path)
    before = (tmp_path / "pixels.npy").read_bytes(), (tmp_path / "pixels.csv").read_bytes()
    for name in ("one", "two"):
        (root / f"normal/{name}.jpg").write_text(name)
    with pytest.raises(DataError, match="2 images cannot be read") as caught:
        written(index_of(root), root, tmp_path)
    assert "normal/one.jpg" in str(caught.value)
    assert "normal/two.jpg" in str(caught.value)
    assert before == ((tmp_path / "pixels.npy").read_bytes(), (tmp_path / "pixels.csv").read_bytes())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "pixels.csv", "pixels.npy"]


def test_dropped_images_leave_no_gap(tmp_path):
    root = class_tree(tmp_path / "data")
    whole, _, _ = written(index_of(root), root, tmp_path)
    for name in ("one", "two"):
        (root / f"normal/{name}.jpg").write_text(name)
    array, table, dropped = written(index_of(root), root, tmp_path, drop_unreadable=True)
    assert (len(array), len(table), dropped) == (24, 24, 2)
    assert np.array_equal(array, whole)


def test_a_folder_without_one_readable_image_is_refused_even_when_dropping(tmp_path):
    root = class_tree(tmp_path / "data")
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        path.write_text(f"no image {number}")
    with pytest.raises(DataError, match="not one image"):
        written(index_of(root), root, tmp_path, drop_unreadable=True)


def test_a_run_killed_half_way_leaves_the_old_files(tmp_path):
    root = class_tree(tmp_path / "data")
    index = index_of(root)
    written(index, root, tmp_path)
    before = (tmp_path / "pixels.npy").read_bytes(), (tmp_path / "pixels.csv").read_bytes()
    write_csv(tmp_path / "index.csv", pd.concat([index, index.assign(fold=9)]))
    child = f"""
import os, signal
from pathlib import Path
from glaucoma.photos import pixels
from glaucoma.base.index import read_index

folder, load, calls = Path({str(tmp_path)!r}), pixels.load_cropped, []

def load_and_die(*args, **options):
    calls.append(1)
    if len(calls) == 12:
        os.kill(os.getpid(), signal.SIGKILL)
    return load(*args, **options)

pixels.load_cropped = load_and_die
pixels.write_pixels(read_index(folder / "index.csv"), folder / "data", folder / "pixels.npy", folder / "pixels.csv",
                    size=64, max_megapixels=10, drop_unreadable=False)
"""
    done = subprocess.run([sys.executable, "-c", child], check=False, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert before == ((tmp_path / "pixels.npy").read_bytes(), (tmp_path / "pixels.csv").read_bytes())


def test_no_thread_is_at_work_any_more_when_what_they_do_is_given_up():
    begun, ended = [], []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.01)
        ended.append(item)
        return item

    results = in_threads(work, range(1000), "work")
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert sorted(begun) == sorted(ended)
    assert len(begun) < 100
