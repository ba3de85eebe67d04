"""Boxes on pixels: where lines and captions stand."""

import numpy as np
import pytest

from vision_train.report.boxes.drawing import COLOURS, colour_of, draw_boxes, fit_with_boxes

GREY = (128, 128, 128)


def canvas(height: int, width: int) -> np.ndarray:
    return np.full((height, width, 3), GREY, dtype=np.uint8)


def coloured(pixels: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    return (pixels == colour).all(axis=-1)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Left, top, right, bottom of what is set, the last two outside of it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def test_lines_enclose_exactly_the_pixels_of_the_box():
    before = canvas(100, 120)
    pixels = draw_boxes(before, np.array([[20.0, 30, 90, 80]]), [""], [COLOURS[1]])
    assert extent(coloured(pixels, COLOURS[1])) == (20, 30, 90, 80)
    assert (before == GREY).all(), "the pixels that were given stay as they were"
    assert coloured(pixels, GREY)[40:70, 30:80].all(), "the inside stays free"


def test_parts_beyond_the_image_are_cut_off_and_boxes_beside_it_left_out():
    boxes = np.array([[-50.0, -50, 60, 40], [200, 10, 300, 20], [np.nan, 0, 5, 5]])
    pixels = draw_boxes(canvas(100, 120), boxes, ["", "beside", "none"], [COLOURS[0], COLOURS[1], COLOURS[2]])
    assert extent(coloured(pixels, COLOURS[0])) == (0, 0, 60, 40)
    assert not coloured(pixels, COLOURS[1]).any()
    assert not coloured(pixels, COLOURS[2]).any()


@pytest.mark.parametrize("box", [[2, 2, 30, 30], [180, 1, 199, 60], [0, 90, 200, 100], [0, 0, 200, 100]])
def test_a_caption_is_within_the_image_wherever_the_box_is(box):
    bare = draw_boxes(canvas(100, 200), np.array([box], dtype=float), [""], [COLOURS[1]])
    pixels = draw_boxes(canvas(100, 200), np.array([box], dtype=float), ["circle 0.93"], [COLOURS[1]])
    added = extent((pixels != bare).any(axis=-1))
    assert added[2] - added[0] > 50, "the caption is there whole"
    assert added[3] - added[1] >= 11


def test_captions_do_not_cover_one_another():
    boxes = np.array([[50.0, 50, 150, 150], [52, 52, 152, 152]])
    grounds = {number: COLOURS[number] for number in (0, 1)}
    both = draw_boxes(canvas(300, 300), boxes, ["circle 0.9", "square 0.8"], [*grounds.values()])
    for number, colour in grounds.items():
        alone = draw_boxes(canvas(300, 300), boxes[number : number + 1], ["circle 0.9"], [colour])
        assert coloured(both, colour).sum() > 0.6 * coloured(alone, colour).sum()


def test_a_crowd_has_thin_lines_and_no_captions_wider_than_their_boxes():
    random = np.random.default_rng(0)
    corners = random.random((1500, 2)) * (960, 740)
    boxes = np.concatenate([corners, corners + 12], axis=1)
    named = draw_boxes(canvas(768, 1024), boxes, ["circle 0.93"] * 1500, [COLOURS[0]] * 1500)
    bare = draw_boxes(canvas(768, 1024), boxes, [""] * 1500, [COLOURS[0]] * 1500)
    assert (named == bare).all()
    assert coloured(named, COLOURS[0]).mean() < 0.12


def test_a_dashed_box_has_gaps():
    box = np.array([[20.0, 20, 180, 80]])
    solid, dashed = (
        coloured(draw_boxes(canvas(100, 200), box, [""], [COLOURS[0]], dashed=[flag]), COLOURS[0]).sum()
        for flag in (False, True)
    )
    assert 0.3 < dashed / solid < 0.7


@pytest.mark.parametrize("size", [(1, 1000), (1000, 1), (32, 32), (1, 1)])
def test_odd_sizes_are_drawn(size):
    pixels, boxes = fit_with_boxes(canvas(*size), np.array([[0.0, 0, size[1], size[0]]]), 640, 640)
    drawn = draw_boxes(pixels, boxes, ["circle 0.93"], [COLOURS[3]])
    assert drawn.shape == pixels.shape
    assert coloured(drawn, COLOURS[3]).any()


def test_boxes_follow_a_picture_that_is_fitted():
    pixels, boxes = fit_with_boxes(canvas(500, 20_000), np.array([[10_000.0, 0, 20_000, 500]]), 6000, 1600)
    assert pixels.shape == (150, 6000, 3)
    assert boxes.tolist() == [[3000, 0, 6000, 150]]
    pixels, boxes = fit_with_boxes(canvas(32, 32), np.array([[1.0, 2, 3, 4]]), 512, 512)
    assert pixels.shape == (512, 512, 3)
    assert boxes.tolist() == [[16, 32, 48, 64]]


def test_classes_keep_their_colour_and_begin_again_after_the_last():
    assert len({colour_of(number) for number in range(7)}) == 7
    assert colour_of(7) == colour_of(0)
