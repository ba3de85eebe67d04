import random
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import NAME_TO_OP, AugmentOp, rand_augment_transform
from torchvision import transforms

from augment import pipeline as pipeline_module
from augment.geometry import View, invert, map_points
from augment.pipeline import eval_pipeline, train_pipeline

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
SHAPES = [(40, 60), (60, 40), (1, 1), (1, 90), (90, 1), (3, 200), (16, 16), (200, 150)]
EVERYTHING = {
    "crop_scale": (0.08, 1.0),
    "horizontal_flip": 0.5,
    "rand_augment": "rand-m9-mstd0.5-inc1",
    "color_jitter": 0.4,
    "erasing": 0.5,
}


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


def run(pipeline: Callable[..., View[torch.Tensor]], image: np.ndarray, *seed: int) -> torch.Tensor:
    """The normalised image that a pipeline makes."""
    return pipeline(View.whole(image), *seed).image


def pixels_of(tensor: torch.Tensor) -> np.ndarray:
    """Back to H W 3 in 0..255, for a pipeline with mean 0 and deviation 1."""
    return (tensor * 255).permute(1, 2, 0).round().numpy()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("resize", [None, 16, 18, 12])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_evaluation_equals_torchvision(shape: tuple[int, int], resize: int | None, interpolation: str) -> None:
    mode = transforms.InterpolationMode(interpolation)
    geometry = (
        [transforms.Resize((16, 16), mode)]
        if resize is None
        else [transforms.Resize(resize, mode, antialias=True), transforms.CenterCrop(16)]
    )
    published = transforms.Compose([*geometry, transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    image = picture(*shape)
    ours = run(eval_pipeline(16, MEAN, STD, resize=resize, interpolation=interpolation), image)  # type: ignore[arg-type]
    assert torch.equal(ours, published(Image.fromarray(image)))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_works_on_any_shape(shape: tuple[int, int]) -> None:
    pipeline = train_pipeline(16, MEAN, STD, **EVERYTHING)  # type: ignore[arg-type]
    for seed in range(5):
        tensor = run(pipeline, picture(*shape), seed)
        assert tensor.shape == (3, 16, 16)
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


def test_training_is_a_function_of_image_and_seed() -> None:
    first, second = (train_pipeline(16, MEAN, STD, **EVERYTHING) for _ in range(2))  # type: ignore[arg-type]
    image = picture(40, 60)
    kept = image.copy()
    results = [run(first, image, seed) for seed in range(8)]
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    for seed in reversed(range(8)):
        assert torch.equal(run(second, image, seed), results[seed])
    assert len({result.numpy().tobytes() for result in results}) == 8
    np.testing.assert_array_equal(image, kept)


def test_training_leaves_the_global_generators_alone() -> None:
    pipeline = train_pipeline(16, MEAN, STD, **EVERYTHING)  # type: ignore[arg-type]
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    for seed in range(4):
        run(pipeline, picture(40, 60), seed)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(200, 150), (8, 8), (40, 60)])
def test_resampling_is_pillows_antialiased_one(shape: tuple[int, int], interpolation: str) -> None:
    image = picture(*shape)
    ours = run(train_pipeline(16, (0, 0, 0), (1, 1, 1), interpolation=interpolation), image, 0)  # type: ignore[arg-type]
    resampling = Image.Resampling[interpolation.upper()]
    difference = np.abs(pixels_of(ours) - np.asarray(Image.fromarray(image).resize((16, 16), resampling)))
    assert difference.max() <= 2
    assert difference.mean() < 0.1


def test_normalisation_is_torchvisions() -> None:
    image = picture(16, 16)
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    ours = run(train_pipeline(16, MEAN, STD), image, 0)
    torch.testing.assert_close(ours, published(Image.fromarray(image)), atol=1e-6, rtol=0)


