import numpy as np
import pytest
from numpy.typing import NDArray

from vision_train.data.bags.tools.tiles import select_tiles, tile_grid
from vision_train.data.decode import BadImageError

PURPLE = (140, 60, 150)
GLASS = (244, 243, 245)


def image(width: int, height: int, *parts: tuple[slice, slice], colour: tuple[int, int, int] = PURPLE) -> NDArray:
    """Glass with coloured parts (rows, columns)."""
    pixels = np.full((height, width, 3), GLASS, dtype=np.uint8)
    for part in parts:
        pixels[part] = colour
    return pixels


def test_the_grid_covers_an_image_row_by_row() -> None:
    corners = tile_grid(600, 500, 256)
    assert corners.dtype == np.int64
    assert corners.tolist() == [[0, 0], [256, 0], [512, 0], [0, 256], [256, 256], [512, 256]]
    assert tile_grid(512, 256, 256).tolist() == [[0, 0], [256, 0]]


def test_tiles_of_background_are_left_out() -> None:
    pixels = image(600, 500, (slice(256, 500), slice(0, 300)))
    assert select_tiles(pixels, 256).tolist() == [[0, 256]]  # of the next one 44 of 256 columns
    assert len(select_tiles(pixels, 256, keep_background=True)) == 6


@pytest.mark.parametrize(("columns", "taken"), [(64, 1), (48, 0)])
def test_a_quarter_of_a_tile_suffices(columns: int, taken: int) -> None:
    pixels = image(512, 256, (slice(None), slice(256, 512)), (slice(None), slice(0, columns)))
    assert [[0, 0]] * taken == select_tiles(pixels, 256).tolist()[:-1]


@pytest.mark.parametrize("tile", [16, 17, 50, 250])
def test_any_size_of_tile_is_measured_exactly(tile: int) -> None:
    pixels = image(4 * tile, 4 * tile, (slice(tile, 2 * tile), slice(2 * tile, 3 * tile)))
    assert select_tiles(pixels, tile).tolist() == [[2 * tile, tile]]


def test_slivers_at_the_edge_are_left_out_with_their_background_kept() -> None:
    corners = select_tiles(image(256 + 60, 256), 256, keep_background=True)
    assert corners.tolist() == [[0, 0]]
    assert len(select_tiles(image(256 + 64, 256), 256, keep_background=True)) == 2


def test_an_image_smaller_than_a_tile_is_one_padded_tile() -> None:
    pixels = image(200, 100, (slice(None), slice(None)))
    assert select_tiles(pixels, 256).tolist() == [[0, 0]]
    with pytest.raises(BadImageError, match=r"100 x 100 pixels fill less than a quarter of a tile"):
        select_tiles(pixels[:, :100], 256)


@pytest.mark.parametrize("value", [0, 90, 190])
def test_a_photograph_without_colours_is_content(value: int) -> None:
    noise = np.random.default_rng(0).integers(-10, 10, (300, 300, 1))
    pixels = np.broadcast_to(np.clip(value + noise, 0, 255), (300, 300, 3)).astype(np.uint8)
    assert len(select_tiles(pixels, 100)) == 9


def test_a_bright_photograph_of_few_colours_is_content() -> None:
    sky_and_sand = image(200, 200, (slice(None), slice(None)), colour=(150, 190, 250))
    sky_and_sand[100:] = (240, 200, 150)
    assert len(select_tiles(sky_and_sand, 100)) == 4


def test_an_image_of_background_alone_is_bad() -> None:
    noise = np.random.default_rng(0).integers(-4, 4, (500, 600, 3))
    for pixels in (image(600, 500), (image(600, 500) + noise).astype(np.uint8)):
        with pytest.raises(BadImageError, match=r"its tiles \(6\) show little but background; give --keep-background"):
            select_tiles(pixels, 256)
