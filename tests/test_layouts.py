import os
import shutil

import pytest
from trees import CLASSES, class_tree, fold_tree, jpeg, labelled, labels_tree, write_labels

from glaucoma.base.errors import DataError
from glaucoma.dataset.layouts import scan
from glaucoma.dataset.spelling import condition_of


def refusal(root, layout="auto", classes=CLASSES):
    with pytest.raises(DataError) as caught:
        scan(root, layout, classes)
    return str(caught.value)


def test_a_ten_fold_tree_is_read_with_its_folds_and_splits(tmp_path):
    listing = scan(fold_tree(tmp_path, images=12, folds=3), "auto", CLASSES)
    assert listing.layout == "folds"
    assert listing.table.groupby(["fold", "split", "condition"]).size().unstack("split").loc[0].to_dict("index") == {
        "normal": {"test": 2, "train": 3, "valid": 1},
        "abnormal": {"test": 2, "train": 3, "valid": 1},
    }
    assert all((tmp_path / path).is_file() for path in listing.table["path"])


def test_class_folders_are_read_by_name_in_any_case_and_nested_at_will(tmp_path):
    root = class_tree(tmp_path, images=8, names=("NORMAL", "glaucoma"))
    (root / "glaucoma/left/2021").mkdir(parents=True)
    (root / "glaucoma/left/2021/eye.PNG").write_bytes(jpeg(99))
    listing = scan(root, "auto", CLASSES)
    assert listing.layout == "classes"
    assert dict(zip(listing.table["path"], listing.table["condition"], strict=True))["glaucoma/left/2021/eye.PNG"] == (
        "abnormal"
    )
    assert (listing.table["condition"] == "normal").sum() == 4


def test_an_exact_class_name_wins_over_one_in_another_case():
    classes = {"RG": "abnormal", "rg": "normal"}
    assert (condition_of("rg", classes), condition_of("RG", classes), condition_of("Rg", classes)) == (
        "normal",
        "abnormal",
        None,
    )


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_labels_csv_is_read_in_any_column_order_and_with_any_usual_delimiter(tmp_path, delimiter):
    rows = [
        {"source": "ACRIMA", "label": row["label"], "patient": f"{number:03}", "image": row["image"]}
        for number, row in enumerate(labelled(6))
    ]
    listing = scan(labels_tree(tmp_path, rows, delimiter=delimiter), "auto", CLASSES)
    assert listing.layout == "labels"
    assert listing.table["patient"].tolist() == ["000", "001", "002", "003", "004", "005"]
    assert set(listing.table["source"]) == {"ACRIMA"}
    assert listing.table["condition"].tolist() == ["normal", "abnormal"] * 3


def test_labels_csv_may_name_images_absolutely_with_backslashes_or_as_excel_saves_it(tmp_path):
    rows = labelled(4)
    root = labels_tree(tmp_path, rows)
    names = [
        rows[0]["image"],
        str(root / rows[1]["image"]),
        rows[2]["image"].replace("/", "\\"),
        f" {rows[3]['image']}",
    ]
    text = "\r\n".join(["Image;Label", *(f"{name};{row['label']}" for name, row in zip(names, rows, strict=True)), ""])
    for encoding in ("utf-8-sig", "utf-16"):
        (root / "labels.csv").write_bytes(text.encode(encoding))
        assert scan(root, "auto", CLASSES).table["path"].tolist() == [row["image"] for row in rows]


def test_junk_is_ignored_silently_and_other_files_are_counted(tmp_path):
    root = class_tree(tmp_path, images=8)
    for name in ("Thumbs.db", ".DS_Store", "._normal000.jpg", "desktop.ini"):
        (root / "normal" / name).write_bytes(b"x")
    (root / ".hidden").mkdir()
    (root / ".hidden/eye.jpg").write_bytes(jpeg(1))
    (root / "normal/notes.txt").write_text("x")
    (root / "readme.md").write_text("x")
    listing = scan(root, "auto", CLASSES)
    assert (len(listing.table), listing.counts()["file"]) == (8, 2)


