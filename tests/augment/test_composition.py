"""Images made of several: what is where, and which boxes are left."""

import numpy as np
import pytest
import torch

from augment.composition import Composed, blend, grid, half_sum, mosaic
from augment.geometry import invert, map_points

SIZES = ((60, 80), (120, 50), (40, 40), (200, 30))


def coordinates(number: int, size: tuple[int, int]) -> np.ndarray:
    """An image whose red and green say where a pixel is, and whose blue says which image it is of."""
    rows, columns = np.mgrid[: size[0], : size[1]]
    return np.stack((columns, rows, np.full(size, 40 * number + 20)), axis=-1).astype(np.uint8)


IMAGES = [coordinates(number, size) for number, size in enumerate(SIZES)]


@pytest.mark.parametrize("seed", range(5))
def test_each_part_of_a_mosaic_is_where_its_affine_says(seed):
    composed = mosaic(IMAGES, np.random.default_rng(seed))
    assert composed.image.shape == IMAGES[0].shape
    assert sum((right - left) * (bottom - top) for left, top, right, bottom in composed.windows) == 60 * 80
    for number, (affine, window) in enumerate(zip(composed.affines, composed.windows, strict=True)):
        left, top, right, bottom = window
        part = composed.image[top:bottom, left:right]
        assert (part[..., 2] == 40 * number + 20).all(), "all of the window is of this image"
        centre = np.array([[(left + right) // 2 + 0.5, (top + bottom) // 2 + 0.5]])
        expected = map_points(centre, invert(affine))[0] - 0.5  # a value stands for the centre of a pixel
        found = composed.image[int(centre[0, 1]), int(centre[0, 0]), :2]
        np.testing.assert_allclose(found, expected, atol=1.5)
        assert affine[0, 0] == pytest.approx(affine[1, 1]), "parts keep their aspect"


def test_boxes_of_a_mosaic_are_clipped_to_their_window():
    composed = mosaic(IMAGES, np.random.default_rng(0))
    for number, (height, width) in enumerate(SIZES):
        boxes = np.array([[0, 0, width, height], [-9, -9, -1, -1]], dtype=np.float64)
        (whole, outside), shares = composed.place(number, boxes)
        left, top, right, bottom = composed.windows[number]
        np.testing.assert_allclose(whole, (left, top, right, bottom), atol=1e-9)
        assert (outside[2] - outside[0]) * (outside[3] - outside[1]) == 0
        scaled = width * height * composed.affines[number][0, 0] ** 2
        assert shares == pytest.approx([(right - left) * (bottom - top) / scaled, 0])


def test_a_blend_keeps_both_images_and_their_boxes():
    first, second = np.full((40, 60, 3), 200, np.uint8), np.zeros((30, 90, 3), np.uint8)
    shares = []
    for seed in range(200):
        composed = blend(Composed.whole(first), second, np.random.default_rng(seed))
        assert composed.image.min() == composed.image.max()
        shares.append(composed.image[0, 0, 0] / 200)
    assert np.mean(shares) == pytest.approx(0.5, abs=0.02)
    assert np.mean([0.4 < share < 0.6 for share in shares]) == pytest.approx(0.9, abs=0.06)
    assert composed.place(0, np.array([[1.0, 2, 3, 4]]))[0].tolist() == [[1, 2, 3, 4]]
    np.testing.assert_allclose(composed.place(1, np.array([[0.0, 0, 90, 30]]))[0], [[0, 0, 60, 40]], atol=1e-9)
    assert len(blend(composed, second, np.random.default_rng(0)).affines) == 3


def test_the_same_draws_make_the_same_image():
    first, second = (mosaic(IMAGES, np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(first.image, second.image)


@pytest.mark.parametrize("images", [IMAGES[:3], [np.zeros((1, 20, 3), np.uint8), *IMAGES[:3]]])
def test_what_makes_no_mosaic_is_refused(images):
    with pytest.raises(ValueError, match="four images"):
        mosaic(images, np.random.default_rng(0))


def square_view(size: tuple[int, int], corners: tuple[int, int, int, int]) -> torch.Tensor:
    """A white rectangle (left, top, right, bottom) on black, 3 H W."""
    left, top, right, bottom = corners
    view = torch.zeros(3, *size)
    view[:, top:bottom, left:right] = 1
    return view


def bright(image: torch.Tensor, level: float) -> list[int]:
    """Left, top, right, bottom of what is brighter."""
    rows, columns = (np.flatnonzero((image[0] > level).numpy().any(axis=axis)) for axis in (1, 0))
    return [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


@pytest.mark.parametrize("seed", range(12))
def test_a_half_sum_shows_all_of_the_other_view_where_its_affine_says(seed):
    first, corners = torch.zeros(3, 60, 90), (20, 16, 60, 64)
    other = square_view((80, 100), corners)
    composed = half_sum(first, other, np.random.default_rng(seed))
    boxes, share = composed.place(1, np.array([corners, (0, 0, 100, 80)], dtype=float))
    np.testing.assert_allclose(share, 1, atol=1e-9)
    np.testing.assert_allclose(bright(composed.image, 0.25), boxes[0], atol=1)
    np.testing.assert_allclose(boxes[1], composed.windows[1], atol=1e-9)
    assert composed.image.max() <= 0.5 + 1e-6
    assert composed.image.shape == first.shape
    assert first.abs().sum() == 0, "the first view is not changed"
    assert np.array_equal(composed.place(0, np.array([[1.0, 2.0, 30.0, 40.0]]))[0], [[1.0, 2.0, 30.0, 40.0]])


def test_half_sums_are_mirrored_at_times_and_of_several_sizes():
    drawn = [half_sum(torch.zeros(3, 60, 90), torch.ones(3, 40, 40), np.random.default_rng(seed)) for seed in range(30)]
    assert {composed.affines[1][0, 0] < 0 for composed in drawn} == {True, False}
    widths = [right - left for left, _, right, _ in (composed.windows[1] for composed in drawn)]
    assert 30 <= min(widths) < max(widths) <= 60


def test_a_grid_shows_all_of_four_views_where_their_affines_say():
    sizes = [(40, 80), (80, 40), (16, 16), (64, 64)]
    corners = [(8, 8, 40, 32), (4, 20, 36, 60), (4, 4, 12, 12), (16, 0, 64, 32)]
    views = [square_view(size, each) for size, each in zip(sizes, corners, strict=True)]
    composed = grid(views, (32, 48))
    assert composed.image.shape == (3, 64, 96)
    for number, each in enumerate(corners):
        ((left, top, right, bottom),), share = composed.place(number, np.array([each], dtype=float))
        np.testing.assert_allclose(share, 1)
        row, column = number // 2 * 32, number % 2 * 48
        cell = composed.image[:, row : row + 32, column : column + 48]
        found = np.add(bright(cell, 0.5), (column, row, column, row))
        np.testing.assert_allclose(found, (left, top, right, bottom), atol=1)
    with pytest.raises(ValueError, match="four"):
        grid(views[:3], (32, 48))
