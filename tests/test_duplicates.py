import io

import numpy as np
import pandas as pd
import pytest
from others import OTHERS
from PIL import Image, ImageEnhance, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter
from trees import picture, retina

from glaucoma.photos.content import content_ids
from glaucoma.photos.duplicates import SAME, compared, fingerprint, firm, link, number
from glaucoma.photos.field import find_field
from glaucoma.photos.images import decode
from glaucoma.photos.looks import clusters, look_at
from glaucoma.photos.quality import complaints, quality_of
from glaucoma.photos.register import COARSE, FINE, registered, structure


def encoded(image, form="JPEG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


COPIES = {
    "recompressed": lambda image: encoded(image, quality=60),
    "halved": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), quality=90),
    "doubled": lambda image: encoded(image.resize((2 * image.width, 2 * image.height)), quality=90),
    "squashed": lambda image: encoded(image.resize((image.width, image.height * 3 // 4)), quality=90),
    "in another format": lambda image: encoded(image, "PNG"),
    "brighter": lambda image: encoded(ImageEnhance.Brightness(image).enhance(1.3), quality=90),
    "grey": lambda image: encoded(image.convert("L"), quality=90),
}
FRAMES = {
    "padded": lambda image: encoded(ImageOps.expand(image, (60, 20, 10, 40)), quality=90),
    "cut to its field's square": lambda image: encoded(ImageOps.crop(image, round(0.15 * image.width)), quality=90),
}
# The transform of the copy, and its inverse
FLIPS = {
    Image.Transpose.FLIP_LEFT_RIGHT: (True, 0),
    Image.Transpose.FLIP_TOP_BOTTOM: (True, 180),
    Image.Transpose.ROTATE_180: (False, 180),
    Image.Transpose.ROTATE_90: (False, 270),
    Image.Transpose.ROTATE_270: (False, 90),
    Image.Transpose.TRANSPOSE: (True, 90),
    Image.Transpose.TRANSVERSE: (True, 270),
}
EYES = 10


def printed(content):
    return fingerprint(decode(content, max_megapixels=100, at_least=256))


def linked(images, copy):
    prints = [printed(encoded(image, quality=90)) for image in images]
    return link([*prints, printed(copy)])[["first", "second", "mirrored", "turned"]].to_numpy().tolist()


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_of_a_crop_is_found_among_others(copy):
    images = [picture(seed) for seed in range(20)]
    assert linked(images, COPIES[copy](images[7])) == [[7, 20, False, 0]]


@pytest.mark.parametrize("copy", COPIES | FRAMES)
def test_a_copy_of_a_whole_retina_is_found_among_others_whatever_its_frame(copy):
    images = [retina(seed) for seed in range(EYES)]
    assert linked(images, (COPIES | FRAMES)[copy](images[7])) == [[7, EYES, False, 0]]


CROPS = {"a corner": (0, 0, 0.84, 0.84), "the middle": (0.1, 0.1, 0.9, 0.9), "a side": (0.15, 0.0, 1.0, 0.8)}


@pytest.mark.parametrize("crop", CROPS)
@pytest.mark.parametrize("whole", [True, False])
def test_a_crop_that_shows_much_of_a_photograph_is_found_either_way_round(crop, whole):
    images = [(retina if whole else picture)(seed) for seed in range(EYES)]
    box = [round(share * images[7].width) for share in CROPS[crop]]
    assert linked(images, encoded(images[7].crop(box), quality=80)) == [[7, EYES, False, 0]]
    images[7], cropped = images[7].crop(box), images[7]
    assert linked(images, encoded(ImageOps.mirror(cropped), quality=80)) == [[7, EYES, True, 0]]


@pytest.mark.parametrize("flip", FLIPS)
def test_a_flipped_or_turned_copy_is_found_and_how_it_lies_is_said(flip):
    for images in ([picture(seed) for seed in range(EYES)], [retina(seed) for seed in range(EYES)]):
        copy = encoded(images[7].transpose(flip), quality=60)
        assert linked(images, copy) == [[7, EYES, *FLIPS[flip]]]


def test_the_most_alike_pair_comes_first():
    images = [encoded(picture(seed), quality=90) for seed in range(3)]
    copies = [encoded(picture(1).rotate(2), quality=50), encoded(picture(2), quality=85)]
    links = link([printed(content) for content in (*images, *copies)])
    assert links[["first", "second"]].to_numpy().tolist() == [[2, 4], [1, 3]]
    assert compared([]).columns.tolist() == links.columns.tolist()


def test_retinas_seen_by_one_camera_are_no_copies_however_alike_their_frames_are():
    prints = [printed(encoded(retina(seed), quality=60 + seed)) for seed in range(EYES)]
    assert link(prints).empty


def test_the_inside_of_a_field_is_the_same_square_whatever_lies_around_it():
    left, top, right, bottom = find_field(retina(1)).inside
    assert right - left == pytest.approx(0.99 * 200 / 2**0.5, rel=0.05)
    padded = find_field(ImageOps.expand(retina(1), (40, 10, 0, 90))).inside
    assert padded == pytest.approx((left + 40, top + 10, right + 40, bottom + 10), abs=4)
    assert find_field(picture(1)).inside == (0, 0, 256, 256)


def test_the_structure_of_different_eyes_hardly_correlates():
    greys = np.stack([printed(encoded(retina(seed))) for seed in range(EYES)])
    coarse, fine = structure(greys, COARSE), structure(greys, FINE)
    pairs = [(i, j) for i in range(EYES) for j in range(i)]
    scores = [registered((coarse[i], coarse[j]), (fine[i], fine[j])) for i, j in pairs]
    assert max(scores) < SAME - 0.1
    assert registered((coarse[0], coarse[0]), (fine[0], fine[0])) == pytest.approx(1, abs=1e-3)


def test_a_chain_of_pairs_that_are_hardly_alike_comes_apart():
    links = pd.DataFrame({"first": [0, 1, 2, 4], "second": [1, 2, 3, 5], "correlation": [0.9, 0.8, 0.7, 0.6]})
    assert len(firm(links, links.iloc[:0], 6)) == 4
    apart = pd.DataFrame({"first": [0, 0, 1, 3], "second": [2, 3, 3, 4]})
    kept = firm(links, pd.concat([apart, pd.DataFrame({"first": [1], "second": [3]})]), 6)
    assert kept["correlation"].tolist() == [0.9, 0.8, 0.6]


def test_images_that_show_nothing_are_no_copies_of_each_other():
    blank = fingerprint(Image.new("RGB", (256, 256), "black"))
    assert link([blank] * 3).empty
    assert link([]).empty


def test_copies_of_copies_are_one_cluster():
    links = pd.DataFrame({"first": [0, 3], "second": [3, 4]})
    found = number(links, 6)
    assert found[0] == found[3] == found[4]
    assert len(set(found)) == 4


def test_an_index_has_a_cluster_for_every_image_and_an_unreadable_one_stands_alone(tmp_path):
    files = {"a.jpg": encoded(picture(1)), "b.png": encoded(picture(1), "PNG"), "c.jpg": encoded(picture(2))}
    for name, content in {**files, "d.jpg": b"no image"}.items():
        (tmp_path / name).write_bytes(content)
    paths = [*files, "d.jpg"]
    index = pd.DataFrame({"path": paths, "image": content_ids(tmp_path, paths)})
    found, _ = clusters(look_at(index, tmp_path, "look", max_megapixels=100))
    a, b, c, d = (found[image] for image in index["image"])
    assert a == b
    assert len({a, c, d}) == 3


@pytest.mark.parametrize(
    ("fault", "image"),
    [
        ("blank", Image.new("RGB", (256, 256), (9, 9, 9))),
        ("dark", picture(1).point(lambda level: level // 5)),
        ("no_fundus", picture(1).convert("L").convert("RGB")),
        ("no_fundus", Image.merge("RGB", picture(1).split()[::-1])),
        ("over_exposed", picture(1).point(lambda level: level * 3)),
        ("blurred", picture(1).filter(ImageFilter.GaussianBlur(30))),
    ],
)
def test_what_is_wrong_with_a_photograph_is_said_by_name(fault, image):
    assert fault in complaints(quality_of(image), 256, 256, needed=224)


def faults(image):
    return complaints(quality_of(image), 256, 256, needed=224)


def hazy(image, seed):
    """Add bluish-white haze, densest at the rim."""
    size = image.width
    y, x = (np.mgrid[:size, :size] + 0.5) / size - 0.5
    haze = (0.35 + 2.2 * np.hypot(x, y)[..., None] ** 2).clip(0, 0.95) * (np.hypot(x, y) < 0.495)[..., None]
    pixels = np.asarray(image) * (1 - haze) + haze * np.array([150, 165 + 10 * (seed % 2), 170])
    return Image.fromarray(pixels.astype(np.uint8))


def test_whole_retinas_have_no_complaint_however_pale_dim_or_framed():
    for seed in range(EYES):
        assert faults(retina(seed)) == {}
        assert faults(ImageOps.expand(retina(seed), (50, 0))) == {}
        assert faults(hazy(retina(seed), seed)) == {}
        assert "no_fundus" not in faults(retina(seed).point(lambda level: level // 3))


def test_a_whole_retina_is_blurred_although_its_rim_is_sharp():
    sharp = np.asarray(retina(3), np.float32)
    field = (sharp.max(axis=2) > 9).astype(np.float32)[..., None]
    spread, share = (gaussian_filter(one, (9, 9, 0)) for one in (sharp, field))
    assert faults(Image.fromarray((spread / share.clip(1e-3) * field).clip(0, 255).astype(np.uint8))).keys() == {
        "blurred"
    }


@pytest.mark.parametrize("kind", OTHERS)
def test_what_is_no_retina_is_told(kind):
    told = ["no_fundus" in faults(OTHERS[kind](np.random.default_rng(seed))) for seed in range(20)]
    assert np.mean(told) >= {"outer_eye": 0.5, "skin": 0}.get(kind, 0.9)


def test_a_good_photograph_has_no_complaint_and_a_small_one_is_tiny():
    assert complaints(quality_of(picture(1)), 256, 256, needed=224) == {}
    assert list(complaints(quality_of(picture(1)), 400, 200, needed=224)) == ["tiny"]


def whole_retina(seed: int) -> Image.Image:
    """A round field in a black frame, with different vessels per seed but the same fall-off of light to the rim."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:512, :512]
    away = np.hypot(x - 256, y - 256)
    grey = 150 - 60 * (away / 250) ** 2 + 500 * gaussian_filter(random.standard_normal((512, 512)), 12)
    pixels = np.stack([grey, 0.55 * grey, 0.3 * grey], axis=2).clip(0, 255)
    pixels[away > 250] = 0
    return Image.fromarray(pixels.astype(np.uint8))


def test_the_cameras_frame_makes_no_copies_and_hides_none():
    eyes = [whole_retina(seed) for seed in range(20)]
    copy = eyes[3].resize((300, 300)), eyes[5].transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    found = link([fingerprint(one) for one in [*eyes, *copy]])
    assert found[["first", "second", "mirrored"]].sort_values("first").to_numpy().tolist() == [
        [3, 20, False],
        [5, 21, True],
    ]
