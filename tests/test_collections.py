"""Trees laid out like published collections, with our own photographs."""

import json
import os
import zlib

import numpy as np
import pandas as pd
import pytest
from trees import CLASSES, class_tree, fold_tree, jpeg, labelled, labels_tree, photograph, write_labels

from glaucoma.audit.checks import overlaps
from glaucoma.base.errors import DataError
from glaucoma.base.files import write_csv
from glaucoma.dataset.folds import draw_folds, folds_table
from glaucoma.dataset.intake import build_index
from glaucoma.dataset.layouts import scan

OPTIONS = {"layout": "auto", "classes": CLASSES, "n_folds": 3, "held_out": 0.15, "seed": 0}


def put(root, *names):
    """Write a different photograph under each name, in the format of its suffix."""
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(zlib.crc32(name.encode())).save(path)
    return root


def sheet(path, rows, title=()):
    """Write rows as a spreadsheet or CSV, below title rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    frame = pd.DataFrame([*title, *rows])
    if path.suffix == ".xlsx":
        frame.to_excel(path, header=False, index=False)
    else:
        frame.to_csv(path, header=False, index=False)


def acrima(root):
    return put(root, "Im001_ACRIMA.jpg", "Im310_g_ACRIMA.JPG", "Im002_ACRIMA.jpg", "Im702_g_ACRIMA.JPG")


def rim_one(root):
    top = "RIM-ONE_DL_images"
    for way in ("partitioned_randomly", "partitioned_by_hospital"):
        put(root, f"{top}/{way}/training_set/normal/r1_Im001.png", f"{top}/{way}/test_set/glaucoma/r3_Im002.png")
    return put(root, "RIM-ONE_DL_reference_segmentations/normal/r1_Im001-1-Disc-T.png")


def refuge(root):
    put(root, "Training400/Glaucoma/g0001.jpg", "Training400/Non-Glaucoma/n0001.jpg", "Validation400/V0001.jpg")
    put(root, "Validation400/V0002.jpg", "Test400/T0001.jpg", "Disc_Cup_Masks/Glaucoma/g0001.bmp")
    sheet(
        root / "Validation400-GT/Fovea_locations.xlsx",
        [["ID", "ImgName", "Fovea_X", "Fovea_Y", "Glaucoma Label"], [1, "V0001.jpg", 1.5, 2.5, 1]],
    )
    rows = [["ID", "ImgName", "Label(Glaucoma=1)", "Fovea_X", "Fovea_Y"], [1, "T0001.jpg", 0, 1.5, 2.5]]
    sheet(root / "REFUGE-Test-GT/Glaucoma_label_and_Fovea_location.xlsx", rows)
    return root


def refuge_as_kaggle_has_it(root):
    put(root, "train/Images/g0001.jpg", "train/Images_Square/g0001.jpg", "val/Images/V0001.jpg", "val/Masks/V0001.png")
    (root / "val/index.json").write_text(json.dumps({"0": {"ImgName": "V0001.jpg", "Fovea_X": 1.0, "Label": 0}}))
    return root


def drishti(root):
    put(root, "Training/Images/drishtiGS_002.png", "Test/Images/drishtiGS_001.png", "Training/GT/x/drishtiGS_002.png")
    title = [["Drishti-GS1", "", ""], ["", "", ""], ["Sl. No", "Drishti-GS File", "Marking 1"]]
    rows = [["Sl. No", "Drishti-GS File", "Total"], ["", "", ""]]
    rows += [[1, "drishtiGS_001'", "Normal"], [2, "drishtiGS_002'", "Glaucomatous"]]
    sheet(root / "Drishti-GS1_diagnosis.xlsx", rows, title)
    return root


def origa(root):
    put(root, "Images/001.jpg", "Images/002.jpg", "Masks/001.png", "Images_Cropped/001.jpg")
    header = ["Eye", "Filename", "ExpCDR", "Set", "CDR", "Glaucoma"]
    rows = [header, ["OD", "001.jpg", 0.7, "A", 0.7, 0], ["OS", "002.jpg", 0.8, "B", 0.8, 1]]
    sheet(root / "OrigaList.csv", rows)
    return root


def papila(root):
    put(root, *(f"FundusImages/RET00{number}{eye}.jpg" for number in (2, 4, 5) for eye in ("OD", "OS")))
    for eye, diagnoses in {"od": (0, 1, 2), "os": (0, 0, 1)}.items():
        rows = [["", "Age", "Gender", "Diagnosis"], ["ID", "", "", ""], ["", "", "", ""]]
        rows += [[f"#00{number}", 60, 0, found] for number, found in zip((2, 4, 5), diagnoses, strict=True)]
        sheet(root / f"ClinicalData/patient_data_{eye}.xlsx", rows)
    return root


def airogs(root):
    put(root, "train/RG/EyePACS-TRAIN-RG-1.jpg", "train/NRG/EyePACS-TRAIN-NRG-1.jpg", "test/NRG/EyePACS-TEST-NRG-1.jpg")
    return put(root, "validation/RG/EyePACS-DEV-RG-1.jpg")


def smdg(root):
    names = ["PAPILA-1", "REFUGE1-TRAIN-2", "BEH-3"]
    put(root, *(f"full-fundus/full-fundus/{name}.png" for name in names), "optic-disc/optic-disc/PAPILA-1.png")
    rows = [[name, f"/full-fundus/{name}.png", found] for name, found in zip(names, (0, 1, -1), strict=True)]
    sheet(root / "metadata - standardized.csv", [["names", "fundus", "types"], *rows])
    return root


SHAPES = {  # images by class, number left out; sources
    acrima: ((2, 2, 0), {"ACRIMA"}),
    rim_one: ((1, 1, 0), {"RIM-ONE DL r1", "RIM-ONE DL r3"}),
    refuge: ((2, 2, 1), {"REFUGE"}),
    refuge_as_kaggle_has_it: ((1, 1, 0), {"REFUGE"}),
    drishti: ((1, 1, 0), {"Drishti-GS"}),
    origa: ((1, 1, 0), {"ORIGA"}),
    papila: ((3, 2, 1), {"PAPILA"}),
    airogs: ((2, 2, 0), {"EyePACS-AIROGS-light"}),
    smdg: ((1, 1, 1), {"PAPILA", "REFUGE1-TRAIN"}),
}


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: shape.__name__)
def test_a_published_collection_is_recognised_and_labelled(tmp_path, shape):
    listing = scan(shape(tmp_path), "auto", CLASSES)
    counts = listing.table["condition"].value_counts()
    (normal, abnormal, left_out), sources = SHAPES[shape]
    assert listing.layout == "collection"
    assert (counts["normal"], counts["abnormal"], listing.counts()["unlabelled"]) == (normal, abnormal, left_out)
    assert set(listing.table["source"]) == sources


def test_rim_one_has_all_three_releases_and_the_third_names_person_and_eye(tmp_path):
    names = ["normal/r1_Im001.png", "glaucoma/r2_Im004.png", "normal/r3_N-7-L_x.png", "normal/r3_N-7-R_x.png"]
    put(tmp_path, *(f"RIM-ONE_DL_images/partitioned_by_hospital/test_set/{name}" for name in names))
    table = scan(tmp_path, "auto", CLASSES).table.sort_values("path")
    assert table["source"].tolist() == ["RIM-ONE DL r2", "RIM-ONE DL r1", "RIM-ONE DL r3", "RIM-ONE DL r3"]
    assert table["patient"].tolist() == ["", "", "N-7", "N-7"]
    assert table["eye"].tolist() == ["", "", "OS", "OD"]


def test_refuge_s_validation_images_may_lie_in_class_folders(tmp_path):
    put(tmp_path, "Training400/Glaucoma/g0001.jpg", "Training400/Non-Glaucoma/n0001.jpg")
    put(tmp_path, "Validation400/Glaucoma/V0001.jpg", "Validation400/Non-Glaucoma/V0002.jpg")
    listing = scan(tmp_path, "auto", CLASSES)
    assert set(listing.table["source"]) == {"REFUGE"}
    assert listing.table["condition"].value_counts().to_dict() == {"normal": 2, "abnormal": 2}


def test_smdg_s_patients_and_eyes_are_read(tmp_path):
    names = ["PAPILA-1", "PAPILA-2", "BEH-3"]
    put(tmp_path, *(f"full-fundus/{name}.png" for name in names))
    rows = [
        ["names", "types", "patient_id", "eye"],
        [names[0], 0, 7, "OD"],
        [names[1], 1, 7, "OS"],
        [names[2], 0, "", ""],
    ]
    sheet(tmp_path / "metadata - standardized.csv", rows)
    table = scan(tmp_path, "auto", CLASSES).table.sort_values("path")
    assert table[["patient", "eye"]].to_numpy().tolist() == [["", ""], ["7", "OD"], ["7", "OS"]]


def test_each_image_of_a_table_has_its_own_label(tmp_path):
    table = scan(papila(tmp_path), "auto", CLASSES).table.set_index("path")
    told = table[["condition", "source", "patient", "eye", "age", "sex"]]
    assert told.loc["FundusImages/RET004OD.jpg"].tolist() == ["abnormal", "PAPILA", "RET004", "OD", "60", "0"]
    assert told.loc["FundusImages/RET004OS.jpg"].tolist()[:4] == ["normal", "PAPILA", "RET004", "OS"]
    assert "FundusImages/RET005OD.jpg" not in table.index


def test_both_eyes_of_a_patient_are_of_one_split(tmp_path):
    eyes = {f"FundusImages/RET{number:03}{eye}.jpg": number % 2 for number in range(24) for eye in ("OD", "OS")}
    put(tmp_path, *eyes)
    for eye in ("od", "os"):
        rows = [["", "Age", "Diagnosis"], *([f"#{number:03}", 50, number % 2] for number in range(24))]
        sheet(tmp_path / f"ClinicalData/patient_data_{eye}.xlsx", rows)
    index, _ = build_index(tmp_path, **OPTIONS)
    assert set(index["eye"]) == {"OD", "OS"}
    assert (index.groupby(["fold", "patient"])["split"].nunique() == 1).all()


def test_a_table_that_is_damaged_or_has_another_label_is_a_sentence(tmp_path):
    root = origa(tmp_path / "a")
    sheet(root / "OrigaList.csv", [["Filename", "Glaucoma"], ["001.jpg", 0], ["002.jpg", 7]])
    with pytest.raises(DataError, match=r"ORIGA has labels other than 0, 1:\n    Images/002\.jpg is '7'"):
        scan(root, "auto", CLASSES)
    root = papila(tmp_path / "b")
    (root / "ClinicalData/patient_data_od.xlsx").write_bytes(b"PK no archive")
    with pytest.raises(DataError, match="cannot be read as a table"):
        scan(root, "auto", CLASSES)


def test_a_collection_asked_for_must_be_one(tmp_path):
    with pytest.raises(DataError, match="none of the collections known"):
        scan(class_tree(tmp_path), "collection", CLASSES)


def test_folders_of_several_sources_merge_into_one_index(tmp_path):
    acrima(tmp_path / "ACRIMA")
    papila(tmp_path / "PAPILA")
    class_tree(tmp_path / "our clinic", images=12)
    labels_tree(
        tmp_path / "other", labelled(12, patient=lambda number: number // 2, source=lambda number: "x"[number % 2 :])
    )
    listing = scan(tmp_path, "auto", CLASSES)
    assert listing.layout == "sources"
    assert listing.table["source"].value_counts().to_dict() == {
        "our clinic": 12,
        "x": 6,
        "other": 6,
        "PAPILA": 5,
        "ACRIMA": 4,
    }
    assert "other/0" in set(listing.table["patient"])
    index, metrics = build_index(tmp_path, **OPTIONS)
    assert metrics["files"] == 33
    assert (index[index["patient"] != ""].groupby(["fold", "patient"])["split"].nunique() == 1).all()


def test_a_collection_does_not_swallow_the_smaller_source_beside_it(tmp_path):
    """Not even if its images have similar names, which would get the collection's labels."""
    put(tmp_path / "a/ACRIMA", *(f"Im{number:03}{'_g' * (number % 2)}_ACRIMA.jpg" for number in range(20)))
    class_tree(tmp_path / "a/our clinic", images=4)
    assert set(scan(tmp_path / "a", "auto", CLASSES).table["source"]) == {"ACRIMA", "our clinic"}
    origa(tmp_path / "b/ORIGA")
    rows = [{"image": "001.jpg", "label": "1"}, {"image": "002.jpg", "label": "0"}]
    labels_tree(tmp_path / "b/our clinic", rows)
    labels = scan(tmp_path / "b", "auto", CLASSES).table.set_index("path")["condition"].to_dict()
    assert labels == {
        "ORIGA/Images/001.jpg": "normal",
        "ORIGA/Images/002.jpg": "abnormal",
        "our clinic/001.jpg": "abnormal",
        "our clinic/002.jpg": "normal",
    }


