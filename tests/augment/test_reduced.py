import numpy as np
import pytest
import torch

from augment.geometry import View, invert, map_points
from augment.pipeline import train_pipeline
from augment.reduced import FACTORS, factor_for, reduced_view, turn_of, turned

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
EVERYTHING = {"horizontal_flip": 0.5, "rand_augment": "rand-n2-m5-t3a", "color_jitter": 0.2, "erasing": 0.3}


def ramp(height: int, width: int) -> np.ndarray:
    """H W 3 float: x, y and 0 of the centre of each pixel."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.stack([x, y, np.zeros_like(x)], axis=2)


def divided(pixels: np.ndarray, factor: int) -> np.ndarray:
    """The mean of each block; blocks at the right and the bottom go on with the ramp beyond the image."""
    height, width = (-(-side // factor) * factor for side in pixels.shape[:2])
    return ramp(height, width).reshape(height // factor, factor, width // factor, factor, 3).mean(axis=(1, 3))


@pytest.mark.parametrize(
    ("rectangle", "size", "factor"),
    [
        ((0, 0, 223, 224), (224, 224), 1),  # is enlarged
        ((0, 0, 447, 1000), (224, 224), 1),
        ((0, 0, 448, 1000), (224, 224), 2),
        ((100, 100, 996, 1200), (224, 224), 4),
        ((0, 0, 3000, 1791), (224, 224), 4),
        ((0, 0, 3000, 1792), (224, 224), 8),
        ((0, 0, 30000, 20000), (224, 224), 8),
        ((0, 0, 800, 400), (100, 400), 2),  # height and width of the result
    ],
)
def test_what_is_cropped_keeps_the_pixels_of_the_result(
    rectangle: tuple[int, int, int, int], size: tuple[int, int], factor: int
) -> None:
    assert factor_for(rectangle, size) == factor


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", FACTORS)
@pytest.mark.parametrize("shape", [(64, 48), (61, 47), (8, 9)])
def test_the_affine_says_exactly_which_pixels_a_reduced_one_stands_for(
    shape: tuple[int, int], factor: int, orientation: int
) -> None:
    turn = turn_of(orientation)
    upright = turned(ramp(*shape), turn)  # type: ignore[type-var]
    view = reduced_view(divided(ramp(*shape), factor), factor, shape, turn)  # type: ignore[arg-type]
    assert view.whole_size == upright.shape[:2]
    assert view.affine is not None
    rows, columns = view.image.shape[:2]
    centres = ramp(rows, columns)[..., :2].reshape(-1, 2)
    places = map_points(centres, invert(view.affine))  # in the upright original
    # Where a place of the upright image lies in the file: the ramp is linear, so two pixels and the origin say it.
    height, width = upright.shape[:2]
    origin, right, down = upright[0, 0], upright[0, 1], upright[1, 0]
    x, y = places[:, :1] - 0.5, places[:, 1:] - 0.5
    expected = origin + x * (right - origin) + y * (down - origin)
    np.testing.assert_allclose(view.image.reshape(-1, 3), expected, atol=1e-9)
    assert (height, width) == (shape if orientation < 5 else shape[::-1])


@pytest.mark.parametrize("crop_scale", [None, (0.2, 1.0)])
@pytest.mark.parametrize("shape", [(400, 300), (401, 303)])
def test_the_same_crop_is_drawn_and_shows_nearly_the_same(
    shape: tuple[int, int], crop_scale: tuple[float, float] | None
) -> None:
    generator = np.random.default_rng(0)
    y, x = np.mgrid[: shape[0], : shape[1]]
    waves = [np.sin(x / 29 + y / a) * 90 + 128 for a in (31.0, 17.0, -23.0)]
    pixels = (np.stack(waves, axis=2) + generator.normal(0, 4, (*shape, 3))).clip(0, 255).astype(np.uint8)
    padded = np.pad(pixels, ((0, -shape[0] % 4), (0, -shape[1] % 4), (0, 0)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 4, 4, padded.shape[1] // 4, 4, 3).mean(axis=(1, 3))
    reduced = reduced_view(blocks.round().astype(np.uint8), 4, shape, turn_of(1))
    pipeline = train_pipeline(24, MEAN, STD, crop_scale=crop_scale, **EVERYTHING)  # type: ignore[arg-type]
    for seed in range(12):
        exact = pipeline(View.whole(pixels), seed)
        assert pipeline.factor(shape, seed) == factor_for(pipeline.crop.last_rectangle(), (24, 24)) >= 4
        pipeline(View.whole(pixels), seed)
        drawn = pipeline.crop.last_rectangle()
        quick = pipeline(reduced, seed)
        assert pipeline.crop.last_rectangle() == drawn
        np.testing.assert_array_equal(quick.affine, exact.affine)
        assert quick.original_size is None
        # A level is 1 / 255. Posterise and its like may tip single pixels.
        assert (quick.image - exact.image).abs().mean() * 255 < 4
        assert torch.equal(pipeline(View.whole(pixels), seed).image, exact.image)  # what was reduced leaves no trace


def test_boxes_of_a_reduced_image_are_refused() -> None:
    view = View(np.zeros((20, 20, 3), np.uint8), np.diag([0.5, 0.5, 1.0]), np.zeros((0, 4)), original_size=(40, 40))
    with pytest.raises(ValueError, match="exactly"):
        train_pipeline(8, MEAN, STD)(view, 0)
