"""Tiles on pictures: at their place and size, averaged where they overlap, whatever their coordinates."""

import numpy as np
import pytest

from vision_train.report.bags.tile_layout import LARGEST_TILE, LONGEST_SIDE, Thumbnail, lay_out_tiles, tile_step


def grid(columns: int, rows: int, step: int = 256, start: tuple[int, int] = (0, 0)) -> np.ndarray:
    x, y = np.meshgrid(np.arange(columns), np.arange(rows))
    return np.stack([x.ravel(), y.ravel()], axis=1) * step + start


def blank(width: int, height: int, level0_size: tuple[int, int]) -> Thumbnail:
    return Thumbnail(np.zeros((height, width, 3), np.uint8), level0_size)


@pytest.mark.parametrize("downsample", [1, 2, 4])
@pytest.mark.parametrize("level", [1, 2, 4])
def test_item_11_the_hottest_tile_lies_where_the_tissue_under_it_is(level: int, downsample: int):
    """Tiles of one level of a pyramid, on a thumbnail that is the same or another level."""
    slide = np.zeros((1536, 2048), np.uint8)
    size = 96 * level
    coords = grid(2048 // size, 1536 // size, size)
    hottest = 2 * len(coords) // 3 + 1
    x, y = coords[hottest]
    slide[y : y + size, x : x + size] = 255
    small = slide.reshape(1536 // downsample, downsample, 2048 // downsample, downsample).mean(axis=(1, 3))
    thumbnail = Thumbnail(np.repeat(small.astype(np.uint8)[..., None], 3, axis=2), (2048, 1536))
    layout = lay_out_tiles(len(coords), coords, size, thumbnail, longest_side=2048 // downsample)

    heat = layout.averaged(np.eye(len(coords))[hottest])

    assert heat.shape == small.shape
    for drawn, tissue in zip(np.nonzero(heat == np.nanmax(heat)), np.nonzero(small > 127), strict=True):
        assert abs(drawn.min() - tissue.min()) <= 1
        assert abs(drawn.max() - tissue.max()) <= 1


def test_item_11_holds_on_a_thumbnail_of_another_size():
    coords = grid(8, 6)
    layout = lay_out_tiles(48, coords, 256, blank(500, 375, (2048, 1536)), longest_side=LONGEST_SIDE)
    assert layout.size == (1000, 750)
    assert np.abs(layout.boxes[:, :2] - coords * 1000 / 2048).max() <= 1
    assert np.abs(layout.boxes[:, 2:] - (coords + 256) * 1000 / 2048).max() <= 1


def test_values_are_averaged_where_tiles_overlap_and_nowhere_else():
    coords = np.array([[0, 0], [2, 0], [2, 0]])
    layout = lay_out_tiles(3, coords, 4, blank(8, 4, (8, 4)), longest_side=8)
    row = [3, 3, 4, 4, 4.5, 4.5, np.nan, np.nan]
    assert np.allclose(layout.averaged(np.array([3.0, 4.0, 5.0])), [row] * 4, equal_nan=True)


def test_averages_equal_those_of_a_plain_loop():
    random = np.random.default_rng(0)
    coords, values = random.integers(-50, 900, (300, 2)), random.random(300)
    layout = lay_out_tiles(300, coords, 70, blank(210, 160, (800, 610)), longest_side=210)
    total, count = np.zeros((2, 160, 210))
    for (left, top, right, bottom), value in zip(layout.boxes, values, strict=True):
        total[top:bottom, left:right] += value
        count[top:bottom, left:right] += 1
    expected = np.divide(total, count, out=np.full_like(total, np.nan), where=count > 0)
    assert np.allclose(layout.averaged(values), expected, rtol=0, atol=1e-9, equal_nan=True)


@pytest.mark.parametrize("start", [(0, 0), (-10_000, 77), (10**12, -(10**12))])
def test_without_a_thumbnail_the_picture_is_cropped_to_the_tiles(start):
    layout = lay_out_tiles(12, grid(4, 3, start=start), 256)
    assert layout.size == (4 * LARGEST_TILE, 3 * LARGEST_TILE)
    assert (layout.averaged(np.arange(12.0))[::LARGEST_TILE, ::LARGEST_TILE] == np.arange(12).reshape(3, 4)).all()


@pytest.mark.parametrize(("columns", "rows"), [(1, 1), (1, 40), (40, 1), (100, 70), (700, 3)])
def test_all_tiles_are_as_large_and_none_is_lost(columns, rows):
    layout = lay_out_tiles(columns * rows, grid(columns, rows), 256)
    sides = layout.boxes[:, 2:] - layout.boxes[:, :2]
    assert sides.min() >= 1
    if columns < 200:
        assert len(np.unique(sides)) == 1
    assert max(layout.size) <= LONGEST_SIDE
    assert (layout.coverage == 1).all()


def test_more_tiles_than_pixels_still_lie_on_the_picture():
    layout = lay_out_tiles(100_000, grid(50_000, 2), 256)
    assert layout.size == (LONGEST_SIDE, 1)
    assert layout.coverage.min() >= 1


def test_the_step_is_that_of_most_neighbours():
    pieces = np.concatenate([grid(9, 9), grid(9, 9, start=(5003, 3))])
    assert tile_step(pieces) == (256, 2 * 2 * 9 * 8)
    assert tile_step(np.array([[0, 0], [300, 400], [900, 400 + 512]])) == (300, 0)
    assert tile_step(np.array([[0, 0], [350, 100], [350, 800]])) == (700, 1)
    assert tile_step(np.zeros((3, 2), np.int64)) == (0, 0)


def test_an_unknown_size_is_taken_from_the_step_and_said():
    layout = lay_out_tiles(12, grid(4, 3, 512))
    assert (layout.coverage == 1).all()
    assert "512 at level 0" in layout.notes[0]
    assert "not known" in lay_out_tiles(1, np.array([[3, 4]])).notes[0]


def test_a_size_that_leaves_gaps_is_questioned():
    assert "stand 512 apart" in lay_out_tiles(12, grid(4, 3, 512), 256).notes[0]
    assert lay_out_tiles(12, grid(4, 3, 256), 256).notes == ()
    assert lay_out_tiles(2, grid(2, 1, 512), 256).notes == (), "two tiles may well stand apart"
    assert lay_out_tiles(12, grid(4, 3, 128), 256).notes == ()


@pytest.mark.parametrize("count", [1, 2, 7, 100])
def test_without_coordinates_instances_fill_a_square_in_their_order(count):
    layout = lay_out_tiles(count)
    values = layout.averaged(np.arange(count, dtype=float))[::LARGEST_TILE, ::LARGEST_TILE].ravel()
    assert (values[:count] == np.arange(count)).all()
    assert np.isnan(values[count:]).all()
    assert 0 <= layout.size[0] - layout.size[1] <= LARGEST_TILE
    assert layout.noun == "instances"
    assert "mean nothing" in layout.notes[0]


def test_tiles_outside_of_the_slide_are_counted():
    coords = np.array([[0, 0], [-256, 0], [1024, 0], [-10, 0]])
    layout = lay_out_tiles(4, coords, 256, blank(512, 512, (1024, 1024)))
    assert layout.notes == ("2 of 4 tiles lie outside of the slide of 1024 x 1024 pixels.",)
    assert np.isnan(layout.averaged(np.ones(4))[:, -1]).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0,), "without instances"),
        ((3, grid(2, 1)), "3 instances need as many"),
        ((2, grid(2, 1).astype(float)), "float64"),
        ((2, grid(2, 1), 0), "at least 1"),
        ((2, None, None, blank(4, 4, (4, 4))), "without coordinates"),
        ((2, grid(2, 1), 256, blank(400, 300, (1536, 2048))), "aspect ratio"),
        ((2, grid(2, 1, start=(9000, 0)), 256, blank(400, 300, (4000, 3000))), "all 2 tiles lie outside"),
    ],
)
def test_what_has_no_map_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        lay_out_tiles(*arguments)


@pytest.mark.parametrize("level0_size", [(100_000, 3_100), (3_100, 100_000), (98_304, 75_111)])
def test_rounded_sides_of_a_thumbnail_are_no_other_aspect_ratio(level0_size):
    sides = [max(1, int(side * 200 / max(level0_size))) for side in level0_size]
    assert lay_out_tiles(1, np.array([[0, 0]]), 256, blank(*sides, level0_size)).notes == ()
