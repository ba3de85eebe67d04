"""Images made of several: what is where, and which boxes are left."""

import numpy as np
import pytest

from augment.composition import Composed, blend, mosaic
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
