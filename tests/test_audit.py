import json
import os
import re
import shutil

import pandas as pd
import pytest
from conftest import run_glaucoma, run_stage
from PIL import Image, ImageOps
from trees import CLASSES, CONDITIONS, ROOT, class_tree, fold_tree, jpeg, labelled, labels_tree, params_for, retina

from glaucoma.audit.checks import LINKS, PHOTOGRAPH_CHECKS, Case
from glaucoma.audit.gate import audit, gate, told
from glaucoma.base.errors import AuditError, DataError, ParamsError
from glaucoma.base.files import read_csv
from glaucoma.dataset.intake import build_index


def index_of(root, n_folds=4):
    return build_index(root, layout="auto", classes=CLASSES, n_folds=n_folds, held_out=0.1, seed=0)[0]


def findings_of(root, n_folds=4, **options):
    return audit(index_of(root, n_folds), root, params_for(root, **options))


def of(findings, name):
    return [one for one in findings.found if one.finding == name]


def some(root, folder):
    return min((root / folder).iterdir())


def test_a_clean_tree_passes_and_its_copies_are_said_in_words(tmp_path):
    findings = findings_of(fold_tree(tmp_path))
    gate(findings, tmp_path / "findings.csv")
    assert [one.message for one in findings.found] == [
        "36 files are 12 images, each in three folds",
        "6 normal and 6 abnormal images, 50.0% abnormal; in the splits 50.0% to 50.0%",
    ]
    assert findings.metrics()["errors"] == 0


def test_an_unreadable_file_is_named_with_its_fault(tmp_path):
    root = fold_tree(tmp_path)
    (root / "Fold1/train/normal/mail.jpg").write_text("Dear colleague")
    (root / "Fold2/test/normal/empty.jpg").write_bytes(b"")
    (root / "Fold0/test/normal/icon.jpg").write_bytes(jpeg(1, size=1))
    findings = findings_of(root)
    assert [(one.where, one.message.split(":")[0].split(" (")[0]) for one in of(findings, "unreadable")] == [
        ("Fold0/test/normal/icon.jpg", "1 × 1 pixels"),
        ("Fold1/train/normal/mail.jpg", "no image"),
        ("Fold2/test/normal/empty.jpg", "empty"),
    ]
    with pytest.raises(AuditError, match=r"mail\.jpg: no image") as caught:
        gate(findings, tmp_path / "findings.csv")
    assert "data.unreadable to drop" in str(caught.value)


def test_of_many_unreadable_files_twenty_are_shown_and_the_rest_counted(tmp_path):
    root = class_tree(tmp_path)
    for number in range(25):
        (root / f"normal/bad{number:02}.jpg").write_text(f"no image {number}")
    with pytest.raises(AuditError) as caught:
        gate(findings_of(root), tmp_path / "findings.csv")
    assert "unreadable, 25 times" in str(caught.value)
    assert "bad19.jpg" in str(caught.value)
    assert f"… and 5 more, all in {tmp_path / 'findings.csv'}" in str(caught.value)
    assert "bad20.jpg" not in str(caught.value)


def test_unreadable_files_that_are_dropped_are_a_warning_and_counted(tmp_path):
    root = fold_tree(tmp_path)
    (root / "Fold1/train/normal/mail.jpg").write_text("Dear colleague")
    findings = findings_of(root, unreadable="drop")
    gate(findings, tmp_path / "findings.csv")
    metrics = findings.metrics()
    assert (metrics["unreadable"], metrics["dropped"], metrics["errors"], metrics["warnings"]) == (1, 1, 0, 1)


def test_a_split_that_loses_a_class_by_dropping_stops_the_pipeline(tmp_path):
    root = fold_tree(tmp_path)
    path = some(root, "Fold0/valid/abnormal")
    path.unlink()
    path.write_text("no image")
    (one,) = of(findings_of(root, unreadable="drop"), "split_without_class")
    assert (one.severity, one.where) == ("error", "fold 0, valid")


