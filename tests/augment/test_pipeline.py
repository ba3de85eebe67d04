import pickle
import random
import subprocess
import sys
from contextlib import AbstractContextManager

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision import transforms

from augment import pipeline as pipeline_module
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
    ours = eval_pipeline(16, MEAN, STD, resize=resize, interpolation=interpolation)(image)  # type: ignore[arg-type]
    assert torch.equal(ours, published(Image.fromarray(image)))


@pytest.mark.parametrize("shape", SHAPES)
def test_training_works_on_any_shape(shape: tuple[int, int]) -> None:
    pipeline = train_pipeline(16, MEAN, STD, **EVERYTHING)  # type: ignore[arg-type]
    for seed in range(5):
        tensor = pipeline(picture(*shape), seed)
        assert tensor.shape == (3, 16, 16)
        assert tensor.dtype == torch.float32
        assert tensor.isfinite().all()


def test_training_is_a_function_of_image_and_seed() -> None:
    first, second = (train_pipeline(16, MEAN, STD, **EVERYTHING) for _ in range(2))  # type: ignore[arg-type]
    image = picture(40, 60)
    kept = image.copy()
    results = [first(image, seed) for seed in range(8)]
    random.seed(99)
    np.random.seed(99)
    torch.manual_seed(99)
    for seed in reversed(range(8)):
        assert torch.equal(second(image, seed), results[seed])
    assert len({result.numpy().tobytes() for result in results}) == 8
    np.testing.assert_array_equal(image, kept)


def test_training_leaves_the_global_generators_alone() -> None:
    pipeline = train_pipeline(16, MEAN, STD, **EVERYTHING)  # type: ignore[arg-type]
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()  # type: ignore[union-attr]
    for seed in range(4):
        pipeline(picture(40, 60), seed)
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[union-attr]
    assert torch.equal(torch.get_rng_state(), before[2])


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
@pytest.mark.parametrize("shape", [(200, 150), (8, 8), (40, 60)])
def test_resampling_is_pillows_antialiased_one(shape: tuple[int, int], interpolation: str) -> None:
    image = picture(*shape)
    ours = train_pipeline(16, (0, 0, 0), (1, 1, 1), interpolation=interpolation)(image, 0)  # type: ignore[arg-type]
    resampling = Image.Resampling[interpolation.upper()]
    difference = np.abs(pixels_of(ours) - np.asarray(Image.fromarray(image).resize((16, 16), resampling)))
    assert difference.max() <= 2
    assert difference.mean() < 0.1


def test_normalisation_is_torchvisions() -> None:
    image = picture(16, 16)
    published = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])
    ours = train_pipeline(16, MEAN, STD)(image, 0)
    torch.testing.assert_close(ours, published(Image.fromarray(image)), atol=1e-6, rtol=0)


def test_flips_happen_as_often_as_asked_and_mirror_exactly() -> None:
    image = picture(16, 16)
    plain = train_pipeline(16, MEAN, STD)(image, 0)
    pipeline = train_pipeline(16, MEAN, STD, horizontal_flip=0.3)
    flipped = [not torch.equal(pipeline(image, seed), plain) for seed in range(400)]
    assert 0.22 < np.mean(flipped) < 0.38
    assert torch.equal(train_pipeline(16, MEAN, STD, horizontal_flip=1.0)(image, 0), plain.flip(-1))


def test_flips_do_not_depend_on_where_the_crop_lies() -> None:
    ramp = np.repeat(np.arange(0, 240, dtype=np.uint8)[None, :, None], 3, axis=2).repeat(60, axis=0)
    pipeline = train_pipeline(16, (0, 0, 0), (1, 1, 1), crop_scale=(0.1, 0.2), horizontal_flip=0.5)
    results = [pixels_of(pipeline(ramp, seed))[8, :, 0] for seed in range(400)]
    place = np.array([row.mean() for row in results])
    mirrored = np.array([row[0] > row[-1] for row in results])
    assert abs(np.corrcoef(place, mirrored)[0, 1]) < 0.15


