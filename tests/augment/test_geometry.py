"""Views of images with boxes and text: steps that move both, and the affine that leads back.

Items 2 and 3 are of the specification of grounding; 12 is of that of learning from unlabelled images.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms import functional as published
from torchvision.transforms.v2 import functional as v2
from torchvision.tv_tensors import BoundingBoxes

from augment.geometry import (
    View,
    center_crop,
    clip_boxes,
    crop,
    drop_cut_boxes,
    follow_boxes,
    horizontal_flip,
    invert,
    map_boxes,
    map_points,
    mirror,
    mirrored_text,
    pad,
    resize,
    scale,
    translation,
)
from augment.published import covering_size, resize_as_published

BOXES = np.array([[2.0, 3.0, 9.0, 11.0], [0.0, 0.0, 30.0, 20.0], [25.5, 15.25, 30.0, 20.0], [4.0, 4.0, 4.0, 8.0]])
STEPS: dict[str, tuple[Callable[[Any], View], Callable[[Any], BoundingBoxes]]] = {
    "resize": (lambda view: resize(view, (14, 50), "bicubic"), lambda boxes: v2.resize(boxes, [14, 50])),
    "shorter side": (
        lambda view: resize_as_published(view, covering_size(view.image.shape[:2], (33, 33)), "bilinear"),
        lambda boxes: v2.resize(boxes, [33]),
    ),
    "square": (lambda view: resize_as_published(view, (16, 16), "bicubic"), lambda boxes: v2.resize(boxes, [16, 16])),
    "crop": (lambda view: crop(view, 3, 2, 26, 17), lambda boxes: v2.crop(boxes, 2, 3, 15, 23)),
    "centre": (lambda view: center_crop(view, 15), lambda boxes: v2.center_crop(boxes, [15, 15])),
    "centre of more": (lambda view: center_crop(view, 25), lambda boxes: v2.center_crop(boxes, [25, 25])),
    "centre of all": (lambda view: center_crop(view, 38), lambda boxes: v2.center_crop(boxes, [38, 38])),
    "flip": (horizontal_flip, v2.horizontal_flip),
    "pad": (lambda view: pad(view, 1, 2, 3, 4, fill=7), lambda boxes: v2.pad(boxes, [1, 2, 3, 4])),
}
"""Our step, and torchvision's for boxes."""


def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("step", STEPS)
def test_boxes_are_torchvisions_and_lie_where_the_affine_says(step: str):
    ours, theirs = STEPS[step]
    view = ours(View.whole(image(), BOXES))
    expected = theirs(BoundingBoxes(torch.tensor(BOXES), format="XYXY", canvas_size=(20, 30)))  # type: ignore[call-arg]
    assert view.image.shape[:2] == expected.canvas_size
    np.testing.assert_allclose(view.boxes, expected.numpy(), rtol=1e-6, atol=1e-5)  # its ratios are float32
    np.testing.assert_allclose(view.boxes, clip_boxes(map_boxes(BOXES, view.affine), view.image.shape[:2])[0])
    assert view.boxes.dtype == view.affine.dtype == np.float64


def test_pixels_are_torchvisions():
    view, tensor = View.whole(image()), torch.from_numpy(image()).permute(2, 0, 1)
    for ours, theirs in (
        (crop(view, 3, 2, 26, 17), published.crop(tensor, 2, 3, 15, 23)),
        (horizontal_flip(view), published.hflip(tensor)),
        (pad(view, 1, 2, 3, 4, fill=7), published.pad(tensor, [1, 2, 3, 4], fill=7)),
        *((center_crop(view, side), published.center_crop(tensor, [side, side])) for side in (15, 25, 37)),
    ):
        assert torch.equal(torch.from_numpy(ours.image).permute(2, 0, 1), theirs)


@given(st.lists(st.sampled_from(["resize", "shorter side", "square", "centre of all", "flip", "pad"]), max_size=5))
def test_steps_compose_and_can_be_inverted(steps: list[str]):
    view, points = View.whole(image()), np.array([[0.0, 0.0], [20.0, 10.0], [23.3, 5.5]])
    expected = points
    for step in steps:
        alone = STEPS[step][0](View.whole(view.image))
        expected = map_points(expected, alone.affine)
        view = STEPS[step][0](view)
    np.testing.assert_allclose(map_points(points, view.affine), expected, atol=1e-9)
    np.testing.assert_allclose(map_points(expected, invert(view.affine)), points, atol=1e-9)


def test_an_unknown_affine_stays_unknown():
    assert horizontal_flip(View(image(), None)).affine is None