def test_somebody_s_own_split_is_no_source_and_a_patient_in_two_parts_stays_one(tmp_path, capsys):
    for part in ("train", "val"):
        labels_tree(tmp_path / part, labelled(4, patient=str))
    table = scan(tmp_path, "auto", CLASSES).table
    assert len(table) == 8
    assert "source" not in table
    assert set(table["patient"]) == set("0123")
    assert "train and val are read as parts of one source" in capsys.readouterr().err


def test_a_collection_in_parts_is_one_source(tmp_path):
    for part in ("train", "test"):
        put(tmp_path, f"{part}/RG/EyePACS-{part}-RG-1.jpg", f"{part}/NRG/EyePACS-{part}-NRG-1.jpg")
    assert set(scan(tmp_path, "auto", CLASSES | {"RG": "abnormal", "NRG": "normal"}).table["source"]) == {
        "EyePACS-AIROGS-light"
    }


def test_a_fold_tree_cannot_be_merged(tmp_path):
    acrima(tmp_path / "ACRIMA")
    fold_tree(tmp_path / "report")
    with pytest.raises(DataError, match="report has folds of its own"):
        scan(tmp_path, "sources", CLASSES)


def test_folds_are_alike_in_class_and_source():
    rows = [(condition, source) for condition in ("normal", "abnormal") for source in "ab" for _ in range(20)]
    table = pd.DataFrame(rows, columns=["condition", "source"]).assign(image=lambda t: t.index.astype(str), path="")
    drawn = draw_folds(table, n_folds=4, held_out=0.1, seed=3)
    counts = drawn[drawn["split"] == "test"].groupby(["fold", "condition", "source"]).size()
    assert (counts == 5).all()


