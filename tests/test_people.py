"""People: recognised from the columns of label tables and from file names."""

import pandas as pd
import pytest
from trees import CLASSES, class_tree, jpeg, labelled, labels_tree

from glaucoma.base.errors import DataError
from glaucoma.dataset.intake import build_index
from glaucoma.dataset.layouts import scan
from glaucoma.dataset.people import with_people

OPTIONS = {"layout": "auto", "classes": CLASSES, "n_folds": 3, "held_out": 0.15, "seed": 0}


def told(*paths, **columns):
    table = pd.DataFrame({"path": paths, "condition": [path.split("/")[0] for path in paths], **columns})
    return with_people(table)


def pairs(pattern, people=6):
    """Both eyes of several people, named by a pattern with fields n and eye, half of them in each class."""
    for number in range(people):
        for eye in ("L", "R"):
            word, code = {"L": ("left", "OS"), "R": ("right", "OD")}[eye]
            name = pattern.format(n=number + 10, eye=eye, word=word, code=code)
            yield f"{'normal' if number % 2 else 'abnormal'}/{name}.jpg"


@pytest.mark.parametrize(
    "pattern",
    ["{n}_{word}", "{n}_{code}", "P0{n}_{eye}_2", "RET0{n}{code}", "{word}_{n}", "patient {n} {code}", "00{n}/{word}"],
)
def test_names_that_mark_the_eye_tell_the_person(pattern):
    table, people, both = told(*pairs(pattern))
    assert (people, both) == (6, 6)
    assert table.groupby("patient")["eye"].agg(lambda eyes: "+".join(sorted(eyes))).unique().tolist() == ["OD+OS"]


@pytest.mark.parametrize("pattern", ["P{n}/IMG_{eye}x", "sub-{n}/scan{eye}", "subject_{n}_{eye}1"])
def test_a_word_for_a_person_in_a_name_or_a_folder_tells_the_person(pattern):
    assert told(*pairs(pattern))[1] == 6


@pytest.mark.parametrize(
    "pattern",
    ["IMG_{n}", "Im{n}_g_ACRIMA", "EyePACS-TRAIN-RG-{n}", "g00{n}", "drishtiGS_0{n}", "{n}_g", "r1_Im0{n}", "{n}_left"],
)
def test_names_of_images_tell_no_people(pattern):
    """Nor do names that all mark the same eye: there is no pair."""
    paths = [f"{'normal' if number % 2 else 'abnormal'}/{pattern.format(n=number)}.jpg" for number in range(10, 40)]
    table, people, _ = told(*paths)
    assert people == 0
    assert "patient" not in table


def test_people_are_told_only_where_most_names_do():
    few = list(pairs("{n}_{word}", people=2))
    assert told(*few, *(f"normal/IMG_{number}.jpg" for number in range(9)))[1] == 0


def test_where_every_folder_counts_from_one_people_of_two_folders_are_different():
    paths = [f"{condition}/{number}_{eye}.jpg" for condition in CLASSES for number in "123" for eye in ("OD", "OS")]
    assert told(*paths)[1] == 3 * len(CLASSES)


def test_each_source_is_judged_by_itself():
    clinic, other = list(pairs("{n}_{word}")), [f"normal/IMG_{number}.jpg" for number in range(30)]
    table, people, _ = told(*clinic, *other, source=["clinic"] * len(clinic) + ["other"] * len(other))
    assert people == 6
    assert (table["patient"][table["source"] == "other"] == "").all()


def test_folds_keep_people_together_by_their_names_unless_told_not_to(tmp_path, capsys):
    for number, path in enumerate(pairs("{n}_{word}", people=20)):
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(jpeg(number))
    index, metrics = build_index(tmp_path, **OPTIONS)
    assert (metrics["patients"], metrics["both_eyes"]) == (20, 20)
    assert (index.groupby(["fold", "patient"])["split"].nunique() == 1).all()
    assert "20 people, 20 with both eyes" in capsys.readouterr().err
    index, metrics = build_index(tmp_path, **OPTIONS, patients="none")
    assert "patient" not in index
    assert metrics["patients"] is None


@pytest.mark.parametrize("column", ["patient_id", "PatientID", "subject", "id_patient", "Patient No", "paciente"])
def test_a_column_of_patients_is_known_by_its_usual_names(tmp_path, column):
    rows = [
        {**row, column: f"p{number // 2}", "laterality": "RL"[number % 2]} for number, row in enumerate(labelled(8))
    ]
    table = scan(labels_tree(tmp_path, rows), "auto", CLASSES).table
    assert table["patient"].tolist() == [f"p{number // 2}" for number in range(8)]
    assert table["eye"].tolist() == ["OD", "OS"] * 4


def test_columns_that_are_not_used_are_named_and_one_can_be_chosen(tmp_path, capsys):
    root = labels_tree(tmp_path, labelled(8, visit=lambda number: 50, dossier=lambda number: number // 2))
    assert "patient" not in scan(root, "auto", CLASSES).table
    assert "labels.csv: columns that are not used: visit, dossier" in capsys.readouterr().err
    assert scan(root, "auto", CLASSES, "dossier").table["patient"].nunique() == 4
    with pytest.raises(DataError, match=r"data\.patients' column, file.*visit, dossier"):
        scan(root, "auto", CLASSES, "file")
    with pytest.raises(DataError, match=r"data\.patients' column"):
        scan(class_tree(tmp_path / "classes"), "auto", CLASSES, "dossier")


def test_a_table_of_patients_beside_class_folders_is_joined_to_their_images(tmp_path, capsys):
    root = class_tree(tmp_path / "classes", images=24)
    rows = [
        f"{path.name},{number // 3},{'OD' if number % 2 else 'OS'},60"
        for number, path in enumerate(sorted(root.rglob("*.jpg")))
    ]
    (root / "patients.csv").write_text("\n".join(["file,patient id,eye,age", *rows[:-1], "gone.jpg,99,OD,60"]))
    (root / "visits.csv").write_text("patient id,visits\n1,2\n")
    listing = scan(root, "auto", CLASSES)
    assert listing.layout == "classes"
    assert listing.table["patient"].nunique() == 9  # 8, and the image that is not in the table
    assert set(listing.table["eye"]) == {"OD", "OS", ""}
    assert "patients are those of patients.csv (image from file, patient from patient id)" in capsys.readouterr().err
    assert [path.name for path, _, _ in listing.left_out] == ["visits.csv"]
    assert "patient" not in scan(root, "auto", CLASSES, "none").table
