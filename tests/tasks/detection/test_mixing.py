"""MixPL's mixing of unlabelled images: off until its cache is full, boxes go where the pixels go, and it resumes."""

import numpy as np
import pytest
import torch

from augment.geometry import IDENTITY
from vision_train.semi.boxes import WEIGHT_OF_EMPTY, PseudoBoxes
from vision_train.tasks.detection.mixing import KEPT, PoolMixing


def box_in(corners, label: int, unsure=()) -> PseudoBoxes:
    boxes, regions = (np.array(each, dtype=float).reshape(-1, 4) for each in (corners, unsure))
    count = len(boxes)
    weight = 1.0 if count else 0.0 if len(regions) else WEIGHT_OF_EMPTY
    return PseudoBoxes(boxes, np.full(count, label), np.full(count, 0.8), regions, weight)


NOTHING_KNOWN = PseudoBoxes(np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros((0, 4)), 0.0)


def step(number: int, images: int = 2, unknown: bool = False):
    """Views of 48 x 64 pixels, padded to 64, that each show one bright rectangle with its box."""
    random, view = np.random.default_rng(number), torch.zeros(images, 3, 64, 64)
    boxes = []
    for place in range(images):
        left, top = (int(each) for each in random.integers(0, 24, 2))
        view[place, :, top : top + 20, left : left + 24] = 10
        boxes.append(NOTHING_KNOWN if unknown else box_in([left, top, left + 24, top + 20], place))
    mask = torch.zeros(images, 64, 64, dtype=torch.bool)
    mask[:, 48:] = True
    affine = torch.from_numpy(np.stack([IDENTITY] * images))
    strong = {"image": view, "padding_mask": mask, "shown": [(48, 64)] * images, "affine": affine}
    return strong, boxes


@pytest.fixture
def filled() -> PoolMixing:
    mixing = PoolMixing(0, 64)
    for number in range(3):
        mixing.mix(*step(number), 0)
    return mixing


def test_nothing_is_mixed_until_there_are_enough_views_and_something_is_erased():
    mixing = PoolMixing(0, 64)
    for number in range(KEPT // 2 - 1):
        strong, boxes = step(number)
        before = strong["image"].clone()
        (found,) = mixing.mix(strong, boxes, 0)
        assert found.weight == 1.0
        assert torch.equal(strong["image"], before), "the batch itself is not changed"
        assert not torch.equal(found.view["image"], before)
        for one, other in zip(found.boxes, boxes, strict=True):
            assert np.array_equal(one.boxes, other.boxes) or len(one.unsure)
    assert [found.weight for found in mixing.mix(*step(9), 0)] == [1.0, 0.5]


def test_boxes_of_both_lie_where_the_pixels_went(filled):
    half_sums, mosaic = filled.mix(*step(5), 0)
    assert [len(each.boxes) + len(each.unsure) for each in half_sums.boxes] == [2, 2]
    assert sum(len(each.boxes) + len(each.unsure) for each in mosaic.boxes) == 4
    for found in (half_sums, mosaic):
        for image, taught, (height, width) in zip(found.view["image"], found.boxes, found.view["shown"], strict=True):
            for left, top, right, bottom in np.rint(taught.boxes).astype(int):
                assert 0 <= left < right <= width
                assert 0 <= top < bottom <= height
                assert image[0, top:bottom, left:right].median() >= 4.5
    assert half_sums.view["image"][:, :, 48:].abs().sum() == 0, "padding stays empty"
    height, width = mosaic.view["shown"][0]
    assert height % 32 == width % 32 == 0
    assert min(height, width) >= 64
    assert max(height, width) <= 128
    assert not mosaic.view["padding_mask"].any()


def test_what_is_not_known_of_one_image_is_not_known_of_the_mixed_one(filled):
    half_sums, mosaic = filled.mix(*step(5, unknown=True), 0)
    assert [each.weight for each in (*half_sums.boxes, *mosaic.boxes)] == [0.0] * 3
    assert not any(len(each.boxes) + len(each.unsure) for each in (*half_sums.boxes, *mosaic.boxes))


def test_a_batch_larger_than_what_is_kept_mixes_each_image_with_another_one():
    strong, boxes = step(0, images=KEPT + 3)
    half_sums, _ = PoolMixing(0, 64).mix(strong, boxes, 0)
    for place, taught in enumerate(half_sums.boxes):
        assert taught.labels.tolist().count(place) <= 1
        assert len(taught.boxes) + len(taught.unsure) == 2


def test_it_goes_on_from_its_state_to_the_bit(filled):
    resumed = PoolMixing(0, 64)
    resumed.load_state_dict(filled.state_dict())
    for number in range(5, 8):
        ours, theirs = (mixing.mix(*step(number), 0) for mixing in (filled, resumed))
        for one, other in zip(ours, theirs, strict=True):
            assert torch.equal(one.view["image"], other.view["image"])
            assert all(np.array_equal(a.boxes, b.boxes) for a, b in zip(one.boxes, other.boxes, strict=True))
    for lacking in filled.state_dict():
        state = filled.state_dict()
        del state[lacking]
        with pytest.raises(KeyError, match=lacking):
            resumed.load_state_dict(state)


def test_processes_draw_apart(filled):
    other = PoolMixing(0, 64)
    other.load_state_dict(filled.state_dict())
    (ours, _), (theirs, _) = filled.mix(*step(5), 0), other.mix(*step(5), 1)
    assert not torch.equal(ours.view["image"], theirs.view["image"])