def test_an_image_in_two_splits_of_a_fold_is_a_leak(tmp_path):
    root = fold_tree(tmp_path)
    shutil.copy(some(root, "Fold1/train/normal"), root / "Fold1/test/normal/copy.jpg")
    (one,) = of(findings_of(root), "split_leak")
    assert (one.severity, one.where, one.count) == ("error", "fold 1", 2)
    assert "in test as Fold1/test/normal/copy.jpg and in train as Fold1/train/normal/" in one.message


def test_an_image_twice_in_one_split_is_a_warning(tmp_path):
    root = fold_tree(tmp_path)
    shutil.copy(some(root, "Fold1/train/normal"), root / "Fold1/train/normal/copy.jpg")
    findings = findings_of(root)
    (one,) = of(findings, "repeated_in_split")
    assert (one.severity, one.where) == ("warning", "fold 1")
    assert findings.errors == []


def test_copies_in_drawn_folds_are_one_warning_for_all_folds(tmp_path):
    root = class_tree(tmp_path)
    shutil.copy(some(root, "normal"), root / "normal/copy.jpg")
    (one,) = of(findings_of(root), "repeated_in_split")
    assert one.where == "folds 0, 1, 2, 3"


def test_many_findings_of_a_kind_hide_no_others_and_errors_come_first(tmp_path):
    root = class_tree(tmp_path)
    for number, path in enumerate(sorted((root / "normal").iterdir())[:6]):
        shutil.copy(path, root / f"normal/copy{number}.jpg")
    shutil.copy(some(root, "normal"), root / "abnormal/wrong.jpg")
    lines = told(findings_of(root, waive=["label_conflict"]), tmp_path / "findings.csv").strip().split("\n    ")
    assert lines[0].startswith("waived error, label_conflict, abnormal/wrong.jpg: ")
    assert sum(line.startswith("warning, repeated_in_split") for line in lines) == 2
    assert f"… and 4 more of repeated_in_split, all in {tmp_path / 'findings.csv'}" in lines
    assert "info, copies, all folds: 31 files are 24 images, each in four folds" in lines


def test_an_image_of_both_classes_is_a_conflict_even_across_folds(tmp_path):
    root = fold_tree(tmp_path)
    shutil.copy(some(root, "Fold1/train/normal"), root / "Fold2/train/abnormal/copy.jpg")
    findings = findings_of(root)
    (one,) = of(findings, "label_conflict")
    assert (one.severity, one.count) == ("error", 4)
    assert "in abnormal as Fold2/train/abnormal/copy.jpg and in normal as " in one.message


def test_a_patient_in_two_splits_of_a_fold_is_a_leak(tmp_path):
    root = labels_tree(tmp_path, labelled(24, patient=lambda number: f"p{number}" if number else ""))
    index = index_of(root)
    assert of(audit(index, root, params_for(root)), "patient_leak") == []
    index.loc[index["condition"] == "abnormal", "patient"] = "p3"  # in every split of every fold
    leaks = of(audit(index, root, params_for(root)), "patient_leak")
    assert leaks
    assert {one.severity for one in leaks} == {"error"}
    assert leaks[0].where.endswith("patient p3")


def test_a_recompressed_copy_is_a_leak_and_a_conflict_and_is_listed(tmp_path):
    root = fold_tree(tmp_path, size=256)
    with Image.open(some(root, "Fold1/train/normal")) as photo:
        photo.save(root / "Fold1/test/abnormal/copy.jpg", quality=60)
        ImageOps.mirror(photo).save(root / "Fold1/train/normal/mirrored.jpg", quality=90)
    findings = findings_of(root)
    (conflict,) = of(findings, "near_label_conflict")
    (leak,) = of(findings, "near_split_leak")
    assert (conflict.severity, leak.severity, leak.where) == ("error", "error", "fold 1")
    assert "test: Fold1/test/abnormal/copy.jpg" in leak.message
    assert of(findings, "near_duplicate")
    assert of(findings, "mirrored_duplicate")
    assert set(findings.duplicates["cluster"]) == {findings.duplicates["cluster"].iloc[0]}