def test_flips_happen_as_often_as_asked_and_mirror_exactly() -> None:
    image = picture(16, 16)
    plain = run(train_pipeline(16, MEAN, STD), image, 0)
    pipeline = train_pipeline(16, MEAN, STD, horizontal_flip=0.3)
    flipped = [not torch.equal(run(pipeline, image, seed), plain) for seed in range(400)]
    assert 0.22 < np.mean(flipped) < 0.38
    assert torch.equal(run(train_pipeline(16, MEAN, STD, horizontal_flip=1.0), image, 0), plain.flip(-1))


def test_flips_do_not_depend_on_where_the_crop_lies() -> None:
    ramp = np.repeat(np.arange(0, 240, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(60, axis=0)
    pipeline = train_pipeline(16, (0, 0, 0), (1, 1, 1), crop_scale=(0.1, 0.2), horizontal_flip=0.5)
    results = [pixels_of(run(pipeline, ramp, seed))[8, :, 0] for seed in range(400)]
    place = np.array([row.mean() for row in results])
    mirrored = np.array([row[0] > row[-1] for row in results])
    assert abs(np.corrcoef(place, mirrored)[0, 1]) < 0.15


def test_crops_cover_the_asked_share_of_the_area() -> None:
    # Pixel values are coordinates, so that the corners of the result tell where the crop lay.
    rows, columns = np.mgrid[0:200, 0:200].astype(np.uint8)
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)
    pipeline = train_pipeline(64, (0, 0, 0), (1, 1, 1), crop_scale=(0.25, 0.5), crop_ratio=(1.0, 1.0))
    for seed in range(40):
        pixels = pixels_of(run(pipeline, image, seed))
        height = (pixels[-1, 0, 0] - pixels[0, 0, 0]) * 64 / 63
        width = (pixels[0, -1, 1] - pixels[0, 0, 1]) * 64 / 63
        assert 0.23 < height * width / 200**2 < 0.53
        assert height == pytest.approx(width, abs=3)


def test_colour_jitter_stays_within_its_strength() -> None:
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    pipeline = train_pipeline(8, (0, 0, 0), (1, 1, 1), color_jitter=0.2)
    values = np.array([pixels_of(run(pipeline, grey, seed))[0, 0, 0] for seed in range(200)])
    assert 78 <= values.min() < 88  # contrast and saturation leave a plain grey as it is
    assert 112 < values.max() <= 122


def test_erasing_fills_one_rectangle_with_normal_noise() -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    plain = run(train_pipeline(64, MEAN, STD), grey, 0)
    pipeline = train_pipeline(64, MEAN, STD, erasing=1.0)
    for seed in range(10):
        erased = run(pipeline, grey, seed)
        changed = (erased != plain).all(dim=0)
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        assert changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert 0.015 < changed.float().mean() < 0.35
        assert abs(erased[:, changed].std() - 1) < 0.2
    untouched = [torch.equal(run(train_pipeline(64, MEAN, STD, erasing=0.25), grey, seed), plain) for seed in range(60)]
    assert 0.6 < np.mean(untouched) < 0.9


@pytest.mark.parametrize("config", ["random", "rand-x7", "rand-mhigh-m1.5", ""])
def test_a_wrong_rand_augment_is_named(config: str) -> None:
    with pytest.raises(ValueError, match="rand_augment `"):
        train_pipeline(16, MEAN, STD, rand_augment=config)


def test_rand_augment_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[dict[str, Any]] = []

    def record(self: Any) -> dict[str, Any]:
        drawn.append(get_params(self))
        return drawn[-1]

    get_params = pipeline_module._RandAugment.get_params
    monkeypatch.setattr(pipeline_module._RandAugment, "get_params", record)
    hparams = {"translate_const": 7, "img_mean": (0, 0, 0), "interpolation": Image.Resampling.BICUBIC}
    reference = rand_augment_transform("rand-m9-n2", hparams)
    pipeline = train_pipeline(16, (0, 0, 0), (1, 1, 1), rand_augment="rand-m9-n2")
    image = picture(16, 16)
    for seed in range(20):
        ours = pixels_of(run(pipeline, image, seed))
        random.seed(drawn[seed]["seed"])
        places = drawn[seed]["places"]
        monkeypatch.setattr(np.random, "choice", lambda ops, *_, places=places, **__: [ops[place] for place in places])
        np.testing.assert_array_equal(ours, np.asarray(reference(Image.fromarray(image))))
    assert len({tuple(each["places"]) for each in drawn}) > 10


@pytest.mark.parametrize("config", ["rand-m10-inc1", "rand-m0", "rand-m9-mstd101", "rand-m15-n3-mmax15-inc1"])
def test_rand_augment_runs_at_every_magnitude(config: str) -> None:
    pipeline = train_pipeline(16, MEAN, STD, rand_augment=config)
    for seed in range(80):
        assert run(pipeline, picture(16, 16), seed).isfinite().all()


SMOOTH = {"crop_scale": (0.1, 0.6), "crop_ratio": (0.5, 2.0), "horizontal_flip": 0.5}


def coordinates(height: int, width: int) -> np.ndarray:
    """An image whose pixels hold four times the x and y of their centres."""
    y, x = np.mgrid[0:height, 0:width] + 0.5
    return np.stack([4 * x, 4 * y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def assert_affine_tells_where_pixels_come_from(view: View[torch.Tensor]) -> None:
    """Compare the coordinates that each inner pixel holds with those that the affine gives its centre."""
    assert view.affine is not None
    side = view.image.shape[-1]
    y, x = np.mgrid[3 : side - 3, 3 : side - 3]
    came_from = map_points(np.stack([x.ravel(), y.ravel()], axis=1) + 0.5, invert(view.affine))
    held = pixels_of(view.image)[3:-3, 3:-3, :2].reshape(-1, 2) / 4
    assert np.abs(held - came_from).max() < 0.4  # a level of a pixel is a quarter of a coordinate


@pytest.mark.parametrize(
    "options", [{}, {"horizontal_flip": 1.0}, SMOOTH, {**SMOOTH, "interpolation": "bilinear"}], ids=str
)
def test_the_affine_of_training_is_exact(options: dict[str, Any]) -> None:
    pipeline = train_pipeline(24, (0, 0, 0), (1, 1, 1), **options)
    view = View.whole(coordinates(40, 60))
    for seed in range(30):
        assert_affine_tells_where_pixels_come_from(pipeline(view, seed))


@pytest.mark.parametrize("resize", [None, 24, 26, 30])
@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (31, 47)])
def test_the_affine_of_evaluation_is_exact(resize: int | None, shape: tuple[int, int]) -> None:
    pipeline = eval_pipeline(24, (0, 0, 0), (1, 1, 1), resize=resize)
    assert_affine_tells_where_pixels_come_from(pipeline(View.whole(coordinates(*shape))))


def test_the_affine_knows_the_padding_of_a_small_image() -> None:
    image = np.full((12, 12, 3), 255, dtype=np.uint8)
    view = eval_pipeline(24, (0, 0, 0), (1, 1, 1), resize=15)(View.whole(image))
    assert view.affine is not None
    corners = map_points(np.array([[0.0, 0.0], [12.0, 12.0]]), view.affine)
    np.testing.assert_allclose(corners, corners.round(), atol=1e-9)
    (left, top), (right, bottom) = corners.round().astype(int)
    assert view.image[:, top:bottom, left:right].min() == 1
    assert view.image.sum() == 3 * 15 * 15


def test_boxes_follow_the_affine_and_are_clipped_to_the_crop() -> None:
    boxes = np.array([[10.0, 5.0, 30.0, 25.0], [0.0, 0.0, 60.0, 40.0], [50.0, 30.0, 60.0, 40.0]])
    pipeline = train_pipeline(24, (0, 0, 0), (1, 1, 1), **SMOOTH)  # type: ignore[arg-type]
    for seed in range(30):
        view = pipeline(View.whole(coordinates(40, 60), boxes), seed)
        assert view.affine is not None
        assert view.boxes is not None
        corners = map_points(boxes.reshape(-1, 2), view.affine).reshape(-1, 2, 2)
        expected = np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).clip(0, 24)
        np.testing.assert_allclose(view.boxes, expected, atol=1e-9)
        np.testing.assert_allclose(view.boxes[1], [0, 0, 24, 24], atol=1e-9)


