"""A detector guesses if what it finds in an image fits other images as well."""

from dataclasses import replace

import numpy as np
import pytest

from vision_train.tasks.detection.chance import chance_warnings
from vision_train.tasks.detection.results import ImageResult, Results


def images(count: int, finds, size=lambda _: (100, 100)) -> Results:
    """Images with one object each, 20 wide and as high, somewhere; ``finds`` says where a detector sees it."""
    draw, found = np.random.default_rng(1), {}
    for number in range(count):
        height, width = size(number)
        corner = draw.uniform(0, 80, 2)
        true = np.array([*corner, *(corner + 20)])
        box = finds(true, draw) * np.array([width, height] * 2) / 100
        true = true * np.array([width, height] * 2) / 100
        one = np.zeros(1, dtype=np.int64)
        scores, nothing = draw.uniform(0, 1, 1), np.zeros((0, 4))
        found[f"{number:03d}"] = ImageResult(scores, one, box[None], one, true[None], nothing, size=(height, width))
    return found


def seen(true, draw):
    return true + draw.normal(0, 1, 4)


def blind(true, draw):
    corner = draw.uniform(0, 80, 2)
    return np.array([*corner, *(corner + 20)])


def constant(true, draw):
    return np.array([40.0, 40.0, 60.0, 60.0])


def seldom(true, draw):
    return (seen if draw.uniform() < 0.1 else blind)(true, draw)


@pytest.mark.parametrize(
    ("finds", "count", "guesses"),
    [(seen, 12, False), (seen, 5, False), (blind, 60, True), (constant, 60, True), (seldom, 60, False)],
)
def test_boxes_that_fit_other_images_as_well_are_guesses(finds, count, guesses):
    assert bool(chance_warnings(images(count, finds), 1, "test")) is guesses


def test_the_same_boxes_in_images_of_different_sizes_and_shapes_are_guesses():
    def turned(number):
        return (60, 200) if number % 2 else (200, 60)

    in_pixels = [each.boxes for each in images(60, constant, turned).values()]
    assert len(np.unique(in_pixels, axis=0)) == 2
    assert chance_warnings(images(60, constant, turned), 1, "test")


def test_objects_that_are_always_in_the_same_place_say_nothing_of_the_images():
    results = {name: replace(each, true_boxes=each.boxes) for name, each in images(20, constant).items()}
    (text,) = chance_warnings(results, 1, "test")
    assert "AP at IoU 0.5 is 1.0000 on 20 images of test, and up to 1.0000 with the boxes of other images" in text
    assert "put more images, with objects in other places, into the split test" in text
    assert "optim.lr" not in text, "nothing could be found better"


def test_a_blind_detector_is_told_the_keys_that_help():
    (text,) = chance_warnings(images(60, blind), 1, "test")
    assert all(key in text for key in ("optim.lr", "trainer.max_steps", "model.checkpoint"))


def test_so_few_images_tell_nothing():
    (text,) = chance_warnings(images(1, seen), 1, "test")
    assert "put more images, with objects in other places, into the split test" in text
    assert "optim.lr" not in text


def test_where_there_is_no_object_nothing_is_said(make_result):
    assert chance_warnings({"a": make_result([(0.4, 0, 0, 10)])}, 1, "test") == []


def test_many_images_are_told_by_some_of_them():
    (text,) = chance_warnings(images(501, constant), 1, "test")
    assert "on 500 images of test" in text
