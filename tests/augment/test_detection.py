"""Pipelines of images with boxes."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from augment.detection import (
    DetectionEvaluation,
    DetectionTraining,
    RandomPart,
    erase,
    erase_patches,
    place_boxes,
    published_size,
    random_part,
    relative_boxes,
    shortest_side,
)
from augment.geometry import View

GOLDEN = Path(__file__).parents[1] / "golden" / "relation_detr" / "f_misc.json"
SIZES = json.loads(GOLDEN.read_text())["values"]["eval_resize_800_1333"]
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)


@pytest.mark.parametrize("case", SIZES, ids=lambda case: str(case["in_hw"]))
def test_images_are_evaluated_in_the_published_sizes(case):
    assert list(published_size(tuple(case["in_hw"]), 800, 1333)) == case["out_hw"]


@pytest.mark.parametrize(
    ("size", "expected"), [((480, 640), (800, 1066)), ((200, 1000), (266, 1333)), ((1, 20_000), (1, 1333))]
)
def test_training_sizes_are_truncated_and_never_empty(size, expected):
    assert shortest_side(size, 800, 1333) == expected


def scene(size: tuple[int, int] = (60, 90)) -> tuple[View, np.ndarray]:
    """A white rectangle on black, and its box."""
    pixels = np.zeros((*size, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    box = np.array([[30.0, 20.0, 60.0, 40.0]])
    return View.whole(pixels), box


def pipeline(**keys) -> DetectionTraining:
    usual = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "scales": [60, 90, 120], "longest": 200}
    return DetectionTraining(**{**usual, "part": RandomPart(0.5, [50, 80], 30, 60), "flip": 0.5, **keys})


@pytest.mark.parametrize("seed", range(12))
def test_boxes_follow_the_pixels_through_crop_scale_and_flip(seed):
    view, box = scene()
    result = pipeline()(view, seed)
    size = result.image.shape[1:]
    x1, y1, x2, y2 = place_boxes(box, result.affine, size)[0]
    light = (result.image[0] > 0.5).numpy()
    rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
    if not len(rows):
        assert (x2 - x1) * (y2 - y1) < 4, "what is not seen has no box to speak of"
        return
    found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
    np.testing.assert_allclose(found, (x1, y1, x2, y2), atol=1)


def test_a_seed_decides_everything_and_other_seeds_do_otherwise():
    view, _ = scene()
    first, again, other = (pipeline(color_jitter=0.4)(view, seed).image for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert first.shape != other.shape or not torch.equal(first, other)


def test_the_whole_image_is_taken_where_nothing_is_random():
    view, _ = scene()
    result = pipeline(part=None, flip=0.0, scales=[60])(view, 0)
    assert torch.equal(result.image, torch.from_numpy(view.image).permute(2, 0, 1) / 255)
    np.testing.assert_array_equal(result.affine, np.eye(3))


@pytest.mark.parametrize("size", [(60, 90), (90, 60), (32, 32), (2, 20_000), (20_000, 2)])
def test_a_part_lies_within_the_image_and_its_sides_in_their_range(size):
    random = np.random.default_rng(0)
    for _ in range(50):
        (left, top, right, bottom), sides = random_part(size, RandomPart(1, [40, 50], 38, 60), random)
        assert 0 <= left < right <= size[1] + 1e-9
        assert 0 <= top < bottom <= size[0] + 1e-9
        assert all(38 <= side <= 60 for side in sides)


def test_evaluation_normalises_and_resizes_without_rounding():
    view, box = scene()
    result = DetectionEvaluation(MEAN, STD, 30, 100)(view)
    assert result.image.shape == (3, 30, 45)
    np.testing.assert_allclose(place_boxes(box, result.affine, (30, 45)), [[15, 10, 30, 20]])
    np.testing.assert_allclose(result.image[:, 15, 20], [2.5, 2.4, 7 / 3], rtol=1e-5)


def test_boxes_become_shares_of_the_image():
    boxes = np.array([[10.0, 20.0, 30.0, 60.0]])
    np.testing.assert_allclose(relative_boxes(boxes, (80, 40)), [[0.5, 0.5, 0.5, 0.5]])
    assert relative_boxes(np.zeros((0, 4)), (80, 40)).shape == (0, 4)


def test_very_large_images_are_resized_without_a_copy_in_floats(monkeypatch):
    view, _ = scene((60, 200))
    evaluation = DetectionEvaluation(MEAN, STD, 30, 100)
    usual = evaluation(view)
    monkeypatch.setattr("augment.detection.AFFORDABLE", 100)
    large = evaluation(view)
    np.testing.assert_allclose(large.image, usual.image, atol=0.02)
    np.testing.assert_array_equal(large.affine, usual.affine)
    assert large.image.shape == (3, 30, 100)


def test_a_blurred_image_is_smoother_and_lies_where_it_was():
    view, _ = scene()
    sharp, soft = (pipeline(part=None, scales=[60], blur=blur)(view, 3) for blur in (0.0, 1.0))
    np.testing.assert_array_equal(sharp.affine, soft.affine)
    steps = [(result.image[0, :, 1:] - result.image[0, :, :-1]).abs().max() for result in (sharp, soft)]
    assert steps[1] < steps[0]


def test_erased_rectangles_are_told_and_hold_noise():
    counts = set()
    for seed in range(20):
        image = torch.full((3, 40, 60), 7.0)
        rectangles = erase(image, np.random.default_rng(seed), 0.7)
        counts.add(len(rectangles))
        untouched = torch.ones(40, 60, dtype=torch.bool)
        for left, top, right, bottom in rectangles.astype(int):
            assert 0 <= left < right <= 60
            assert 0 <= top < bottom <= 40
            assert (right - left) * (bottom - top) <= 0.25 * 40 * 60
            untouched[top:bottom, left:right] = False
        assert torch.equal(image[0] == 7, untouched)
    assert counts == {0, 1, 2, 3}
    image = torch.zeros(3, 8, 8)
    assert erase(image, np.random.default_rng(0), 0.0).shape == (0, 4)
    assert not image.any()


def test_small_rectangles_are_erased_and_told():
    image, counts = torch.zeros(3, 60, 100), set()
    for seed in range(40):
        changed = image.clone()
        told = erase_patches(changed, np.random.default_rng(seed))
        inside = torch.zeros(60, 100, dtype=torch.bool)
        for left, top, right, bottom in told.astype(int):
            assert 1 <= right - left <= 10
            assert 1 <= bottom - top <= 6
            inside[top:bottom, left:right] = True
        assert torch.equal((changed != 0).all(0), inside)
        counts.add(len(told))
    assert min(counts) >= 1
    assert max(counts) <= 19
    assert len(counts) > 5
