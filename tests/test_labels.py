"""Common spellings of classes, label tables of any name and shape, and files left out."""

import unicodedata

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageDraw
from trees import CLASSES, class_tree, jpeg, labelled, labels_tree, picture

from glaucoma.base.errors import DataError
from glaucoma.base.files import read_csv
from glaucoma.dataset.beside import mask_looks
from glaucoma.dataset.intake import build_index
from glaucoma.dataset.layouts import scan
from glaucoma.dataset.spelling import condition_of

EXPECTED = ["normal", "abnormal"] * 3


@pytest.mark.parametrize(
    ("name", "condition"),
    [
        *((name, "normal") for name in ("non_glaucoma", "Non-Glaucoma", "NoGlaucoma", "glaucoma_negative", "1_normal")),
        *((name, "normal") for name in ("Healthy", "sano", "no_glaucoma", "Sin glaucoma", "normal images", "controls")),
        *((name, "abnormal") for name in ("glaucomatous", "Glaucoma_Positive", "2-glaucoma", "glaucoma_images")),
        *((name, None) for name in ("suspect", "glaucoma_suspect", "cataract", "images", "train", "2021")),
    ],
)
def test_usual_spellings_of_the_classes_are_known(name, condition):
    assert condition_of(name, CLASSES) == condition


def test_what_data_classes_says_counts_before_any_spelling():
    assert condition_of("Control", {**CLASSES, "control": "ignore"}) == "ignore"
    assert condition_of("glaucoma suspect", {**CLASSES, "glaucoma_suspect": "ignore"}) == "ignore"


def images(root, suffix=".jpg"):
    """Six images, the odd ones abnormal, without a table."""
    return labels_tree(root, [{**row, "image": f"images/{n}{suffix}"} for n, row in enumerate(labelled(6))])


