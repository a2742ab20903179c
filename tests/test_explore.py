"""Tables, charts and the mosaic of the explore stage."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, run_stage
from PIL import Image
from trees import params_for, probes

from glaucoma.audit import overview as counts
from glaucoma.audit.exhibits import by_group, labelled, offenders, sample, write_found, write_sheet
from glaucoma.base import paths
from glaucoma.base.files import read_csv, write_csv
from glaucoma.base.index import copies_note, read_index
from glaucoma.report.data_charts import folds_chart, sizes_chart, splits_chart
from glaucoma.report.figures import draw_found, write_figures
from glaucoma.report.sheets import mosaic_figure, read_sheet
from glaucoma.report.style import plain_name

HOSTILE = [b"new\nline.jpg", b"$x^2_{a.jpg", "áéñ.jpg".encode(), b"\xff\xfe.jpg", b'a, "b".jpg', b"NA", b"x" * 120]


def photograph(path: Path, seed: int, size: tuple[int, int] = (48, 40)) -> str:
    """Write a small JPEG and return the SHA-256 of its bytes."""
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.fromarray(pixels).save(file, format="JPEG")
    return hashlib.sha256(path.read_bytes()).hexdigest()


def fold_tree(root: Path, images: int = 6, folds: int = 2) -> pd.DataFrame:
    """Write every image once per fold under a different name, as in the report's tree; return the index."""
    rows = []
    for k in range(images):
        condition = "abnormal" if k % 3 == 0 else "normal"
        for fold in range(folds):
            split = "test" if k % folds == fold else ("valid" if k == (fold + 1) % folds else "train")
            path = f"Fold{fold}/{split}/{condition}/{chr(97 + k)}{fold}.jpg"
            rows.append((path, fold, split, condition, photograph(root / path, k), 48, 40))
    return pd.DataFrame(rows, columns=["path", "fold", "split", "condition", "image", "width", "height"])


@pytest.fixture
def index(tmp_path):
    return fold_tree(tmp_path / "photographs")


def test_counts_are_the_reports_tables(index):
    table = counts.by_split(index).set_index("split")
    assert list(table.index) == ["test", "train", "valid", "total"]
    assert table.loc["total"].tolist() == [4, 8, 12]
    assert table.loc["test"].tolist() == [2, 4, 6]
    assert (table["abnormal"] + table["normal"] == table["total"]).all()
    folds = counts.by_fold(index)
    assert len(folds) == 2 * 3 * 2
    assert folds["count"].sum() == 12


def test_copies_are_counted_apart_from_images(index):
    table = counts.conditions(index).set_index("condition")
    assert table.loc["total", ["count", "images"]].tolist() == [12, 6]
    assert table.loc["abnormal", ["percent", "image_percent"]].tolist() == pytest.approx([100 / 3, 100 / 3])
    assert copies_note(index) == "12 files = 6 distinct images in 2 folds"


def test_the_overlap_is_what_other_folds_train_on_and_never_ones_own(index):
    shares = counts.overlap(index).pivot(index="fold", columns="trained_by", values="share")
    assert np.diag(shares).tolist() == [0, 0]
    assert 0 < shares.loc[0, 1] <= 1


def test_files_listed_in_every_fold_are_told_from_copies(index):
    drawn = index.drop_duplicates("image")
    drawn = pd.concat([drawn.assign(fold=fold) for fold in range(10)])
    assert copies_note(drawn) == "6 files = 6 distinct images in 10 folds, each file listed 10 times"


def test_the_base_table_has_the_reports_columns(index):
    table = counts.base_table(index, "data/photographs")
    assert list(table.columns) == ["ImgsPaths", "Folder", "Train_Test_Valid", "Condition"]
    assert table.iloc[0].tolist() == ["data/photographs/Fold0/test/abnormal/a0.jpg", "Fold0", "test", "abnormal"]
    assert len(table) == 5