def test_a_flip_of_a_single_column_can_be_given_to_torch():
    torch.from_numpy(horizontal_flip(View.whole(image()[:, :1])).image)  # refuses negative strides


def test_a_flip_of_a_crop_by_hand():
    view = horizontal_flip(crop(View.whole(image(), BOXES), 5, 0, 25, 20))
    assert view.affine.tolist() == [[-1, 0, 25], [0, 1, 0], [0, 0, 1]]
    assert view.boxes[0].tolist() == [16, 3, 20, 11]


def test_uneven_padding_of_a_centre_crop_is_that_of_the_pixels():
    view = center_crop(View.whole(np.full((20, 30, 3), 255, dtype=np.uint8)), 37)  # torchvision's boxes are off by one
    (left, top), (right, bottom) = map_points(np.array([[0.0, 0.0], [30.0, 20.0]]), view.affine).astype(int)
    assert view.image[top:bottom, left:right].min() == 255
    assert view.image.sum() == 255 * 20 * 30 * 3


def test_boxes_under_a_turn_are_the_smallest_upright_ones_around_it():
    quarter = np.array([[0.0, -1.0, 20.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    assert map_boxes(BOXES[:1], quarter).tolist() == [[9, 2, 17, 9]]


def test_clipping_tells_the_share_of_area_that_is_kept():
    boxes = np.array([[-10.0, 0.0, 10.0, 10.0], [0.0, 0.0, 4.0, 4.0], [50.0, 50.0, 60.0, 60.0], [1.0, 1.0, 1.0, 5.0]])
    clipped, share = clip_boxes(boxes, (20, 30))
    np.testing.assert_array_equal(clipped, clip_boxes_to_image(torch.tensor(boxes), (20, 30)).numpy())
    assert share.tolist() == [0.5, 1.0, 0.0, 0.0]


def test_boxes_that_crops_cut_away_are_dropped_by_their_share_of_the_whole_box():
    view = crop(horizontal_flip(View.whole(image(), BOXES)), 0, 0, 24, 20)
    view = resize(crop(view, 0, 0, 22, 20), (40, 40), "bilinear")
    assert len(view.boxes) == 4
    # Mirrored, the first box spans 21 to 28, of which a seventh is left; of the second 22 of 30 columns are.
    for min_share, kept in ((0.0, [0, 1, 2]), (0.142, [0, 1, 2]), (0.143, [1, 2]), (0.73, [1, 2]), (0.74, [2])):
        found, mask = drop_cut_boxes(view, BOXES, min_share)
        assert mask.nonzero()[0].tolist() == kept
        np.testing.assert_array_equal(found.boxes, view.boxes[kept])


def test_boxes_cannot_be_compared_without_an_affine_or_with_others():
    with pytest.raises(ValueError, match="affine"):
        drop_cut_boxes(View(image(), None, BOXES), BOXES, 0)
    with pytest.raises(ValueError, match="as many"):
        drop_cut_boxes(View.whole(image(), BOXES), BOXES[:2], 0)


def test_no_boxes_stay_no_boxes():
    view = center_crop(horizontal_flip(View.whole(image(), np.zeros((0, 4)))), 40)
    assert view.boxes.shape == (0, 4)
    assert drop_cut_boxes(view, np.zeros((0, 4)), 0.5)[1].shape == (0,)


@pytest.mark.parametrize("corners", [(-1, 0, 5, 5), (0, 0, 31, 5), (0, 0, 5, 21), (5, 5, 5, 8), (6, 5, 5, 8)])
def test_a_crop_beyond_the_view_is_refused(corners: tuple[int, int, int, int]):
    with pytest.raises(ValueError, match="30 x 20 pixels; pad first"):
        crop(View.whole(image()), *corners)


def test_an_affine_that_loses_a_direction_has_no_way_back():
    with pytest.raises(ValueError, match="cannot be inverted"):
        invert(scale(0, 1))
    assert invert(translation(3, -2)).tolist() == translation(-3, 2).tolist()


def test_a_text_is_kept_and_a_flip_exchanges_left_and_right_in_it():
    view = View.whole(image(), text="the dog on the left")
    assert pad(crop(view, 0, 0, 5, 5), 1, 1, 1, 1).text == "the dog on the left"
    assert horizontal_flip(view).text == "the dog on the right"
    assert horizontal_flip(horizontal_flip(view)).text == view.text


@pytest.mark.parametrize(
    ("text", "mirrored"),
    [
        ("bright cup on the left", "bright cup on the right"),
        ("leftmost of the right-hand cups", "rightmost of the left-hand cups"),
        ("lefthand, right.", "righthand, left."),
        ("left-most; (right)", "right-most; (left)"),
        ("Left LEFT left's", "Right RIGHT right's"),
        ("bright copyright upright brighter leftover lefty", "bright copyright upright brighter leftover lefty"),
        ("", ""),
        ("der linke Hund 左の犬", "der linke Hund 左の犬"),
    ],
)
def test_item_2_left_and_right_are_exchanged_as_whole_words_and_twice_is_the_identity(text: str, mirrored: str):
    """`bright` holds no side."""
    assert mirrored_text(text) == mirrored
    assert mirrored_text(mirrored) == text


def test_views_share_no_affine_that_can_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        View.whole(image()).affine[0, 0] = 2


def test_views_travel_between_processes(in_a_worker):
    view = in_a_worker(crop(View.whole(image(), BOXES, "text"), 1, 2, 9, 9))
    assert (view.affine.tolist(), view.text) == (translation(-1, -2).tolist(), "text")


def random_boxes(random: np.random.Generator, width: int, height: int) -> np.ndarray:
    """Five boxes in an image, in pixels."""
    corners = random.uniform(0, 1, (5, 2, 2)) * (width, height)
    return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1)


def test_item_12_boxes_go_through_1000_chains_of_steps_and_back():
    random = np.random.default_rng(0)
    for _ in range(1000):
        width, height = random.integers(20, 20_000, 2).tolist()
        boxes = random_boxes(random, width, height)
        views = []
        for _ in range(2):
            chain = scale(*random.uniform(0.05, 2, 2)) @ translation(*random.uniform(-100, 100, 2))
            views.append(mirror(width) @ chain if random.random() < 0.5 else chain)
        there = map_boxes(boxes, views[1] @ invert(views[0]))
        assert np.abs(map_boxes(there, views[0] @ invert(views[1])) - boxes).max() < 1e-6


def random_step(view: View, random: np.random.Generator) -> View:
    """Resize, flip, pad or crop a view, by whatever is possible."""
    height, width = view.image.shape[:2]
    kind = random.choice(["resize", "flip", "pad", "crop"])
    if kind == "resize":
        return resize(view, tuple(random.integers(1, 200, 2).tolist()), "bilinear")
    if kind == "flip":
        return horizontal_flip(view)
    if kind == "pad":
        return pad(view, *random.integers(0, 60, 4).tolist())
    left, top = int(random.integers(width)), int(random.integers(height))
    return crop(view, left, top, int(random.integers(left, width)) + 1, int(random.integers(top, height)) + 1)


def test_item_3_any_chain_of_resize_flip_pad_and_crop_leads_back_to_the_box():
    random = np.random.default_rng(0)
    for _ in range(300):
        height, width = random.integers(20, 600, 2).tolist()
        boxes = random_boxes(random, width, height)
        view = View.whole(np.zeros((height, width, 3), np.uint8), boxes)
        for _ in range(int(random.integers(1, 7))):
            view = random_step(view, random)
        assert view.affine.dtype == np.float64
        assert np.abs(map_boxes(map_boxes(boxes, view.affine), invert(view.affine)) - boxes).max() < 1e-6


def test_boxes_that_are_followed_keep_their_order_and_say_what_is_left():
    boxes = np.array([[0.0, 0.0, 4.0, 4.0], [8.0, 0.0, 12.0, 4.0], [9.0, 0.0, 13.0, 4.0], [2.0, 2.0, 2.0, 4.0]])
    followed = follow_boxes(boxes, translation(0, 0), (10, 10))
    assert followed.boxes.tolist() == [[0, 0, 4, 4], [8, 0, 10, 4], [9, 0, 10, 4], [2, 2, 2, 4]]
    assert followed.visible.tolist() == [True, True, False, False]
    assert followed.tight.all()


@pytest.mark.parametrize(("degrees", "tight"), [(0, True), (5, True), (15, False), (90, True)])
def test_a_turned_box_is_tight_up_to_1_3_times_its_area(degrees, tight):
    cosine, sine = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    turn = translation(50, 50) @ np.array([[cosine, -sine, 0], [sine, cosine, 0], [0, 0, 1]])
    square = np.array([[-10.0, -10.0, 10.0, 10.0]])
    growth = (cosine + sine) ** 2
    assert (growth <= 1.3) == tight
    assert follow_boxes(square, turn, (100, 100)).tight.tolist() == [tight]
