import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from sklearn.datasets import load_sample_image

from augment.geometry import View, invert, map_points
from augment.pipeline import train_pipeline
from vision_train.data.decode import BadImageError, decode, decode_reduced
from vision_train.data.image_dataset import ImageDataset, TwoViewDataset, original_view
from vision_train.data.sample import ImageSample

MEAN, STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def by(factor: int) -> Any:
    return lambda size: factor


def saved(image: Image.Image, path: Path, orientation: int = 1, **options: Any) -> Path:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    image.save(path, exif=exif, **options)
    return path


@pytest.fixture(scope="module")
def photograph() -> Image.Image:
    """A photograph of 640 x 427 pixels."""
    return Image.fromarray(load_sample_image("flower.jpg"))


def _terms(size: tuple[int, int]) -> np.ndarray:
    """x, y and 1 of the centres of all pixels, one row each."""
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    return np.stack([x.ravel(), y.ravel(), np.ones(x.size)], axis=1)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("factor", [2, 4, 8])
def test_reduced_pixels_lie_where_the_affine_says(tmp_path: Path, factor: int, orientation: int) -> None:
    height, width = 203, 333  # no multiples of 8
    y, x = np.mgrid[:height, :width] + 0.5
    ramps = np.stack([x * 0.7, y * 1.2, (x + y) * 0.4], axis=2)
    path = saved(Image.fromarray(ramps.round().astype(np.uint8)), tmp_path / "a.jpg", orientation, quality=98)
    upright = decode(path).astype(np.float64)
    view = decode_reduced(path, by(factor))
    assert view.whole_size == upright.shape[:2]
    assert view.affine is not None
    rows, columns = view.image.shape[:2]
    centres = np.stack(np.meshgrid(np.arange(columns) + 0.5, np.arange(rows) + 0.5), axis=2)
    places = map_points(centres.reshape(-1, 2), invert(view.affine)).reshape(rows, columns, 2)
    inside = slice(1, -1)  # of the outermost ones a part is beyond the image
    # The ramps are linear: the upright pixels say their values at any place.
    ramp, *_ = np.linalg.lstsq(_terms(upright.shape[:2]), upright.reshape(-1, 3), rcond=None)
    terms = np.concatenate([places, np.ones((rows, columns, 1))], axis=2)
    expected = terms @ ramp
    error = (view.image - expected)[inside, inside]
    assert np.abs(error.mean(axis=(0, 1))).max() < 0.35  # half a reduced pixel is 0.7 to 4.8 levels


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_crops_of_a_photograph_are_nearly_those_of_all_its_pixels(
    photograph: Image.Image, tmp_path: Path, orientation: int
) -> None:
    path = saved(photograph, tmp_path / "a.jpg", orientation, quality=90)
    sample = ImageSample("a", str(path))
    pipeline = train_pipeline(64, MEAN, STD, crop_scale=(0.2, 1.0), horizontal_flip=0.5)
    factors = set()
    for seed in range(20):
        view = original_view(sample, [(pipeline, seed)], reduced=True)
        factors.add(1 if view.original_size is None else round(1 / view.affine[0, 0]))  # type: ignore[index]
        quick = pipeline(view, seed)
        exact = pipeline(View.whole(decode(path)), seed)
        np.testing.assert_array_equal(quick.affine, exact.affine)
        assert (quick.image - exact.image).abs().mean() * 255 < 3
    assert factors >= {2, 4}


@pytest.mark.parametrize(("name", "mode"), [("a.png", "RGB"), ("a.jpg", "CMYK"), ("a.bmp", "L")])
def test_what_libjpeg_cannot_divide_is_decoded_as_ever(
    photograph: Image.Image, tmp_path: Path, name: str, mode: str
) -> None:
    photograph.convert(mode).save(tmp_path / name)
    view = decode_reduced(tmp_path / name, by(8))
    assert view.original_size is None
    np.testing.assert_array_equal(view.image, decode(tmp_path / name))


def test_grey_and_progressive_files_are_divided(photograph: Image.Image, tmp_path: Path) -> None:
    for mode, progressive in (("L", False), ("RGB", True)):
        photograph.convert(mode).save(tmp_path / "a.jpg", progressive=progressive)
        view = decode_reduced(tmp_path / "a.jpg", by(4))
        assert view.image.shape == (107, 160, 3)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.9])
def test_a_truncated_file_is_as_bad_as_ever(photograph: Image.Image, tmp_path: Path, kept: float) -> None:
    stream = io.BytesIO()
    photograph.save(stream, "JPEG")
    path = tmp_path / "a.jpg"
    path.write_bytes(stream.getvalue()[: int(kept * stream.tell())])
    with pytest.raises(BadImageError) as expected:
        decode(path)
    with pytest.raises(BadImageError) as found:
        decode_reduced(path, by(4))
    assert str(found.value) == str(expected.value)


def test_a_missing_file_is_named_as_ever(tmp_path: Path) -> None:
    with pytest.raises(BadImageError, match="No such file"):
        decode_reduced(tmp_path / "none.jpg", by(4))


def test_data_sets_reduce_where_they_are_told_to(photograph: Image.Image, tmp_path: Path) -> None:
    samples = [ImageSample("a", str(saved(photograph, tmp_path / "a.jpg")))]
    small, large = (train_pipeline(side, MEAN, STD) for side in (48, 160))
    for reduced in (False, True):
        item = ImageDataset(samples, small, 0, "error", reduced=reduced)[0, 0]
        assert item["size"] == (427, 640)
        exact = ImageDataset(samples, small, 0, "error")[0, 0]["image"]
        assert torch.equal(item["image"], exact) != reduced
    # Two views are cut from one decoding, which suits the larger one.
    views = TwoViewDataset(samples, small, large, 0, "error", reduced=True)[0, 0]
    view = decode_reduced(samples[0].image, by(2))  # type: ignore[arg-type]
    assert torch.equal(views["strong"], large(view, 0).image)
    assert torch.equal(views["weak"], small(view, 0).image)
