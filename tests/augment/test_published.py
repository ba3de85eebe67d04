import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform

from augment.geometry import Size, View, center_crop, height_and_width, map_boxes
from augment.pipeline import eval_pipeline, train_pipeline
from augment.published import _resized_middle, covering_size, crop_as_published, resize_as_published

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height: int, width: int) -> np.ndarray:
    coarse = np.random.default_rng(0).integers(0, 256, (-(-height // 4), -(-width // 4), 3), dtype=np.uint8)
    return np.array(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))


@pytest.mark.parametrize("shape", [(40, 60), (60, 40), (16, 32), (7, 90), (90, 7), (1, 1), (33, 65)])
@pytest.mark.parametrize("size", [(16, 32), (32, 16), (24, 28), (16, 16)])
@pytest.mark.parametrize("share", [1.0, 0.875])
def test_evaluation_of_a_rectangle_is_timms(shape: tuple[int, int], size: tuple[int, int], share: float) -> None:
    published = create_transform(
        (3, *size), interpolation="bicubic", mean=MEAN, std=STD, crop_pct=share, crop_mode="center"
    )
    cover = tuple(int(side / share) for side in size)
    ours = eval_pipeline(size, MEAN, STD, resize=cover)(picture(*shape)).image  # type: ignore[arg-type]
    np.testing.assert_array_equal(ours, published(Image.fromarray(picture(*shape))))


@pytest.mark.parametrize("shape", [(400, 3), (3, 400), (2, 900), (1, 3000), (5000, 7)])
@pytest.mark.parametrize(("cover", "size"), [(64, 56), ((64, 96), (48, 90)), (20, 32)])
def test_the_middle_alone_is_that_of_the_resized_whole(shape: tuple[int, int], cover: Size, size: Size) -> None:
    boxes = np.array([[0.0, 0.0, shape[1], shape[0] / 2]])
    view = View.whole(picture(*shape), boxes)
    whole = covering_size(shape, height_and_width(cover))
    published = center_crop(resize_as_published(view, whole, "bicubic"), size)
    alone = center_crop(_resized_middle(view, whole, height_and_width(size), "bicubic"), size)
    assert np.abs(alone.image.astype(int) - published.image).max() <= 1
    np.testing.assert_allclose(alone.affine, published.affine, atol=1e-9)
    np.testing.assert_allclose(alone.boxes, published.boxes, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1), (3, 60_000)])
@pytest.mark.parametrize("size", [224, (224, 448)])
def test_a_thin_picture_is_not_resized_as_a_whole(
    shape: tuple[int, int], size: Size, monkeypatch: pytest.MonkeyPatch
) -> None:
    largest = 0
    resize = Image.Image.resize

    def watched(image: Image.Image, wanted: tuple[int, int], *args: object, **kwargs: object) -> Image.Image:
        nonlocal largest
        largest = max(largest, wanted[0] * wanted[1])
        assert largest <= 448 * 448, "the whole is resized"
        return resize(image, wanted, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(Image.Image, "resize", watched)
    height, width = height_and_width(size)
    view = crop_as_published(View.whole(np.full((*shape, 3), 77, np.uint8)), size, size, "bicubic")
    assert view.image.shape == (height, width, 3)
    assert (view.image == 77).all()
    assert largest
    whole = map_boxes(np.array([[0.0, 0.0, shape[1], shape[0]]]), view.affine)[0]
    assert np.allclose(whole[[0, 1]] + whole[[2, 3]], (width, height), atol=1.01)  # as much is cut off on both sides


@pytest.mark.parametrize("shape", [(1, 20_000), (20_000, 1)])
@pytest.mark.parametrize("crop_scale", [None, (0.2, 1.0)])
def test_training_takes_thin_pictures(shape: tuple[int, int], crop_scale: tuple[float, float] | None) -> None:
    pipeline = train_pipeline((24, 48), MEAN, STD, crop_scale=crop_scale, rand_augment="rand-m9-mstd0.5-inc1")
    assert pipeline(np.zeros((*shape, 3), np.uint8), 3).image.shape == (3, 24, 48)


def test_bare_pixels_are_a_whole_view() -> None:
    image = picture(40, 60)
    for pipeline in (eval_pipeline(16, MEAN, STD, resize=18), train_pipeline(16, MEAN, STD, crop_scale=(0.2, 1.0))):
        bare, whole = pipeline(image, 5), pipeline(View.whole(image), 5)
        np.testing.assert_array_equal(bare.image, whole.image)
        np.testing.assert_array_equal(bare.affine, whole.affine)