def photographs(root, **named):
    """A folder per class, of photographs by name; returns the folder."""
    for name, image in named.items():
        folder = root / name.partition("_")[0]
        folder.mkdir(parents=True, exist_ok=True)
        image.save(folder / f"{name}.png")
    return root


def test_different_retinas_in_the_same_frame_pass_the_audit(tmp_path):
    eyes = {f"{CONDITIONS[seed % 2]}_{seed}": retina(seed) for seed in range(10)}
    findings = findings_of(photographs(tmp_path, **eyes), n_folds=None)
    gate(findings, tmp_path / "findings.csv")
    assert findings.duplicates.empty
    assert of(findings, "poor_photograph") == []


def test_a_conflict_names_two_files_that_were_compared_and_no_ends_of_a_chain(tmp_path):
    index = pd.DataFrame(
        {
            "path": ["a.png", "b.png", "c.png"],
            "image": ["a", "b", "c"],
            "condition": ["normal", "normal", "abnormal"],
            "fold": 0,
            "split": ["train", "train", "test"],
        }
    )
    links = pd.DataFrame([("a", "b", False, 0, 0.9), ("b", "c", False, 0, 0.7)], columns=[*LINKS[-2:], *LINKS[2:5]])
    case = Case(index, {}, drop_unreadable=False, links=links, clusters=dict.fromkeys("abc", 1))
    (conflict,), (leak,) = (PHOTOGRAPH_CHECKS[name](case) for name in ("near_label_conflict", "near_split_leak"))
    assert conflict.message.endswith("abnormal: c.png, normal: b.png")
    assert leak.message.endswith("test: c.png, train: b.png")
    assert (conflict.count, leak.where) == (2, "fold 0")


def test_an_upside_down_copy_under_the_other_label_is_a_conflict(tmp_path):
    eyes = {f"{CONDITIONS[seed % 2]}_{seed}": retina(seed) for seed in range(10)}
    eyes["abnormal_copy"] = ImageOps.flip(eyes["normal_4"])
    findings = findings_of(photographs(tmp_path, **eyes), n_folds=None)
    (conflict,) = of(findings, "near_label_conflict")
    assert "abnormal: abnormal/abnormal_copy.png, normal: normal/normal_4.png" in conflict.message
    (pair,) = of(findings, "mirrored_duplicate")
    assert "shows the same retina, upside down (correlation 1.00)" in pair.message


@pytest.mark.parametrize(("collection", "pairs"), [("eyepacs_half", 1), ("acrima", 3)])
def test_real_photographs_have_the_copies_they_have_and_no_others(collection, pairs):
    root = ROOT.parent / "shared/data" / collection
    if not root.is_dir():
        pytest.skip(f"{root.name} is not here")
    findings = findings_of(root)
    assert findings.errors == []
    assert len(findings.duplicates) == pairs
    assert not [one for one in of(findings, "poor_photograph") if one.message.startswith("no-fundus")]


def test_a_waived_error_passes_and_is_recorded(tmp_path):
    root = fold_tree(tmp_path)
    shutil.copy(some(root, "Fold1/train/normal"), root / "Fold1/test/normal/copy.jpg")
    findings = findings_of(root, waive=["split_leak"])
    gate(findings, tmp_path / "findings.csv")
    metrics, table = findings.metrics(), findings.table()
    assert (metrics["split_leak"], metrics["waived"], metrics["errors"]) == (1, 1, 0)
    assert table.set_index("finding")["waived"].to_dict() == {
        "split_leak": "yes",
        "test_overlap": "no",
        "copies": "no",
        "class_balance": "no",
    }