def test_the_sample_is_balanced_has_no_copies_and_depends_on_the_seed_alone(index):
    chosen = sample(index, seed=1, each=2)
    assert chosen["condition"].tolist() == ["normal", "normal", "abnormal", "abnormal"]
    assert chosen["image"].is_unique
    assert chosen.equals(sample(index.sample(frac=1, random_state=3), seed=1, each=2))
    assert not chosen.equals(sample(index, seed=2, each=2))


def test_hostile_names_and_unreadable_files_are_drawn_without_a_word(tmp_path, recwarn):
    root, rows = tmp_path / "photographs", []
    for k, name in enumerate([*HOSTILE, b"empty.jpg", b"no-image.jpg", b"gone.jpg"]):
        path = root / os.fsdecode(name)
        readable = k < len(HOSTILE)
        if readable:
            photograph(path, k)
        elif name != b"gone.jpg":
            path.write_bytes(b"" if name == b"empty.jpg" else b"no image")
        size = (48, 40) if readable else (np.nan, np.nan)
        rows.append((os.fsdecode(name), 0, "train", ["normal", "abnormal"][k % 2], f"{k:064x}", *size))
    columns = ["path", "fold", "split", "condition", "image", "width", "height"]
    write_csv(tmp_path / "index.csv", pd.DataFrame(rows, columns=columns))
    index = read_index(tmp_path / "index.csv")
    assert sorted(index["path"]) == sorted(row[0] for row in rows)
    write_sheet(sample(index, 0), root, tmp_path / "sheet", 10)
    mosaic_figure(read_sheet(tmp_path / "sheet"), tmp_path / "mosaic.png", copies_note(index))
    with Image.open(tmp_path / "mosaic.png") as drawn:
        assert drawn.width > 1000
    assert copies_note(index).endswith("in 1 fold; 3 images unreadable")
    assert not [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)]


def test_charts_can_be_drawn_of_one_class_one_fold_and_nothing_readable(index, tmp_path):
    few = index[(index["condition"] == "normal") & (index["fold"] == 1)].assign(width=np.nan, height=np.nan)
    splits_chart(counts.by_split(few), tmp_path / "splits.png", copies_note(few))
    folds_chart(counts.by_fold(few), tmp_path / "folds.png", copies_note(few))
    sizes_chart(few, tmp_path / "sizes.png", 96)
    write_sheet(sample(few, 0), tmp_path / "nowhere", tmp_path / "sheet", 10)
    mosaic_figure(read_sheet(tmp_path / "sheet"), tmp_path / "mosaic.png", copies_note(few))
    assert len(list(tmp_path.glob("*.png"))) == 5


def test_a_group_without_photographs_has_an_empty_line(index):
    rows = by_group(index[~((index["split"] == "test") & (index["condition"] == "normal"))], "split", seed=0)
    empty = rows[rows["path"] == ""]
    assert ["test", "normal", 0] in empty[["group", "condition", "images"]].to_numpy().tolist()
    assert rows["line"].unique().tolist() == list(range(6))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb.jpg", r"a\nb.jpg"),
        (os.fsdecode(b"\xff.jpg"), r"\xff.jpg"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("日.jpg", r"\u65e5.jpg"),
        ("ñ$.jpg", "ñ$.jpg"),
        ("a" * 30 + ".jpeg", "aaaaaaaaaaa…aaaaa.jpeg"),
    ],
)
def test_a_name_becomes_one_short_printable_line(name, shown):
    assert plain_name(name) == shown
    assert len(plain_name(name * 9)) <= 22


@pytest.mark.slow
def test_the_stage_writes_the_same_bytes_each_time(tmp_path, capsys):
    project = tmp_path
    index = fold_tree(project / "photographs")
    write_csv(project / "data" / "index.csv", index)
    params = (ROOT / "params.yaml").read_text().replace("root: data/sample", "root: photographs")
    (project / "params.yaml").write_text(params)
    written = []
    for _ in range(2):
        run_stage("explore", project)
        assert "12 files = 6 distinct images in 2 folds" in capsys.readouterr().out
        files = sorted((project / "reports" / "explore").iterdir())
        written.append({file.name: file.read_bytes() for file in files})
    assert written[0] == written[1]
    assert sorted(written[0]) == [
        *["appearance.csv", "base_table.csv", "condition_by_split.csv", "conditions.csv", "folds.csv"],
        *["mosaic.csv", "mosaic.png", "mosaic_split.csv", "mosaic_split.png", "overlap.csv"],
    ]
    assert read_csv(project / "reports/explore/condition_by_split.csv")["total"].tolist() == [6, 4, 2, 12]


