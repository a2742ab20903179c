import io

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageFilter, ImageOps
from scipy.ndimage import gaussian_filter
from trees import picture

from glaucoma.data.content import content_ids
from glaucoma.data.duplicates import fingerprint, link, number
from glaucoma.data.images import decode
from glaucoma.data.looks import clusters, look_at
from glaucoma.data.quality import complaints, quality_of


def encoded(image, form="JPEG", **options):
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


COPIES = {
    "recompressed": lambda image: encoded(image, quality=60),
    "halved": lambda image: encoded(image.resize((128, 128)), quality=90),
    "doubled": lambda image: encoded(image.resize((512, 512)), quality=90),
    "in another format": lambda image: encoded(image, "PNG"),
    "mirrored": lambda image: encoded(ImageOps.mirror(image), quality=60),
}


def printed(content):
    return fingerprint(decode(content, max_megapixels=100, at_least=256))


@pytest.mark.parametrize("copy", COPIES)
def test_a_copy_is_found_among_others_and_a_mirrored_one_told_apart(copy):
    images = [picture(seed) for seed in range(20)]
    prints = [printed(encoded(image, quality=90)) for image in images]
    links = link([*prints, printed(COPIES[copy](images[7]))])
    assert links[["first", "second", "mirrored"]].to_numpy().tolist() == [[7, 20, copy == "mirrored"]]


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


def test_a_good_photograph_has_no_complaint_and_a_small_one_is_tiny():
    assert complaints(quality_of(picture(1)), 256, 256, needed=224) == {}
    assert list(complaints(quality_of(picture(1)), 400, 200, needed=224)) == ["tiny"]


def whole_retina(seed: int) -> Image.Image:
    """A round field in a black frame, with vessels of its own; the light falls off towards the rim in all alike."""
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
    assert found[["first", "second", "mirrored"]].to_numpy().tolist() == [[3, 20, False], [5, 21, True]]