TABLES = {
    "data.csv": "image,label\nimages/{n}.jpg,{n_odd}\n",
    "truth.tsv": "file\tdiagnosis\n{n}.jpg\t{name}\n",
    "bare.csv": "\ufefffilename;glaucoma\n{n};{n_odd}.0\n",
    "one_hot.csv": "id,N,D,G\n{n}.jpg,{n_even},0,{n_odd}\n",
    "words.csv": "sep=;\nimagen;Glaucoma\n{n}.JPG;{answer}\n",
    "quoted.csv": 'image, label\n"elsewhere/images/{n}.jpg", "{name}"\n',
    "lists.csv": "ID,filename,labels\n{n},{n}.jpg,['{letter}']\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_label_table_of_any_name_and_shape_is_read(tmp_path, name):
    root = images(tmp_path)
    (root / "labels.csv").unlink()
    *head, row, _ = TABLES[name].split("\n")
    rows = [
        row.format(n=n, n_odd=n % 2, n_even=1 - n % 2, name=EXPECTED[n], answer=("No", "Sí")[n % 2], letter="NG"[n % 2])
        for n in range(6)
    ]
    (root / name).write_text("\n".join([*head, *rows, ""]), encoding="utf-8")
    listing = scan(root, "auto", CLASSES)
    assert listing.layout == "labels"
    assert listing.table.sort_values("path")["condition"].tolist() == EXPECTED
    assert not listing.left_out


def test_a_spreadsheet_is_read_and_floats_are_labels(tmp_path):
    root = images(tmp_path)
    (root / "labels.csv").unlink()
    pd.DataFrame({"Image": [f"{n}.jpg" for n in range(6)], "Label": [0.0, 1.0] * 3}).to_excel(
        root / "x.xlsx", index=False
    )
    assert scan(root, "auto", CLASSES).table["condition"].tolist() == EXPECTED


def test_a_name_in_another_unicode_form_finds_its_file_and_an_ambiguous_one_is_told(tmp_path):
    rows = [{**row, "image": unicodedata.normalize("NFD", f"Müller {n}.jpg")} for n, row in enumerate(labelled(4))]
    root = labels_tree(tmp_path / "a", rows)
    table = (root / "labels.csv").read_text("utf-8")
    (root / "labels.csv").write_text(unicodedata.normalize("NFC", table), "utf-8")
    assert len(scan(root, "auto", CLASSES).table) == 4
    rows = [{**row, "image": f"{folder}/eye {n}.jpg"} for folder in "xy" for n, row in enumerate(labelled(4))]
    root = labels_tree(tmp_path / "b", rows)
    (root / "labels.csv").write_text("image,label\neye 0.jpg,0\ny/eye 1.jpg,1\n")
    with pytest.raises(DataError, match=r"several files have; give its folder:\n    line 2: eye 0\.jpg"):
        scan(root, "auto", CLASSES)


def test_a_table_that_says_no_class_is_named_with_what_it_lacks(tmp_path):
    root = images(tmp_path)
    (root / "labels.csv").rename(root / "notes.csv")
    (root / "notes.csv").write_text("filename,age\n0.jpg,50\n")
    with pytest.raises(DataError, match=r"notes\.csv: has no column label \(columns: filename, age\)"):
        scan(root, "auto", CLASSES)


def test_the_column_of_images_is_known_by_its_cells_whatever_its_name(tmp_path):
    root = images(tmp_path)
    (root / "labels.csv").unlink()
    rows = "".join(f"{n},{n}.jpg,{EXPECTED[n]}\n" for n in range(6))
    (root / "list.csv").write_text(f"ID,Left-Fundus,class\n{rows}".replace(".jpg", ""))
    (root / "list.csv").write_text(f"case number,Left-Fundus,class\n{rows}")
    assert scan(root, "auto", CLASSES).table.sort_values("path")["condition"].tolist() == EXPECTED


def test_a_row_per_person_with_a_column_for_each_eye_is_refused_since_a_label_is_of_one_eye(tmp_path):
    root = images(tmp_path)
    (root / "labels.csv").unlink()
    (root / "people.csv").write_text("PatientID,OD,OS,Diagnosis\n1,0.jpg,1.jpg,glaucoma\n2,2.jpg,3.jpg,normal\n")
    with pytest.raises(DataError, match=r"people\.csv: names images in the columns OD and OS: give each image a row"):
        scan(root, "auto", CLASSES)


def test_folders_of_numbers_are_no_classes_where_a_table_has_the_labels(tmp_path):
    root = class_tree(tmp_path / "data", names=("0", "1"))
    assert scan(root, "auto", CLASSES).layout == "classes"
    names = sorted(path.name for path in root.rglob("*.jpg"))
    rows = "".join(f"{name},{('RG', 'NRG')[n % 2]}\n" for n, name in enumerate(names))
    (root / "train_labels.csv").write_text(f"challenge_id,class\n{rows}")
    listing = scan(root, "auto", CLASSES)
    assert listing.layout == "labels"
    assert listing.table.sort_values("path")["condition"].tolist() == ["abnormal", "normal"] * 12


def test_second_copies_and_masks_of_the_same_name_leave_a_name_in_a_table_clear(tmp_path):
    root = images(tmp_path)
    (root / "labels.csv").unlink()
    rows = "".join(f"{n}.jpg,{n % 2}\n" for n in range(6))
    (root / "G1020.csv").write_text(f"imageID,binaryLabels\n{rows}")
    for folder in ("Masks", "NerveRemoved_Images", "Images_Cropped/img"):
        (root / folder).mkdir(parents=True)
        (root / folder / "0.jpg").write_bytes(jpeg(7))
    assert len(scan(root, "auto", CLASSES).table) == 6


def test_a_class_that_is_ignored_is_left_out_counted_and_listed(tmp_path):
    root = class_tree(tmp_path / "data")
    (root / "suspect").mkdir()
    (root / "suspect/eye.jpg").write_bytes(jpeg(1))
    with pytest.raises(DataError, match="ignore"):
        scan(root, "auto", CLASSES)
    options = {"layout": "auto", "n_folds": None, "held_out": 0, "seed": 0, "left_out": tmp_path / "left_out.csv"}
    _, metrics = build_index(root, classes={**CLASSES, "suspect": "ignore"}, **options)
    assert (metrics["images"], metrics["ignored_images"]) == (24, 1)
    assert read_csv(tmp_path / "left_out.csv").to_dict("records") == [
        {"path": "suspect/eye.jpg", "kind": "ignored", "reason": "folder suspect, which data.classes leaves out"}
    ]
    root = labels_tree(tmp_path / "labels", labelled(6))
    with (root / "labels.csv").open("a") as file:
        file.write("extra.jpg,suspect\n")
    (root / "extra.jpg").write_bytes(jpeg(2))
    listing = scan(root, "auto", {**CLASSES, "suspect": "ignore"})
    assert (len(listing.table), dict(listing.counts())) == (6, {"ignored": 1})


def drawing(path, shades, size=400, **options):
    image = Image.new("L", (size, size), shades[0])
    for inset, shade in zip((150, 175), shades[1:], strict=False):
        ImageDraw.Draw(image).ellipse((inset, inset, size - inset, size - inset), fill=shade)
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


def test_masks_are_left_out_by_name_by_folder_and_by_look(tmp_path):
    root = class_tree(tmp_path, images=8, size=400)
    drawing(root / "normal/normal000_mask.png", (0, 255))
    drawing(root / "normal/overlay/normal001.png", (0, 255))
    drawing(root / "abnormal/abnormal000_x.png", (255, 128, 0))
    drawing(root / "masks/a.png", (0, 255))
    listing = scan(root, "auto", CLASSES)
    assert (len(listing.table), dict(listing.counts())) == (8, {"mask": 4})


def test_a_mask_is_told_from_a_photograph_by_its_look(tmp_path):
    masks = [drawing(tmp_path / f"{n}.{suffix}", (0, 255), size=800) for n, suffix in enumerate(("png", "bmp", "jpg"))]
    masks += [drawing(tmp_path / "classes.png", (0, 1, 2)), drawing(tmp_path / "three.jpg", (255, 128, 0), size=800)]
    photographs = []
    for number, gain in enumerate((1, 0.3, 0.05)):
        for suffix in ("jpg", "bmp"):
            path = tmp_path / f"eye{number}.{suffix}"
            field = np.hypot(*(np.mgrid[:256, :256] - 128))[..., None] < 120
            Image.fromarray((np.asarray(picture(number)) * field * gain).astype(np.uint8)).save(path)
            photographs.append(path)
    Image.new("RGB", (200, 200)).save(tmp_path / "blank.png")
    large = tmp_path / "large.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 300, 3), np.uint8)).save(large)
    paths = [*masks, *photographs, tmp_path / "blank.png", *[large] * 20]
    assert mask_looks(paths) == set(masks)


def test_a_row_that_names_no_file_is_told_with_the_file_that_nearly_has_its_name(tmp_path):
    root = labels_tree(tmp_path, [{"image": f"images/Ojo_{n}.jpg", "label": "normal"} for n in range(3)])
    names = ("images/ojo_0.png", "fotos/Ojo_1.jpeg", "'Ojo_2.jpg'", "Müller_3.jpg")
    rows = "".join(f"{name},{label}\n" for name, label in zip(names, EXPECTED, strict=False))
    (root / "labels.csv").write_bytes(f"image,label\n{rows}".encode("cp1252"))
    with pytest.raises(DataError) as caught:
        scan(root, "labels", CLASSES)
    for n, name in enumerate(names[:3]):
        assert f"{name} (there is images/Ojo_{n}.jpg)" in str(caught.value)
    assert r"M\xfcller_3.jpg\n" in str(caught.value).replace("\n", r"\n")
    assert 'save it as "CSV UTF-8"' in str(caught.value)


def test_pictures_that_are_not_read_are_told_by_suffix_and_class(tmp_path, capsys):
    root = class_tree(tmp_path, images=24)
    for n, path in enumerate(sorted((root / "abnormal").iterdir())[:5]):
        path.rename(path.with_suffix(".jp2" if n else ".gif"))
    (root / "readme.txt").write_text("no picture")
    scan(root, "auto", CLASSES)
    said = capsys.readouterr().err
    assert "pictures are left out for their suffix: 4 .jp2, 1 .gif of abnormal (read are .bmp" in said
    for path in (root / "abnormal").glob("*.jpg"):
        path.rename(path.with_suffix(".jp2"))
    with pytest.raises(
        DataError, match=r"no images of a class(.|\n)*not read for their suffix: 11 .jp2, 1 .gif(.|\n)*PNG"
    ):
        scan(root, "classes", CLASSES)
