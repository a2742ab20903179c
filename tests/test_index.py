import hashlib
import os
import shutil

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from trees import CLASSES, class_tree, fold_tree, jpeg, labelled, labels_tree

from glaucoma.base.errors import DataError
from glaucoma.base.files import write_csv
from glaucoma.base.index import distinct, read_index
from glaucoma.dataset.folds import draw_folds, groups_of
from glaucoma.dataset.intake import build_index

OPTIONS = {"layout": "auto", "classes": CLASSES, "n_folds": 4, "held_out": 0.1, "seed": 0}


def index_of(root, **options):
    return build_index(root, **{**OPTIONS, **options})


def drawn(count, *, seed=0, patient=None, copies=0):
    """A listing of `count` images with drawn folds; the first `copies` are the same image."""
    rows = range(count)
    table = pd.DataFrame({"path": [f"{row:03}.jpg" for row in rows], "image": [str(max(row, copies)) for row in rows]})
    table["condition"] = np.where((table["image"].astype(int) // 3) % 2, "abnormal", "normal")
    if patient:
        table["patient"] = [patient(row) for row in rows]
    return draw_folds(table, n_folds=4, held_out=0.1, seed=seed)


def test_every_file_of_a_fold_tree_is_listed_once_and_known_by_its_bytes(tmp_path):
    index, metrics = index_of(fold_tree(tmp_path))
    assert list(index) == ["path", "fold", "split", "condition", "image", "width", "height"]
    assert metrics == {
        "layout": "folds",
        "files": 36,
        "images": 12,
        "folds": 3,
        "normal": 6,
        "abnormal": 6,
        "patients": None,
        "both_eyes": None,
        "ignored_files": 0,
        "unlabelled_images": 0,
        "ignored_images": 0,
        "masks": 0,
    }
    row = index.iloc[17]
    assert row["image"] == hashlib.sha256((tmp_path / row["path"]).read_bytes()).hexdigest()
    assert (row["width"], row["height"]) == (48, 48)
    order = ["fold", "split", "condition", "path"]
    assert index.equals(index.sort_values(order, ignore_index=True))


def test_copies_and_hard_links_give_the_same_index(tmp_path):
    fold_tree(tmp_path / "links")
    shutil.copytree(tmp_path / "links", tmp_path / "copies")
    assert index_of(tmp_path / "links")[0].equals(index_of(tmp_path / "copies")[0])


def test_files_of_equal_size_are_told_apart_by_their_bytes(tmp_path):
    root = class_tree(tmp_path, images=16)
    first, second = root / "normal/normal000.jpg", root / "normal/normal001.jpg"
    content = bytearray(first.read_bytes())
    content[-3] ^= 1
    second.write_bytes(content)
    assert index_of(root, n_folds=2, held_out=0.3)[1]["images"] == 16


def test_an_unreadable_file_is_indexed_without_a_size(tmp_path):
    root = class_tree(tmp_path)
    (root / "normal/bad.jpg").write_text("no image")
    write_csv(tmp_path / "index.csv", index_of(root)[0])
    index = read_index(tmp_path / "index.csv")
    bad = index[index["path"] == "normal/bad.jpg"]
    assert len(bad) == 4
    assert bad[["width", "height"]].isna().all(axis=None)
    assert str(index["width"].dtype) == "Int64"


def test_the_index_is_read_back_as_it_was_written(tmp_path):
    rows = labelled(24, patient=lambda number: ["", "007", "NA"][number % 3] and f"00{number}")
    index, _ = index_of(labels_tree(tmp_path / "data", rows))
    write_csv(tmp_path / "index.csv", index)
    again = read_index(tmp_path / "index.csv")
    pd.testing.assert_frame_equal(again, index)
    assert again["patient"].iloc[0] == "" or again["patient"].iloc[0].startswith("00")


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.lists(st.binary(min_size=1, max_size=20).filter(lambda name: 0 not in name), min_size=1, max_size=5))
def test_any_name_a_file_system_allows_survives_the_index(tmp_path_factory, names):
    paths = [os.fsdecode(name) for name in names]
    cells = {"fold": 0, "split": "test", "condition": "normal", "image": "a", "patient": paths, "width": 1, "height": 1}
    file = tmp_path_factory.mktemp("names") / "index.csv"
    write_csv(file, pd.DataFrame({"path": paths, **cells}))
    assert read_index(file)[["path", "patient"]].values.tolist() == [[path, path] for path in paths]


def test_odd_names_pass_through_the_index(tmp_path):
    root = class_tree(tmp_path / "data")
    odd = [
        "an eye.jpg",
        "ojo izquierdo ñ.jpg",
        "two\nlines.jpg",
        "a\rb.jpg",
        'quo"te,.jpg',
        os.fsdecode(b"latin\xe9.jpg"),
    ]
    for number, name in enumerate(odd):
        (root / "normal" / name).write_bytes(jpeg(500 + number))
    write_csv(tmp_path / "index.csv", index_of(root)[0])
    listed = set(read_index(tmp_path / "index.csv")["path"])
    assert {f"normal/{name}" for name in odd} <= listed
    assert all((root / path).is_file() for path in listed)


def test_a_file_that_cannot_be_opened_is_named(tmp_path):
    root = class_tree(tmp_path)
    (root / "normal/bad.jpg").symlink_to(root / "nowhere.jpg")
    with pytest.raises(DataError, match=r"normal/bad\.jpg"):
        index_of(root)


def test_a_missing_or_foreign_index_is_a_sentence(tmp_path):
    with pytest.raises(DataError, match="dvc repro"):
        read_index(tmp_path / "index.csv")
    (tmp_path / "index.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="lacks the columns path"):
        read_index(tmp_path / "index.csv")
    (tmp_path / "index.csv").write_text("path,fold\na,b\n")
    with pytest.raises(DataError, match="is no index"):
        read_index(tmp_path / "index.csv")


def test_drawn_test_sets_are_disjoint_cover_all_images_and_leave_valid_its_share():
    table = drawn(120)
    tests = table[table["split"] == "test"]
    assert sorted(tests["path"]) == sorted(set(table["path"]))
    for _, fold in table.groupby("fold"):
        assert len(fold) == 120
        counts = fold.groupby(["split", "condition"]).size()
        assert counts["valid"].to_dict() == {"abnormal": 6, "normal": 6}
        assert counts["test"].max() - counts["test"].min() <= 1


def test_each_fold_draws_its_own_valid():
    table = drawn(120)
    valid = table[table["split"] == "valid"].groupby("fold")["path"].agg(frozenset)
    assert valid.nunique() == 4


def test_images_of_a_patient_stay_together_and_so_do_duplicates():
    table = drawn(120, patient=lambda row: f"p{row // 3}" if row >= 12 else "", copies=6)
    for key in ("image", "patient"):
        known = table[table[key] != ""]
        assert (known.groupby(["fold", key])["split"].nunique() == 1).all()


def test_patients_who_share_a_duplicate_stay_together():
    table = pd.DataFrame({"image": list("abbcd"), "patient": ["1", "1", "2", "2", ""]})
    groups = groups_of(table)
    assert len(set(groups[:4])) == 1
    assert groups[4] != groups[0]


def test_images_without_a_patient_are_not_one_patient():
    assert len(set(groups_of(pd.DataFrame({"image": list("abcd"), "patient": ["", "", "p", "p"]})))) == 3


def test_folds_are_decided_by_the_seed_and_not_by_the_order_of_files(tmp_path):
    rows = labelled(40, patient=lambda number: number // 2)
    first = index_of(labels_tree(tmp_path / "a", rows))[0]
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    lines = (tmp_path / "b/labels.csv").read_text().splitlines(keepends=True)
    (tmp_path / "b/labels.csv").write_text("".join([lines[0], *reversed(lines[1:])]))
    assert index_of(tmp_path / "b")[0].equals(first)
    assert not index_of(tmp_path / "a", seed=1)[0].equals(first)


def test_too_few_images_for_the_folds_are_counted_as_groups(tmp_path):
    rows = labelled(24, patient=lambda number: f"p{number % 6}")
    with pytest.raises(DataError, match=r"too few images for 4 folds") as caught:
        index_of(labels_tree(tmp_path, rows))
    assert "normal: 3 independent images" in str(caught.value)
    assert "crossval.n_folds" in str(caught.value)


def test_a_split_that_would_lack_a_class_is_refused(tmp_path):
    with pytest.raises(DataError, match="fold 0, valid: abnormal"):
        index_of(class_tree(tmp_path, images=8), n_folds=4, held_out=0.05)


def test_the_first_file_stands_for_an_image(tmp_path):
    index, _ = index_of(fold_tree(tmp_path))
    images = distinct(index)
    assert images["image"].is_monotonic_increasing
    assert images["image"].is_unique
    assert (images.set_index("image")["path"] == index.groupby("image")["path"].min()).all()
