"""Recommendations for a folder of photographs: telling disc crops from whole retinas, and the resulting choices."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from glaucoma.base.errors import DataError
from glaucoma.base.params import Params, check_params
from glaucoma.base.profiles import merge, nested, shipped
from glaucoma.base.yaml12 import parse_yaml
from glaucoma.synthetic.anatomy import draw_eyes
from glaucoma.synthetic.render import disc_axes, render_eye
from glaucoma.train.recommend import DISC_FOUND, Folder, Photograph, choose, disc_crops, look_at, look_into

SHARED = Path(__file__).resolve().parents[2] / "shared/data"
WHOLE = Photograph(side=1000, field=True, disc=0.08, away=0.2, retina=900)
BARE = replace(WHOLE, field=False)
CROP = Photograph(side=300, field=False, disc=0.3, away=0.03, retina=300)
NOTHING = replace(WHOLE, disc=None, away=None)


def params(**values: object) -> Params:
    change = nested({key.replace("__", "."): value for key, value in values.items()})
    return check_params(merge(parse_yaml(shipped(), "shipped.yaml"), change), "test")


def folder(*looks: Photograph, normal: int = 300, abnormal: int = 300, folds: tuple[int, ...] = (0, 1)) -> Folder:
    counts = {"normal": normal, "abnormal": abnormal}
    return Folder(counts, counts, folds, drawn=True, looks=looks or (WHOLE,) * 10, unreadable=0, seconds=0.1)


def chosen(found: Folder, **values: object) -> dict[str, object]:
    return {key: one.value for key, one in choose(found, params(**values)).items()}


def save(tmp_path: Path, name: str, pixels: np.ndarray) -> Photograph:
    Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    return look_at(tmp_path / f"{name}.png", 100)


def eyes(count: int):
    return [eye for name in ("normal", "abnormal") for eye in draw_eyes(np.random.default_rng(77), name, count // 2)]


# Disc crop or whole retina


@pytest.mark.slow
def test_rendered_eyes_are_whole_and_what_is_cut_out_of_them_is_a_crop(tmp_path: Path):
    whole, crops = [], []
    for number, eye in enumerate(eyes(12)):
        pixels = render_eye(eye, 192)
        whole.append(save(tmp_path, f"whole{number}", pixels))
        reach = int(1.5 * np.sqrt(abs(np.linalg.det(disc_axes(eye, 192)))))
        x, y = int(eye.centre_x * 192), int(eye.centre_y * 192)
        part = pixels[max(0, y - reach) : y + reach, max(0, x - reach) : x + reach]
        crops.append(save(tmp_path, f"crop{number}", part))
    assert disc_crops(whole) == [False] * len(whole)
    assert disc_crops(crops) == [True] * len(crops)


@pytest.mark.parametrize(("name", "crops"), [("acrima", True), ("eyepacs_half", False)])
def test_real_photographs_are_judged_rightly(name: str, crops: bool):
    files = sorted((SHARED / name).rglob("*.jpg"))
    if not files:
        pytest.skip(f"no photographs in {SHARED / name}")
    drawn = np.random.default_rng(3).permutation(len(files))[:20]
    looks = [look_at(files[i], 100) for i in drawn]
    assert disc_crops(looks) == [crops] * len(looks)
    assert {one.field for one in looks} == {not crops}
    assert chosen(folder(*looks))["data.crop"] == ("none" if crops else DISC_FOUND)


def test_a_mixed_folder_is_told_apart_by_the_cameras_field():
    assert disc_crops([CROP, WHOLE, CROP, NOTHING]) == [True, False, True, False]
    assert disc_crops([NOTHING]) == [False]


def test_one_disc_that_is_taken_for_its_cup_changes_nothing():
    assert disc_crops([CROP, CROP, replace(CROP, disc=0.1)]) == [True] * 3


# Choices


@pytest.mark.parametrize(
    ("looks", "crop", "reason"),
    [
        ([WHOLE] * 9 + [NOTHING], DISC_FOUND, "was found in 9 of 10 whole retinas; glaucoma"),
        ([BARE] * 10, DISC_FOUND, "was found in 10 of 10 whole retinas"),
        ([CROP] * 10, "none", "10 of 10 photographs examined are already cropped to the disc"),
        (
            [CROP] * 7 + [WHOLE] * 3,
            "none",
            "7 of 10 photographs examined are already cropped to the disc; the other 3",
        ),
        ([CROP] * 3 + [WHOLE] * 7, DISC_FOUND, "7 of 7 whole retinas (the other 3 are disc crops)"),
        ([NOTHING] * 10, "retina", "was found in 0 of 10 whole retinas only; the camera's black border"),
        ([replace(NOTHING, field=False)] * 10, "none", "no black border"),
        ([replace(WHOLE, disc=0.37)] * 10, "retina", "was found in 0 of 10"),  # as large as the picture, so not a disc
    ],
)
def test_the_crop_follows_what_most_photographs_show(looks: list[Photograph], crop: str, reason: str):
    found = choose(folder(*looks), params())["data.crop"]
    assert found.value == crop
    assert reason in found.reason


@pytest.mark.parametrize(
    ("look", "size"),
    [
        (CROP, 224),
        (replace(CROP, side=150), 160),
        (replace(CROP, side=160), 160),
        (replace(CROP, side=40), 96),
        (replace(WHOLE, side=200, retina=150), 160),  # the retina contains the disc
        (WHOLE, 224),
        (replace(NOTHING, retina=170), 192),
    ],
)
def test_the_size_is_no_larger_than_what_is_cropped_to(look: Photograph, size: int):
    assert chosen(folder(look))["data.image_size"] == size


def test_the_size_is_at_least_what_the_backbone_takes():
    found = chosen(folder(replace(CROP, side=40)), backbone__name="EfficientNetB0")
    assert found["data.image_size"] == 96


@pytest.mark.parametrize(
    ("normal", "abnormal", "batch_size", "epochs", "weights"),
    [(40, 40, 8, 8, "none"), (300, 300, 16, 8, "none"), (900, 300, 16, 5, "balanced"), (9000, 9000, 16, 3, "none")],
)
def test_batches_epochs_and_class_weights_follow_the_counts(normal, abnormal, batch_size, epochs, weights):
    found = chosen(folder(normal=normal, abnormal=abnormal))
    assert (found["batch_size"], found["epochs"], found["fit.class_weight"]) == (batch_size, epochs, weights)


def test_every_choice_has_a_reason():
    for one in choose(folder(), params()).values():
        assert len(one.reason) > 10
        assert "nan" not in one.reason


# Folders


def write(root: Path, names: list[str]) -> None:
    """Write photographs that are too dark for the slow search for a disc, which other tests cover."""
    rng = np.random.default_rng(1)
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 12, (64, 64, 3), np.uint8)).save(root / name)


def test_an_image_that_is_in_every_fold_counts_once_and_the_folds_are_those_that_are_there(tmp_path: Path):
    names = [f"{name}/{i}.png" for name in ("normal", "abnormal") for i in range(24)]
    for fold in (1, 2, 5):
        write(
            tmp_path,
            [f"Fold{fold}/{'train' if i % 3 else 'test' if i % 2 else 'valid'}/{n}" for i, n in enumerate(names)],
        )
    found = look_into(tmp_path, params())
    assert found.counts == {"normal": 24, "abnormal": 24}
    assert (found.folds, found.drawn) == ((1, 2, 5), False)
    values = chosen(found)
    assert (values["crossval.folds"], values["search.fold"]) == ([1, 2, 5], 1)


def test_folds_that_will_be_drawn_are_counted_and_the_same_photographs_are_looked_at_again(tmp_path: Path):
    write(tmp_path, [f"{name}/{i}.png" for name in ("normal", "abnormal") for i in range(40)])
    first, second = (replace(look_into(tmp_path, params()), seconds=0) for _ in range(2))
    assert first == second
    assert (first.folds, first.drawn, len(first.looks)) == (tuple(range(10)), True, 60)


def test_all_eyes_of_a_patient_count_once(tmp_path: Path):
    write(tmp_path, [f"{i}.png" for i in range(60)])
    rows = [f"{i}.png,{'normal' if i < 30 else 'abnormal'},{i if i < 30 else i // 2}" for i in range(60)]
    (tmp_path / "labels.csv").write_text("\n".join(["image,label,patient", *rows]))
    with pytest.raises(DataError, match="only 15 abnormal patients; 20 of each class are needed"):
        look_into(tmp_path, params())


def test_what_cannot_be_read_is_counted_and_the_rest_decides(tmp_path: Path):
    write(tmp_path, [f"{name}/{i}.png" for name in ("normal", "abnormal") for i in range(20)])
    (tmp_path / "normal/broken.png").write_bytes(b"none")
    found = look_into(tmp_path, params())
    assert (len(found.looks), found.unreadable) == (40, 1)