def test_colours_and_erasing_leave_affine_and_boxes_as_they_are() -> None:
    colours = {"rand_augment": "rand-m9-t3a", "color_jitter": 0.4, "erasing": 1.0}
    plain = train_pipeline(24, MEAN, STD, horizontal_flip=0.5)
    coloured = train_pipeline(24, MEAN, STD, horizontal_flip=0.5, **colours)  # type: ignore[arg-type]
    view = View.whole(coordinates(40, 60), np.array([[10.0, 5.0, 30.0, 25.0]]))
    for seed in range(10):
        expected, found = plain(view, seed), coloured(view, seed)
        assert not torch.equal(expected.image, found.image)
        np.testing.assert_array_equal(found.affine, expected.affine)
        np.testing.assert_array_equal(found.boxes, expected.boxes)


def test_geometric_rand_augment_gives_up_the_affine_and_refuses_boxes() -> None:
    pipeline = train_pipeline(24, MEAN, STD, rand_augment="rand-m9-mstd0.5-inc1")
    assert pipeline(View.whole(coordinates(40, 60)), 0).affine is None
    with pytest.raises(ValueError, match="rand_augment"):
        pipeline(View.whole(coordinates(40, 60), np.zeros((0, 4))), 0)


@pytest.mark.parametrize("name", sorted(NAME_TO_OP))
def test_the_operations_that_move_pixels_are_known_by_their_names(name: str) -> None:
    """What only changes colours does the same to an image that lies on its side."""
    image, turn = Image.fromarray(picture(32, 32)), Image.Transpose.TRANSPOSE
    operation = AugmentOp(name, prob=1.0, magnitude=7, hparams={"translate_const": 9, "interpolation": 2})
    results = []
    for given in (image, image.transpose(turn)):
        random.seed(1)
        results.append(operation(given))
    upright, lying = np.asarray(results[0], int), np.asarray(results[1].transpose(turn), int)
    assert (np.abs(upright - lying).max() > 2) == name.startswith(pipeline_module._MOVES_PIXELS)


