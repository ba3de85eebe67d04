"""Mosaics and blends of a data set with boxes."""

import pytest
import torch

from vision_train.data.boxes import Mixing
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment
from vision_train.recipe.sections import Mixing as MixingOfBatches

NAMES = [f"{number:02d}.png" for number in range(8)]
ALL = Mixing(mosaic=1.0, mixup=1.0)


@pytest.fixture
def mixed(place):
    """Build the module of eight images with a box each, the whole image, and an ignored region."""

    def make(mixing=ALL, **keys):
        place.pictures(*NAMES)
        boxes = [{"bbox": [0, 0, 64, 48], "image_id": number, "category_id": 1 + number % 2} for number in range(1, 9)]
        crowds = [{"bbox": [0, 0, 64, 48], "image_id": number, "iscrowd": 1} for number in range(1, 9)]
        place.coco(*boxes, *crowds, images=NAMES)
        return place.build(mixing=mixing, **keys)

    return make


def batches(module, epoch=0):
    loader = module.train_dataloader()
    loader.batch_sampler.set_epoch(epoch)
    return list(loader)


def test_a_mixed_image_has_the_boxes_and_ignored_regions_of_all(mixed):
    for batch in batches(mixed()):
        for boxes, ids, ignored in zip(batch["boxes"], batch["class_ids"], batch["ignore"], strict=True):
            assert len(boxes) == len(ids) == len(ignored) == 5
            areas = boxes[:, 2:].prod(1)
            assert areas[:4].sum().item() == pytest.approx(1, abs=1e-4), "four windows fill the image"
            torch.testing.assert_close(boxes[4], torch.tensor([0.5, 0.5, 1, 1]))
            torch.testing.assert_close(boxes, ignored)


def test_what_a_mosaic_hardly_shows_is_an_ignored_region(mixed, monkeypatch):
    monkeypatch.setattr("vision_train.data.boxes.dataset.LEAST_SHOWN", 0.4)
    for batch in batches(mixed(Mixing(mosaic=1.0))):
        for boxes, ids, ignored in zip(batch["boxes"], batch["class_ids"], batch["ignore"], strict=True):
            assert len(boxes) == len(ids) < 4
            hidden = ignored[4:]  # after the four regions of the annotations
            assert len(boxes) + len(hidden) == 4
            together = torch.cat((boxes, hidden))
            assert together[:, 2:].prod(1).sum().item() == pytest.approx(1, abs=1e-4)


def test_the_affine_is_that_of_the_image_itself(mixed):
    (batch, *_) = batches(mixed())
    for affine, boxes in zip(batch["affine"], batch["boxes"], strict=True):
        corners = affine @ torch.tensor([[0.0, 64], [0, 48], [1, 1]], dtype=torch.float64)
        sides = (boxes[0, 2:] * torch.tensor([64, 48])).double()  # its window, which the whole image covers
        assert (corners[:2, 1] - corners[:2, 0] >= sides - 1e-3).all()


def test_boxes_that_are_cut_away_are_dropped(mixed):
    module = mixed(min_side=30.0)
    lengths = {len(boxes) for batch in batches(module) for boxes in batch["boxes"]}
    assert max(lengths) < 5


def test_mixing_is_the_same_whatever_the_workers_and_other_in_each_epoch(mixed):
    alone, again = batches(mixed()), batches(mixed(workers=1))
    for one, other in zip(alone, again, strict=True):
        assert torch.equal(one["image"], other["image"])
    boxes = [
        {tuple(each.flatten().tolist()) for batch in batches(mixed(), epoch) for each in batch["boxes"]}
        for epoch in (0, 1)
    ]
    assert not boxes[0] & boxes[1]


def test_mixing_ends_with_its_epochs_and_is_not_for_evaluation(mixed):
    module = mixed(Mixing(mosaic=1.0, epochs=1))
    assert {len(each) for batch in batches(module, 0) for each in batch["boxes"]} == {4}
    assert {len(each) for batch in batches(module, 1) for each in batch["boxes"]} == {1}
    assert {len(each) for batch in module.val_dataloader()[0] for each in batch["boxes"]} == {1}


def test_an_image_that_cannot_be_read_is_named_as_the_one_mixed_in(mixed, place):
    module = mixed()
    broken = module.samples("train")[2]
    (place.folder / broken.id).write_bytes(b"no image")
    with pytest.raises(UserError, match=rf"{broken.id}"):
        batches(module)
    skipping = mixed(on_bad="skip")
    (place.folder / broken.id).write_bytes(b"no image")
    assert all(len(each) == 5 for batch in batches(skipping) for each in batch["boxes"])
    assert any(broken.id in name for name in skipping.skipped)


def test_images_of_a_single_pixel_are_no_mosaics(place):
    place.pictures(*NAMES[:4], size=(1, 1))
    place.coco(*({"bbox": [0, 0, 1, 1], "image_id": each} for each in range(1, 5)), images=NAMES[:4], size=(1, 1))
    module = place.build(mixing=Mixing(mosaic=1.0), short_side=32, long_side=32)
    assert {len(each) for batch in batches(module) for each in batch["boxes"]} == {1}


@pytest.mark.parametrize("key", ["mosaic", "mixup", "epochs"])
def test_values_outside_their_range_are_named(key):
    assert [name for name, _ in Mixing(**{key: -1}).problems()] == [key]


def test_mixing_of_whole_batches_is_refused_and_what_to_set_instead_is_named(mixed):
    with pytest.raises(UserError, match=r"augment\.mixing.*data\.mixing\.mosaic"):
        mixed(None, augment=Augment(mixing=MixingOfBatches(mixup=0.5)))