def test_near_duplicates_of_one_cluster_stay_together():
    table = pd.DataFrame({"condition": ["normal", "abnormal"] * 30}).assign(
        image=lambda t: t.index.astype(str), path=""
    )
    clusters = np.arange(60) // 4
    drawn = draw_folds(table, n_folds=3, held_out=0.15, seed=0, clusters=clusters)
    drawn["cluster"] = np.tile(clusters, 3)
    assert (drawn.groupby(["fold", "cluster"])["split"].nunique() == 1).all()


def test_frozen_folds_hold_whatever_the_seed_and_the_number_of_folds(tmp_path):
    root = class_tree(tmp_path / "data")
    first, _ = build_index(root, **OPTIONS)
    write_csv(root / "folds.csv", folds_table(first))
    again, metrics = build_index(root, **{**OPTIONS, "seed": 9, "n_folds": 5})
    pd.testing.assert_frame_equal(again, first)
    assert metrics["ignored_files"] == 0


def test_frozen_folds_of_other_images_or_that_part_a_patient_are_refused(tmp_path):
    root = class_tree(tmp_path / "data")
    kept = folds_table(build_index(root, **OPTIONS)[0])
    write_csv(root / "folds.csv", kept)
    (root / "normal/new.jpg").write_bytes(jpeg(77))
    with pytest.raises(DataError, match=r"made for other images:\n    normal/new\.jpg is not in it"):
        build_index(root, **OPTIONS)
    labels = labels_tree(tmp_path / "labels", labelled(24))
    write_csv(labels / "folds.csv", folds_table(build_index(labels, **OPTIONS)[0]))
    write_labels(labels, labelled(24, patient=lambda number: number // 8))
    with pytest.raises(DataError, match="on two sides of a fold"):
        build_index(labels, **OPTIONS)
    (labels / "folds.csv").write_text("a,b\n1,2\n")
    with pytest.raises(DataError, match="holds no folds"):
        build_index(labels, **OPTIONS)


def test_an_image_that_two_folds_test_on_is_told():
    index = pd.DataFrame({"image": list("abab"), "fold": [0, 0, 1, 1], "split": ["test", "train", "test", "test"]})
    assert overlaps(index.assign(path="x.jpg")) == [
        ("test of folds 0, 1", 1, "1 image tested on more than once, as x.jpg")
    ]
    assert overlaps(index.assign(path="x.jpg", split="train")) == []


@pytest.mark.slow
def test_fifty_thousand_files_in_one_folder_are_indexed(tmp_path):
    root = class_tree(tmp_path, images=40)
    sources = sorted((root / "normal").iterdir())
    for number in range(50_000):
        os.link(sources[number % len(sources)], root / f"normal/link{number:05}.jpg")
    index, metrics = build_index(root, **OPTIONS)
    assert (metrics["files"], metrics["images"]) == (50_040, 40)
    assert len(index) == 3 * 50_040
