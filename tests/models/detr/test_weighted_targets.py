"""Targets that are not certain: weights of images and boxes, and regions where there may be an object.

Items are those of the specification of learning from unlabelled images.
"""

import pytest
import torch
from torch.testing import assert_close

from models.detr.boxes import generalized_iou, to_corners
from models.detr.criterion import Criterion, apart_from_unsure
from models.detr.decoder import Predictions
from models.detr.denoising import Target
from models.detr.network import Found, Trained
from tests.models.detr.conftest import random_boxes, random_targets

IMAGES = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
WHOLE = torch.zeros(2, 64, 64, dtype=torch.bool)


@pytest.fixture
def trained() -> Trained:
    generator = torch.Generator().manual_seed(0)

    def predictions(layers: int) -> Predictions:
        return Predictions(torch.randn(layers, 2, 12, 5, generator=generator), random_boxes(layers, 2, 12))

    return Trained(Found(predictions(1), predictions(3)), None, None, Found(predictions(1), predictions(3)))


def total(losses: dict[str, torch.Tensor], kind: str) -> float:
    return sum(value.item() for name, value in losses.items() if name.startswith(f"loss_{kind}"))


def test_weights_of_1_change_nothing(trained):
    plain = random_targets([3, 2])
    weighted = [target._replace(box_weights=torch.ones(len(target.labels))) for target in plain]
    weighted[1] = weighted[1]._replace(weight=1.0, unsure=torch.zeros(0, 4))
    expected, found = Criterion()(trained, plain), Criterion()(trained, weighted)
    assert expected.keys() == found.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def test_losses_of_a_box_are_multiplied_by_its_weight(trained):
    (plain, _) = targets = random_targets([1, 0])
    weighted = [plain._replace(box_weights=torch.tensor([0.25])), targets[1]]
    expected, found = Criterion()(trained, targets), Criterion()(trained, weighted)
    for name, value in expected.items():
        factor = 1.0 if name.startswith("loss_class") else 0.25
        assert_close(found[name], factor * value)


def test_item_12_an_empty_image_counts_as_it_weighs_and_adds_no_positive(trained):
    """An image without boxes is background, with a weight."""
    first, empty = random_targets([2, 0])
    sums = [total(Criterion()(trained, [first, empty._replace(weight=weight)]), "class") for weight in (0.0, 0.25, 1.0)]
    assert sums[1] - sums[0] == pytest.approx(0.25 * (sums[2] - sums[0]), rel=1e-4)
    nothing = [target._replace(weight=0.0) for target in random_targets([0, 0])]
    assert {value.item() for value in Criterion()(trained, nothing).values()} == {0.0}


def test_item_13_nothing_is_background_where_anything_may_be(trained):
    boxes = [torch.cat([branch[number] for found in (trained.found, trained.hybrid) for branch in
             (found.queries.boxes.transpose(0, 1), found.first_stage.boxes.transpose(0, 1))]).reshape(-1, 4)
             for number in range(2)]  # fmt: skip
    unsure = [target._replace(unsure=each) for target, each in zip(random_targets([0, 0]), boxes, strict=True)]
    assert {value.item() for value in Criterion()(trained, unsure).values()} == {0.0}


def test_item_13_without_unsure_regions_the_loss_is_the_plain_one(trained):
    plain = random_targets([3, 2])
    empty = [target._replace(unsure=torch.zeros(0, 4)) for target in plain]
    far = [target._replace(unsure=torch.tensor([[5.0, 5.0, 0.1, 0.1]])) for target in plain]
    for targets in (empty, far):
        found = Criterion()(trained, targets)
        assert all(torch.equal(value, found[name]) for name, value in Criterion()(trained, plain).items())


def test_a_matched_query_counts_though_it_lies_on_an_unsure_region(trained):
    (target, empty) = random_targets([1, 0])
    both = [target._replace(unsure=target.boxes), empty]
    found = Criterion()(trained, both)
    assert total(found, "bbox") == total(Criterion()(trained, [target, empty]), "bbox") > 0


def test_apart_means_an_iou_of_at_most_one_half():
    boxes, regions = random_boxes(3, 2, 40), random_boxes(2, 5, seed=1)
    targets = [Target(torch.zeros(0, 4), torch.zeros(0, dtype=torch.long), unsure=each) for each in regions]
    apart = apart_from_unsure(boxes, targets)
    iou, _ = generalized_iou(to_corners(boxes)[..., None, :], to_corners(regions)[None, :, None])
    assert torch.equal(apart, iou.amax(-1) <= 0.5)
    assert not apart.all()
    assert apart_from_unsure(boxes, [target._replace(unsure=None) for target in targets]) is None


def test_without_targets_to_spoil_there_are_no_denoising_queries(make_network):
    network, targets = make_network(), random_targets([3, 2])
    spoilt, plain = network.learn(IMAGES, WHOLE, targets), network.learn(IMAGES, WHOLE, None)
    assert plain.denoising is plain.spoilt is None
    assert_close(plain.found.queries.logits, spoilt.found.queries.logits, atol=1e-5, rtol=0)
    losses = Criterion()(plain, targets)
    assert not any("_dn" in name for name in losses)
    assert any("_hybrid" in name for name in losses)
