"""Shortcut probes find traits that predict the label, and only those; skipped probes give the reason."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from trees import CLASSES, class_tree, jpeg, labelled, labels_tree, params_for, photograph

from glaucoma.audit.checks import Case
from glaucoma.audit.gate import audit
from glaucoma.audit.shortcuts import COLUMNS, probe_all, shortcut
from glaucoma.dataset.intake import build_index
from glaucoma.photos import looks
from glaucoma.photos.looks import Look, look_at
from glaucoma.photos.quality import Quality

QUALITY = Quality(0.4, 0.1, 0.0, 0.001, 0.1, 0.8, 0.5, 1.0, 0.05, 0.05, 0.05)


def listing(count=200, *, seed=0, **columns):
    """An index of `count` images and their measurements, unrelated to the label; `columns` replace its own."""
    rng = np.random.default_rng(seed)
    images = [f"{i:064x}" for i in range(count)]
    index = pd.DataFrame(
        {
            "path": [f"{image}.jpg" for image in images],
            "image": images,
            "condition": rng.choice(["normal", "abnormal"], count),
            "width": rng.integers(300, 400, count),
            "height": rng.integers(300, 400, count),
        }
    ).assign(**columns)
    empty = np.zeros(1, np.uint8)
    thumbnails = rng.integers(0, 256, (count, 7, 7, 3)).astype(np.uint8)
    seen = {
        image: Look(empty, QUALITY, thumbnail, int(rng.integers(9000)), float(rng.integers(70, 95)))
        for image, thumbnail in zip(images, thumbnails, strict=True)
    }
    return index, seen


def probed(index, seen):
    return probe_all(index, seen, {image: number for number, image in enumerate(seen)}).set_index(["target", "probe"])


def test_what_tells_the_label_is_told_from_what_does_not():
    index, seen = listing()
    index["width"] += 200 * (index["condition"] == "abnormal")
    found = probed(index, seen)
    assert found.loc[("label", "width"), "auroc"] == 1
    assert found.loc[("label", "width"), "low"] > 0.95
    for name in ("height", "file_size", "jpeg_quality", "colour", "thumbnail"):
        row = found.loc[("label", name)]
        assert row["low"] < 0.6, name
        assert row["low"] < row["auroc"] < row["high"]


def shortcuts(index, seen):
    numbers = {image: number for number, image in enumerate(seen)}
    return shortcut(Case(index, {}, drop_unreadable=False, probes=probe_all(index, seen, numbers)))


def test_a_range_is_told_though_no_slope_tells_it_and_its_counts_are_given():
    # values of abnormal images are on both sides of the normal ones
    index, seen = listing()
    abnormal = (index["condition"] == "abnormal").to_numpy()
    index["width"] = np.where(abnormal, np.where(np.arange(200) % 2, 200, 400), 300)
    row = probed(index, seen).loc["label", "width"]
    assert (row["model"], row["auroc"]) == ("tree", 1)
    (one,) = (one for one in shortcuts(index, seen) if one.message.startswith("image width"))
    assert one.severity == "warning"
    assert f"{(~abnormal).sum()} of {(~abnormal).sum()} normal are 300 px wide, no abnormal is" in one.message
    assert "; so do" in one.message  # related traits, in the same finding


def test_a_format_that_half_of_one_class_has_is_told_in_words():
    index, seen = listing()
    half = (index["condition"] == "abnormal") & (np.arange(200) % 2 == 0)
    index["path"] = index["path"].where(~half, index["path"].str.replace(".jpg", ".png"))
    row = probed(index, seen).loc["label", "format"]
    assert row["low"] > 0.6
    assert row["told"].endswith(" abnormal are .png files, no normal is")


def test_names_and_folders_tell_who_collected_what_but_the_word_for_the_class_is_none_of_it():
    index, seen = listing()
    index["path"] = [
        f"{name}/{name}_{image[-4:]}.jpg" for name, image in zip(index["condition"], index["image"], strict=True)
    ]
    found = probed(index, seen)
    assert found.loc[("label by name", "folder"), "skipped"] == "all images are the same in it"
    assert found.loc[("label by name", "name"), "low"] < 0.6
    index["path"] = index["path"].str.replace("abnormal/", "clinic/abnormal/scan")
    (folder,) = (one for one in shortcuts(index, seen) if one.message.startswith("the folder alone"))
    assert folder.severity == "info"
    assert "abnormal are in clinic, no normal is" in folder.message


def test_worse_than_chance_is_never_nothing():
    probes = pd.DataFrame([("label", "border", 1, 99, 99, 0.2, 0.1, 0.3, "", "tree", "")], columns=COLUMNS)
    (one,) = shortcut(Case(pd.DataFrame(), {}, drop_unreadable=False, probes=probes))
    assert one.severity == "warning"
    assert "worse than chance, with AUROC 0.20 [0.10, 0.30]" in one.message


@pytest.mark.slow
def test_what_tells_nothing_raises_no_finding():
    assert [one for seed in range(5) for one in shortcuts(*listing(seed=seed))] == []


def test_a_table_has_the_same_rows_for_any_data():
    empty = listing(0)
    table = probe_all(*empty, {})
    assert list(table) == COLUMNS
    assert table[["target", "probe"]].equals(probe_all(*listing(), dict.fromkeys(listing()[1], 0))[["target", "probe"]])
    assert (table["skipped"] != "").all()


def test_copies_and_images_of_a_patient_count_as_one_and_are_never_on_both_sides():
    # A patient's ten images share colours and label, which do not generalise to other patients
    rng = np.random.default_rng(1)
    patients = np.repeat(np.arange(60), 10)
    index, seen = listing(600, patient=[f"p{number}" for number in patients])
    index["condition"] = np.array(["normal", "abnormal"])[patients % 2]
    own = rng.integers(0, 256, (60, 7, 7, 3)).astype(np.uint8)
    seen = {
        image: Look(one.print, QUALITY, own[patient], one.bytes, one.jpeg)
        for (image, one), patient in zip(seen.items(), patients, strict=True)
    }
    grouped = probed(index, seen).loc[("label", "thumbnail")]
    parted = probed(index.drop(columns="patient"), seen).loc[("label", "thumbnail")]
    assert parted["auroc"] > 0.99
    assert grouped["auroc"] < 0.75
    assert (grouped["groups"], parted["groups"]) == (60, 600)
    assert grouped["high"] - grouped["low"] > 0.15


def test_what_cannot_be_tried_is_skipped_with_a_sentence():
    index, seen = listing(width=300)
    seen = {image: Look(one.print, QUALITY, one.thumbnail, one.bytes, float("nan")) for image, one in seen.items()}
    skipped = probed(index, seen)["skipped"]
    assert skipped["label", "width"] == "all images are the same in it"
    assert skipped["label", "jpeg_quality"] == skipped["label", "source"] == "the data do not have it"
    few = probed(*listing(30))["skipped"]
    assert few["label", "height"].startswith("too few independent images, ")


def test_an_image_under_both_labels_is_left_out():
    index, seen = listing()
    both = index.iloc[[0]].assign(
        path="again.jpg", condition=index["condition"].map({"normal": "abnormal", "abnormal": "normal"})[0]
    )
    assert probed(pd.concat([index, both], ignore_index=True), seen)["n"].eq(199).all()


def test_the_source_is_told_from_the_pixels_and_the_label_from_the_source():
    index, seen = listing(240)
    index["source"] = np.where(index["condition"] == "abnormal", "b", np.where(np.arange(240) % 2, "a", "c"))
    shift = {"a": 0, "b": 60, "c": 120}
    seen = {
        image: Look(one.print, QUALITY, one.thumbnail // 3 + np.uint8(shift[source]), one.bytes, one.jpeg)
        for (image, one), source in zip(seen.items(), index["source"], strict=True)
    }
    found = probed(index, seen)
    assert found.loc[("label", "source"), "auroc"] == 1
    # No single threshold separates the middle source, but one separates each of the others
    assert found.loc[("source", "thumbnail"), "auroc"] > 0.7


@pytest.fixture(scope="module")
def told_by_width(tmp_path_factory):
    """A folder with larger abnormal photographs, and its index."""
    root = class_tree(tmp_path_factory.mktemp("told") / "photos", images=60)
    for number, path in enumerate(sorted((root / "abnormal").iterdir())):
        path.write_bytes(jpeg(10_000 + number, size=64, condition="abnormal"))
    return root, listed(root)


def listed(root):
    return build_index(root, layout="auto", classes=CLASSES, n_folds=None, held_out=0, seed=0)[0]


def test_the_audit_says_in_words_what_tells_the_label_and_does_not_stop_for_it(told_by_width):
    root, index = told_by_width
    findings = audit(index, root, params_for(root))
    said = [one for one in findings.found if one.finding == "shortcut"]
    assert said[0].severity == "warning"
    assert said[0].message.startswith("image width alone tells abnormal from normal with AUROC 1.00 [")
    aurocs = [float(one.message.partition("AUROC ")[2][:4]) for one in said]
    assert aurocs == sorted(aurocs, reverse=True)
    assert findings.errors == []
    metrics = findings.metrics()
    assert (metrics["strongest_probe"], metrics["strongest_probe_auroc"]) == ("width", 1.0)
    assert metrics["shortcut"] == len([one for one in said if one.severity != "info"])


def test_what_was_seen_once_is_not_decoded_again_and_says_the_same(told_by_width, tmp_path, monkeypatch):
    root, index = told_by_width
    kept = tmp_path / "state/looks.npz"
    first = look_at(index, root, "look", max_megapixels=100, kept=kept)
    decoded = []
    plain = looks.decode
    monkeypatch.setattr(looks, "decode", lambda *given, **options: decoded.append(1) or plain(*given, **options))
    again = look_at(index, root, "look", max_megapixels=100, kept=kept)
    assert not decoded
    for image, one in first.items():
        other = again[image]
        assert (one.quality, one.bytes, one.jpeg) == (other.quality, other.bytes, other.jpeg)
        np.testing.assert_array_equal(one.print, other.print)
        np.testing.assert_array_equal(one.thumbnail, other.thumbnail)

    look_at(index, root, "look", max_megapixels=99, kept=kept)  # it determines which images are readable
    assert len(decoded) == 60
    kept.write_bytes(b"no archive")
    assert look_at(index, root, "look", max_megapixels=100, kept=kept).keys() == first.keys()
    assert len(decoded) == 120


@pytest.mark.parametrize("quality", [30, 60, 75, 90, 95])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality, tmp_path):
    (tmp_path / "a.jpg").write_bytes(jpeg(1, quality=quality))
    photograph(1).save(tmp_path / "b.png")
    paths = ["a.jpg", "b.png"]
    (jpeg_look, png_look) = (
        next(
            iter(
                look_at(
                    pd.DataFrame({"path": [path], "image": [content(tmp_path / path)]}),
                    tmp_path,
                    "look",
                    max_megapixels=100,
                ).values()
            )
        )
        for path in paths
    )
    assert jpeg_look.jpeg == quality
    assert np.isnan(png_look.jpeg)


def content(path):
    from glaucoma.base.files import sha256_file

    return sha256_file(path)


def test_a_copy_that_is_equal_in_every_pixel_is_told_from_one_that_is_not(tmp_path):
    root = class_tree(tmp_path, size=256)
    one, other = sorted((root / "normal").iterdir())[:2]
    with Image.open(one) as image:
        image.save(root / "normal/as.png")
    with Image.open(other) as image:
        image.save(root / "normal/again.jpg", quality=60)
    found = {one.finding: one for one in audit(listed(root), root, params_for(root)).found}
    assert "normal/as.png" in f"{found['same_pixels'].where} {found['same_pixels'].message}"
    assert found["same_pixels"].message.endswith("is the same picture, pixel by pixel")
    assert "normal/again.jpg" in f"{found['near_duplicate'].where} {found['near_duplicate'].message}"


def test_classes_are_counted_by_source(tmp_path):
    root = labels_tree(tmp_path, labelled(24, source=lambda number: "b" if number < 6 else "a"))
    said = [one for one in audit(listed(root), root, params_for(root)).found if one.finding == "source_balance"]
    assert [(one.where, one.message) for one in said] == [
        ("source a", "9 normal and 9 abnormal images, 50.0% abnormal"),
        ("source b", "3 normal and 3 abnormal images, 50.0% abnormal"),
    ]


def test_a_folder_too_small_for_folds_is_listed_without_them(tmp_path):
    index = listed(class_tree(tmp_path, images=2))
    assert index[["fold", "split"]].drop_duplicates().to_numpy().tolist() == [[0, "train"]]