@pytest.mark.slow
def test_several_sources_a_crop_probes_and_what_the_audit_found_are_drawn_and_go_with_what_they_show(
    tmp_path, monkeypatch
):
    """Current findings are drawn, with the audit's file names; outdated figures are removed."""
    monkeypatch.chdir(tmp_path)
    root = Path("photographs")
    index = fold_tree(root).assign(source=lambda rows: [f"s{i // 2 % 2}" for i in range(len(rows))])
    odd = "Fold0/train/normal/\u202enew\nline.jpg"
    index.loc[len(index)] = [odd, 0, "train", "normal", photograph(root / odd, 99), 48, 40, "s0"]
    listed = index["path"].tolist()
    messages = ["blank: it shows nothing", "over-exposed: 90% of its pixels are saturated", "cut short"]
    found = pd.DataFrame({"where": [odd, listed[1], listed[2]], "message": messages})
    found.insert(0, "finding", ["poor_photograph", "poor_photograph", "unreadable"])
    poor = offenders(found, index)
    assert poor["path"].tolist() == [odd, listed[1], listed[2]]
    assert poor["fault"].tolist() == ["blank", "over-exposed", "unreadable"]

    pair = {"first_path": listed[0], "second_path": odd, "mirrored": True, "turned": 90, "correlation": 0.98}
    box = {"left": 4, "top": 4, "width": 20, "height": 20}
    boxes = index.drop_duplicates("image")[["image", "path"]].assign(**box, found=lambda rows: rows.index % 2 == 0)
    params, pairs = params_for(root, crop="disc"), pd.DataFrame([pair])
    for file, table in {
        paths.INDEX: index,
        paths.AUDIT / "findings.csv": found,
        paths.PROBES: probes(),
        paths.CROPS: boxes,
    }.items():
        write_csv(file, table)
    text = (ROOT / "params.yaml").read_text().replace("root: data/sample", "root: photographs")
    Path("params.yaml").write_text(text)
    written = []
    for _ in range(2):
        run_stage("explore", tmp_path)
        write_found(found, pairs, index, root, paths.AUDIT, params.data.max_megapixels)
        write_figures(params)
        written.append({file.stem: file.read_bytes() for file in paths.DATA_FIGURES.glob("*.png")})
    assert written[0] == written[1]
    photographs = {"crops", "mosaic", "mosaic_source", "mosaic_split", "duplicates", "offenders"}
    charts = {"appearance", "condition_by_split", "folds", "overlap", "probes", "sizes", "sizes_by_source"}
    assert written[0].keys() == photographs | charts

    write_found(found.head(0), pairs.head(0), index, root, paths.AUDIT, params.data.max_megapixels)
    write_csv(paths.PROBES, probes().head(0))
    draw_found(paths.AUDIT, paths.AUDIT, paths.DATA_FIGURES)
    assert {file.stem for file in paths.DATA_FIGURES.glob("*.png")} == written[0].keys() - {
        *("duplicates", "offenders", "probes")
    }
    Path("params.yaml").write_text(text.replace("crop: disc", "crop: none"))
    run_stage("explore", tmp_path)
    assert not (paths.EXPLORE / "crops.png").exists()


def test_a_pair_under_two_labels_comes_first_on_the_sheet(tmp_path):
    index = fold_tree(tmp_path).drop_duplicates("condition")
    (normal, abnormal) = index.set_index("condition").loc[["normal", "abnormal"], "path"]
    pairs = pd.DataFrame({"first_path": [normal, normal], "second_path": [normal, abnormal], "mirrored": False})
    first = labelled(pairs, index).iloc[0]
    assert (first["first_condition"], first["second_condition"]) == ("normal", "abnormal")