def test_a_text_follows_its_image_where_that_is_mirrored() -> None:
    view = View.whole(coordinates(40, 60), text="the left ramp")
    assert train_pipeline(24, MEAN, STD)(view, 0).text == eval_pipeline(24, MEAN, STD)(view).text == "the left ramp"
    assert train_pipeline(24, MEAN, STD, horizontal_flip=1.0)(view, 0).text == "the right ramp"


def test_pipelines_travel_to_spawned_workers(in_a_worker: Callable[[Any], Any]) -> None:
    image = picture(40, 60)
    for pipeline in (train_pipeline(16, MEAN, STD, **EVERYTHING), eval_pipeline(16, MEAN, STD)):  # type: ignore[arg-type]
        assert torch.equal(run(in_a_worker(pipeline), image, 3), run(pipeline, image, 3))


def test_the_affine_travels_to_spawned_workers(in_a_worker: Callable[[Any], Any]) -> None:
    pipeline = train_pipeline(24, MEAN, STD, **SMOOTH)  # type: ignore[arg-type]
    travelled = in_a_worker(pipeline)
    for seed in range(4):
        view = View.whole(picture(40, 60))
        np.testing.assert_array_equal(travelled(view, seed).affine, pipeline(view, seed).affine)


def test_importing_augment_alone_loads_nothing_heavy() -> None:
    code = "import augment, sys; assert not {'albumentations', 'torch', 'cv2', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
