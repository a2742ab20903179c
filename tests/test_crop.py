"""Cropping photographs for the network."""

import numpy as np
import pytest
from PIL import Image

from glaucoma.photos.crop import cropped, find_boxes
from glaucoma.photos.discs import find_disc
from glaucoma.synthetic.anatomy import draw_eyes
from glaucoma.synthetic.render import render_eye
from glaucoma.synthetic.truth import truth

SEED = 20260  # not the seed that the finder was tuned on


@pytest.mark.slow
def test_the_disc_of_the_sample_is_found_within_a_quarter_of_its_diameter():
    near = []
    for condition in ("normal", "abnormal"):
        for eye in draw_eyes(np.random.default_rng(SEED), condition, 20):
            disc, true = find_disc(Image.fromarray(render_eye(eye, 128))), truth(eye, 128)
            diameter = 2 * np.sqrt(true["disc_radius_x"] * true["disc_radius_y"])
            near.append(disc and np.hypot(disc.x - true["disc_x"], disc.y - true["disc_y"]) < diameter / 4)
    assert np.mean([bool(found) for found in near]) >= 0.95


def test_a_box_around_a_disc_is_a_square_within_the_photograph():
    image = Image.fromarray(render_eye(draw_eyes(np.random.default_rng(SEED), "normal", 1)[0], 128))
    (box,) = find_boxes(image, "disc")
    assert box.found
    assert box.width == box.height
    assert 0 <= box.left <= 128 - box.width
    assert 0 <= box.top <= 128 - box.height


@pytest.mark.parametrize("crop", ["retina", "disc", "wide"])
def test_where_nothing_is_found_the_whole_photograph_is_taken(crop):
    (box,) = find_boxes(Image.new("RGB", (70, 50)), crop)
    assert (box.left, box.top, box.width, box.height, box.found) == (0, 0, 70, 50, False)


def test_several_parts_lie_side_by_side_as_each_would_alone():
    image = Image.fromarray(render_eye(draw_eyes(np.random.default_rng(SEED), "normal", 1)[0], 128))
    pixels, boxes = cropped(image, 32, "disc+wide+retina")
    assert pixels.shape == (32, 96, 3)
    assert [box.view for box in boxes] == ["disc", "wide", "retina"]
    for place, view in enumerate(("disc", "wide", "retina")):
        np.testing.assert_array_equal(pixels[:, 32 * place : 32 * (place + 1)], cropped(image, 32, view)[0])


def test_the_retina_is_what_the_black_border_surrounds():
    y, x = np.mgrid[:200, :300]
    pixels = np.zeros((200, 300, 3), np.uint8)
    pixels[np.hypot(x - 140, y - 100) < 80] = 180, 90, 40
    (box,) = find_boxes(Image.fromarray(pixels), "retina")
    assert np.allclose((box.left, box.top, box.width, box.height), (61, 21, 159, 159), atol=3)
    assert box.found
