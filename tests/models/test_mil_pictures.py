import numpy as np

from models.mil.pictures import cut_tile


def test_a_tile_beyond_the_edge_is_white_there() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (50, 60, 3), dtype=np.uint8)
    assert np.array_equal(cut_tile(pixels, 10, 20, 30), pixels[20:50, 10:40])
    corner = cut_tile(pixels, 40, 30, 32)
    assert np.array_equal(corner[:20, :20], pixels[30:, 40:])
    assert (corner[20:] == 255).all()
    assert (corner[:, 20:] == 255).all()
    before = cut_tile(pixels, -5, -8, 32)
    assert np.array_equal(before[8:, 5:], pixels[:24, :27])
    assert (before[:8] == 255).all()
    assert (cut_tile(pixels, 100, 0, 32) == 255).all()
    assert (cut_tile(pixels, -100, 0, 32) == 255).all()