def test_a_fold_tree_may_hold_other_files_and_folders(tmp_path):
    root = fold_tree(tmp_path)
    (root / "truth.csv").write_text("x")
    (root / "labels.csv").write_text("x")
    (root / "extra").mkdir()
    (root / "extra/eye.jpg").write_bytes(jpeg(1))
    (root / "Fold0/train/eye.jpg").write_bytes(jpeg(1))
    listing = scan(root, "auto", CLASSES)
    assert (len(listing.table), listing.counts()["file"]) == (36, 4)


def test_images_without_a_label_are_counted(tmp_path):
    root = labels_tree(tmp_path, labelled(6))
    (root / "images/new.jpg").write_bytes(jpeg(77))
    listing = scan(root, "auto", CLASSES)
    assert (len(listing.table), dict(listing.counts())) == (6, {"unlabelled": 1})


def test_a_missing_root_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    message = refusal(tmp_path.joinpath("nowhere").relative_to(tmp_path))
    assert f"nowhere, does not exist (looked for from {tmp_path})" in message
    assert "set data.root" in message


def test_a_root_that_is_a_file_or_empty_or_without_layout_is_refused(tmp_path):
    (tmp_path / "file").write_text("x")
    assert "is a file" in refusal(tmp_path / "file")
    (tmp_path / "empty").mkdir()
    assert "is empty" in refusal(tmp_path / "empty")
    (tmp_path / "loose").mkdir()
    (tmp_path / "loose/eye.jpg").write_bytes(jpeg(1))
    assert "neither FoldK folders nor labels.csv nor class folders (1 image" in refusal(tmp_path / "loose")


