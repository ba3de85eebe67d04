"""Images without annotations, in a weak and a strong view."""

import numpy as np
import pytest
import torch

from augment.detection import DetectionTraining
from augment.geometry import View
from vision_train.data.boxes.annotations import BoxSample
from vision_train.data.boxes.two_views import TwoViewDataset, Views
from vision_train.errors import UserError

PLAIN = {"mean": (0.0,) * 3, "std": (1.0,) * 3, "longest": 200}


def dataset(samples, erasing=0.0, on_bad="error", **strong) -> TwoViewDataset:
    weak = DetectionTraining(**PLAIN, scales=[32, 48], flip=0.5)
    strongly = DetectionTraining(**PLAIN, scales=[40, 64], flip=0.5, **strong)
    return TwoViewDataset(samples, Views(weak, strongly, erasing), 0, on_bad)


def square() -> BoxSample:
    """A white square on black."""
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[20:40, 30:60] = 255
    return BoxSample("a", pixels)


def test_a_batch_holds_two_views_and_nothing_of_annotations(place):
    place.pictures("a.png", size=(64, 48))
    place.pictures("b.png", size=(40, 48))
    pool = dataset([BoxSample(name, str(place.folder / name)) for name in ("a.png", "b.png")], erasing=1.0)
    batch = pool.to_batch([pool[0, 0], pool[1, 0]])
    assert sorted(batch) == ["bad", "id", "strong", "weak"]
    for view in (batch["weak"], batch["strong"]):
        assert sorted(view) == ["affine", "erased", "image", "padding_mask", "shown"]
        assert view["affine"].dtype == torch.float64
        for place_in, (height, width) in enumerate(view["shown"]):
            inside = ~view["padding_mask"][place_in]
            assert (int(inside.any(1).sum()), int(inside.any(0).sum())) == (height, width)
    assert [len(each) for each in batch["weak"]["erased"]] == [0, 0]
    assert [len(each) for each in batch["strong"]["erased"]] == [3, 3]


def test_views_are_drawn_apart_and_again_in_each_pass():
    pool = dataset([square()], color_jitter=0.4, blur=1.0, erasing=0.5)
    first, again = pool[0, 0], pool[0, 0]
    for name in ("weak", "strong"):
        (view, erased), (same, same_erased) = first[name], again[name]
        assert torch.equal(view.image, same.image)
        assert np.array_equal(erased, same_erased)
    drawn = [pool[0, turn] for turn in range(20)]
    sizes = {name: [each[name][0].image.shape[1] for each in drawn] for name in ("weak", "strong")}
    assert set(sizes["weak"]) == {32, 48}
    assert set(sizes["strong"]) == {40, 64}
    mirrored = [tuple(each[name][0].affine[0, 0] < 0 for name in ("weak", "strong")) for each in drawn]
    assert len(set(mirrored)) == 4


@pytest.mark.parametrize("turn", range(8))
def test_the_affines_say_where_the_pixels_went(turn):
    for view, _ in (dataset([square()])[0, turn][name] for name in ("weak", "strong")):
        assert isinstance(view, View)
        light = (view.image[0] > 0.5).numpy()
        rows, columns = np.flatnonzero(light.any(axis=1)), np.flatnonzero(light.any(axis=0))
        ends = np.array([[30.0, 20.0, 1.0], [60.0, 40.0, 1.0]]) @ view.affine.T
        (left, right), (top, bottom) = sorted(ends[:, 0]), sorted(ends[:, 1])
        found = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
        np.testing.assert_allclose(found, (left, top, right, bottom), atol=1)


def test_an_image_that_cannot_be_read_is_named_or_replaced(place):
    place.pictures("b.png")
    broken = place.text("a.png", "no image")
    samples = [BoxSample("a.png", str(broken)), BoxSample("b.png", str(place.folder / "b.png"))]
    with pytest.raises(UserError, match=r"a\.png: .*data\.on_bad=skip"):
        raise dataset(samples).refusal(dataset(samples)[0, 0]["bad"])
    assert dataset(samples, on_bad="skip")[0, 0]["id"] == "b.png"