def test_waiving_one_finding_leaves_the_others_standing(tmp_path):
    root = fold_tree(tmp_path)
    shutil.copy(some(root, "Fold1/train/normal"), root / "Fold1/test/abnormal/copy.jpg")
    with pytest.raises(AuditError, match="label_conflict") as caught:
        gate(findings_of(root, waive=["split_leak"]), tmp_path / "findings.csv")
    assert "split_leak" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "hint"),
    [("split_leek", "known are: split_leak, label_conflict"), ("unreadable", "data.unreadable to drop")],
)
def test_a_name_that_cannot_be_waived_is_refused_before_any_work(name, hint, tmp_path):
    with pytest.raises(ParamsError, match=name) as caught:
        audit(pd.DataFrame(), tmp_path, params_for(tmp_path, waive=[name]))
    assert hint in str(caught.value)


def test_an_image_that_changed_since_it_was_listed_is_told_apart_from_a_damaged_one(tmp_path):
    root = class_tree(tmp_path)
    index = index_of(root)
    some(root, "normal").write_bytes(jpeg(4711))
    with pytest.raises(DataError, match=r"normal000\.jpg has changed"):
        audit(index, root, params_for(root))
    some(root, "normal").unlink()
    with pytest.raises(DataError, match=r"normal000\.jpg is gone"):
        audit(index, root, params_for(root))


@pytest.fixture
def checkout(tmp_path):
    """A folder with the project's parameters and a tree of odd names in it."""
    text = (ROOT / "params.yaml").read_text().replace("root: data/sample ", 'root: "my photos" ')
    text = re.sub(r"  folds: .*\n(    - \d+\n)+", "  folds: [0, 1, 2]\n", text)
    (tmp_path / "params.yaml").write_text(text)
    root = fold_tree(tmp_path / "my photos")
    for number, name in enumerate(["á b.jpg", "two\nlines.jpg", os.fsdecode(b"latin\xe9\r.jpg")]):
        (root / "Fold0/train/normal" / name).write_bytes(jpeg(900 + number))
    return tmp_path


def test_the_whole_intake_runs_on_any_name(checkout):
    for stage in ("index", "audit", "pixels"):
        run_stage(stage, checkout)
    assert b"latin\xe9\r.jpg" in (checkout / "data/index.csv").read_bytes()
    assert len(read_csv(checkout / "data/pixels.csv")) == 15
    assert "39 files are 15 images" in (checkout / "reports/audit/findings.csv").read_text(errors="surrogateescape")
    assert '"errors": 0' in (checkout / "metrics/audit.json").read_text()


def test_the_audit_writes_its_files_before_it_stops_the_pipeline(checkout, capsys):
    (checkout / "my photos/Fold0/test/normal" / os.fsdecode(b"b\xe9\n.jpg")).write_text("no image")
    run_stage("index", checkout)
    run_stage("audit", checkout, code=AuditError.exit_code)
    assert r"Fold0/test/normal/b\xe9\n.jpg: no image" in capsys.readouterr().err
    assert "no image" in (checkout / "reports/audit/findings.csv").read_text(errors="surrogateescape")
    assert '"unreadable": 1' in (checkout / "metrics/audit.json").read_text()
    assert (checkout / "reports/audit/offenders.png").is_file()


def test_a_folder_is_audited_without_the_pipeline(tmp_path, monkeypatch, capsys):
    root = class_tree(tmp_path / "photos", size=256)
    shutil.copy(some(root, "normal"), root / "abnormal/copy.jpg")
    monkeypatch.chdir(tmp_path)  # no params.yaml there
    assert run_glaucoma("audit", root, "--output", tmp_path / "out") == AuditError.exit_code
    done = capsys.readouterr()
    assert done.out.count("label_conflict, abnormal/copy.jpg") == 1
    assert "find out which label is right" in done.out
    assert "label_conflict" not in done.err
    assert '"near_split_leak": 0' in (tmp_path / "out/audit.json").read_text()
    assert {file.name for file in (tmp_path / "out").glob("*.png")} == {"probes.png"}
    code = run_glaucoma("audit", root, "--output", tmp_path / "out", "--json")
    told = json.loads(capsys.readouterr().out)
    assert (code, told["errors"], told["findings"][0]["finding"]) == (4, 1, "label_conflict")