def test_a_root_that_links_to_itself_is_refused(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "data.root" in refusal(tmp_path / "loop")


@pytest.mark.parametrize(("layout", "asked"), [("folds", "Fold0"), ("labels", "labels.csv")])
def test_a_layout_that_is_asked_for_must_be_there(tmp_path, layout, asked):
    assert asked in refusal(class_tree(tmp_path), layout)


def test_all_missing_splits_are_named(tmp_path):
    root = fold_tree(tmp_path)
    shutil.rmtree(root / "Fold0/valid")
    (root / "Fold2/test").rename(root / "Fold2/tst")
    message = refusal(root)
    assert "Fold0 has no folder valid (there: test, train)" in message
    assert "Fold2 has no folder test (there: train, tst, valid)" in message


def test_a_split_that_is_there_twice_is_refused_and_not_half_read(tmp_path):
    root = fold_tree(tmp_path)
    (root / "Fold1/Test").mkdir()
    assert "Fold1 has two folders test (there: Test, test, train, valid)" in refusal(root)


def test_a_fold_that_is_there_twice_is_refused(tmp_path):
    root = fold_tree(tmp_path)
    (root / "fold_01").mkdir()
    assert "Fold1 and fold_01" in refusal(root)


def test_a_class_folder_of_another_name_is_named_with_the_known_ones(tmp_path):
    root = fold_tree(tmp_path / "folds")
    (root / "Fold1/test/abnormal").rename(root / "Fold1/test/sick")
    message = refusal(root)
    assert "Fold1/test/sick (2 images)" in message
    assert "known: normal, abnormal, glaucoma" in message
    assert "data.classes" in message
    assert "suspect" in refusal(class_tree(tmp_path / "classes", names=("normal", "suspect")))


def test_a_layout_is_found_below_folders_that_an_archive_brings(tmp_path):
    fold_tree(tmp_path / "a/archive")
    listing = scan(tmp_path / "a", "auto", CLASSES)
    assert (listing.layout, len(listing.table)) == ("folds", 36)
    for part in ("train", "test"):  # a folder nested in one of the same name, as in some archives
        class_tree(tmp_path / "b/archive/Dataset" / part / part, images=8, names=("Non Glaucoma", "1_glaucoma"))
    (tmp_path / "b/readme.txt").write_text("x")
    listing = scan(tmp_path / "b", "auto", CLASSES)
    assert (listing.layout, len(listing.table), dict(listing.counts())) == ("sources", 16, {"file": 1})
    assert "source" not in listing.table
    assert all((tmp_path / "b" / path).is_file() for path in listing.table["path"])


def test_an_unknown_class_within_a_source_is_named_and_not_the_source(tmp_path):
    class_tree(tmp_path / "r1", names=("Normal", "Deep"))
    class_tree(tmp_path / "r2", names=("Normal", "Glaucoma"))
    assert "r1/Deep (12 images)" in refusal(tmp_path)


def test_a_class_without_images_is_named_with_its_place(tmp_path):
    root = fold_tree(tmp_path / "folds")
    shutil.rmtree(root / "Fold1/valid/abnormal")
    assert "Fold1/valid: abnormal" in refusal(root)
    root = class_tree(tmp_path / "classes")
    shutil.rmtree(root / "normal")
    assert "no images of a class" in refusal(root)


def test_links_in_a_circle_are_survived_and_said(tmp_path, capsys):
    root = class_tree(tmp_path, images=8)
    (root / "normal/again").symlink_to(root / "normal")
    (root / "abnormal/self").symlink_to(root / "abnormal/self")
    (root / "abnormal/up").symlink_to(root)
    listing = scan(root, "auto", CLASSES)
    assert listing.table["path"].is_unique
    assert "normal/again" in capsys.readouterr().err


def test_links_that_lead_nowhere_are_all_named(tmp_path):
    root = class_tree(tmp_path, images=8)
    for name in ("a.jpg", "b.jpg"):
        (root / "normal" / name).symlink_to(root / "gone.jpg")
    message = refusal(root)
    assert "2 images" in message
    assert "normal/a.jpg" in message
    assert "normal/b.jpg" in message


def test_all_faults_of_labels_csv_are_told_at_once(tmp_path):
    root = labels_tree(tmp_path / "data", labelled(12))
    (tmp_path / "outside.jpg").write_bytes(jpeg(1))
    (root / "images/film.avi").write_bytes(b"x")
    bad = [
        {"image": "images/eye 000.jpg", "label": "0"},
        {"image": "images/../images/eye 001.jpg", "label": "1"},
        {"image": "images/eye 002.jpg", "label": ""},
        {"image": "images/eye 003.jpg", "label": "maybe"},
        {"image": "images/film.avi", "label": "1"},
        {"image": "../outside.jpg", "label": "1"},
        {"image": str(tmp_path / "outside.jpg"), "label": "1"},
        {"image": "", "label": "1"},
    ]
    gone = [{"image": f"gone{number}.jpg", "label": "1"} for number in range(13)]
    write_labels(root, [*labelled(2), *bad, *gone])
    message = refusal(root)
    for part in (
        "2 rows whose image is listed before",
        "line 4: images/eye 000.jpg (line 2)",
        "1 row without a label:\n    line 6: images/eye 002.jpg",
        "1 row with an unknown label (known: 0, 1, abnormal, glaucoma, normal):",
        "line 7: images/eye 003.jpg is 'maybe'",
        "1 row whose image has another suffix",
        "2 rows whose image lies outside data.root:\n    line 9: ../outside.jpg",
        "1 row without an image",
        "13 rows whose image is not on disk:\n    line 12: gone0.jpg",
        "line 21: gone9.jpg\n    … and 3 more",
    ):
        assert part in message, message


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "is empty, so it has no column image and label"),
        ("eyes,label\na.jpg,1\n", "has no column image (columns: eyes, label)"),
        ("image,label,label\na.jpg,1,1\n", "has two columns label"),
        ("image,label\n", "lists no images"),
        ("image,label\na.jpg,1,1\n", "more cells than the header"),
        ('image,label\n"a.jpg,1\n', "not on disk"),
        ("image,label\na\0.jpg,1\n", "labels.csv"),
    ],
)
def test_a_malformed_labels_csv_is_a_sentence(tmp_path, text, fault):
    root = labels_tree(tmp_path, labelled(4))
    (root / "labels.csv").write_text(text)
    assert fault in refusal(root)


def test_names_in_messages_cannot_fool_a_terminal(tmp_path):
    root = class_tree(tmp_path, images=8)
    odd = os.fsdecode(b"x\x1b[2J\n\xe9\xe2\x80\xae")
    (root / odd).mkdir()
    (root / odd / "eye.jpg").write_bytes(jpeg(1))
    assert r"x\x1b[2J\n\xe9\u202e (1 image" in refusal(root)