def test_crops_cover_the_asked_share_of_the_area() -> None:
    # Pixel values are coordinates, so that the corners of the result tell where the crop lay.
    rows, columns = np.mgrid[0:200, 0:200].astype(np.uint8)
    image = np.stack([rows, columns, np.zeros_like(rows)], axis=-1)
    pipeline = train_pipeline(64, (0, 0, 0), (1, 1, 1), crop_scale=(0.25, 0.5), crop_ratio=(1.0, 1.0))
    for seed in range(40):
        pixels = pixels_of(pipeline(image, seed))
        height = (pixels[-1, 0, 0] - pixels[0, 0, 0]) * 64 / 63
        width = (pixels[0, -1, 1] - pixels[0, 0, 1]) * 64 / 63
        assert 0.23 < height * width / 200**2 < 0.53
        assert height == pytest.approx(width, abs=3)


def test_colour_jitter_stays_within_its_strength() -> None:
    grey = np.full((8, 8, 3), 100, dtype=np.uint8)
    pipeline = train_pipeline(8, (0, 0, 0), (1, 1, 1), color_jitter=0.2)
    values = np.array([pixels_of(pipeline(grey, seed))[0, 0, 0] for seed in range(200)])
    assert 78 <= values.min() < 88  # contrast and saturation leave a plain grey as it is
    assert 112 < values.max() <= 122


def test_erasing_fills_one_rectangle_with_normal_noise() -> None:
    grey = np.full((64, 64, 3), 128, dtype=np.uint8)
    plain = train_pipeline(64, MEAN, STD)(grey, 0)
    pipeline = train_pipeline(64, MEAN, STD, erasing=1.0)
    for seed in range(10):
        erased = pipeline(grey, seed)
        changed = (erased != plain).all(dim=0)
        rows, columns = changed.any(dim=1).nonzero(), changed.any(dim=0).nonzero()
        assert changed[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1].all()
        assert 0.015 < changed.float().mean() < 0.35
        assert abs(erased[:, changed].std() - 1) < 0.2
    untouched = [torch.equal(train_pipeline(64, MEAN, STD, erasing=0.25)(grey, seed), plain) for seed in range(60)]
    assert 0.6 < np.mean(untouched) < 0.9


@pytest.mark.parametrize("config", ["random", "rand-x7", "rand-mhigh-m1.5", ""])
def test_a_wrong_rand_augment_is_named(config: str) -> None:
    with pytest.raises(ValueError, match="rand_augment `"):
        train_pipeline(16, MEAN, STD, rand_augment=config)


def test_rand_augment_is_timms(monkeypatch: pytest.MonkeyPatch) -> None:
    seeds: list[int] = []

    def record(seed: int) -> AbstractContextManager[None]:
        seeds.append(seed)
        return seeded_globals(seed)

    seeded_globals = pipeline_module._seeded_globals
    monkeypatch.setattr(pipeline_module, "_seeded_globals", record)
    hparams = {"translate_const": 7, "img_mean": (0, 0, 0), "interpolation": Image.Resampling.BICUBIC}
    reference = rand_augment_transform("rand-m9-n2", hparams)
    pipeline = train_pipeline(16, (0, 0, 0), (1, 1, 1), rand_augment="rand-m9-n2")
    image = picture(16, 16)
    for seed in range(20):
        ours = pixels_of(pipeline(image, seed))
        random.seed(seeds[seed])
        np.random.seed(seeds[seed])
        np.testing.assert_array_equal(ours, np.asarray(reference(Image.fromarray(image))))


@pytest.mark.parametrize("config", ["rand-m10-inc1", "rand-m0", "rand-m9-mstd101", "rand-m15-n3-mmax15-inc1"])
def test_rand_augment_runs_at_every_magnitude(config: str) -> None:
    pipeline = train_pipeline(16, MEAN, STD, rand_augment=config)
    for seed in range(80):
        assert pipeline(picture(16, 16), seed).isfinite().all()


def test_pipelines_travel_to_spawned_workers() -> None:
    image = picture(40, 60)
    for pipeline in (train_pipeline(16, MEAN, STD, **EVERYTHING), eval_pipeline(16, MEAN, STD)):  # type: ignore[arg-type]
        assert torch.equal(pickle.loads(pickle.dumps(pipeline))(image, 3), pipeline(image, 3))


def test_importing_augment_alone_loads_nothing_heavy() -> None:
    code = "import augment, sys; assert not {'albumentations', 'torch', 'cv2', 'timm'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
