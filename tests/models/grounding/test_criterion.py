"""Losses of grounding, against those of the official code.

Items are those of the specification of grounding.
"""

import pytest
import torch
from torch.testing import assert_close

from models.detr.boxes import generalized_iou, to_corners
from models.grounding.criterion import GroundingCriterion, grounding_losses
from models.grounding.output import GroundingOutput


def near(found, expected, within=1e-5):
    assert_close(found, expected, atol=within, rtol=0)


def says(boxes, bin_logits=None):
    """What a network says, as far as losses read it."""
    return GroundingOutput(boxes, bin_logits, None, (1, 1), torch.zeros(len(boxes), 1, dtype=torch.bool))


class TestParity:
    def test_item_1_losses_and_gradient(self, losses):
        tensors, _ = losses
        predicted = tensors["in/pred_cxcywh"].clone().requires_grad_()
        found = GroundingCriterion()(says(predicted), tensors["in/target_cxcywh"])
        near(found["distance"], tensors["out/loss_bbox"][0])
        near(found["giou"], tensors["out/loss_giou"][0])
        torch.stack([*found.values()]).sum().backward()
        near(predicted.grad, tensors["grad/pred_of_sum"])

    def test_item_1_losses_of_each_sample(self, losses):
        tensors, _ = losses
        found = grounding_losses(says(tensors["in/pred_cxcywh"]), tensors["in/target_cxcywh"])
        near(1 - found.giou, tensors["out/giou_per_sample"])

    def test_item_1_what_evaluation_measures(self, losses):
        tensors, _ = losses
        predicted, wanted = to_corners(tensors["in/pred_cxcywh"]), to_corners(tensors["in/target_cxcywh"])
        near(predicted, tensors["out/pred_xyxy"])
        near(generalized_iou(predicted, wanted)[0], tensors["out/iou_unclamped"])
        clamped = generalized_iou(predicted.clamp(0, 1), wanted)[0]
        near(clamped, tensors["out/iou_clamped"])
        assert (clamped >= 0.5).sum() == tensors["out/correct_count"]


@pytest.fixture
def sample():
    """What a network says of three samples, and their boxes."""
    generator = torch.Generator().manual_seed(0)
    boxes, wanted = (0.2 + 0.5 * torch.rand(3, 4, generator=generator) for _ in range(2))
    return says(boxes, torch.randn(3, 4, 8, generator=generator)), wanted


def test_losses_are_weighted_by_name(sample):
    plain, weighted = GroundingCriterion()(*sample), GroundingCriterion(distance=5.0, giou=2.0, bins=0.5)(*sample)
    assert list(plain) == ["distance", "giou", "bins"]
    for name, weight in (("distance", 5.0), ("giou", 2.0), ("bins", 0.5)):
        near(weighted[name], weight * plain[name])


def test_without_a_quantised_head_there_is_no_loss_of_bins(sample):
    output, wanted = sample
    assert list(GroundingCriterion()(output._replace(bin_logits=None), wanted)) == ["distance", "giou"]


def test_samples_may_weigh_less_and_the_mean_stays_over_all(sample):
    output, wanted = sample
    weights = torch.tensor([1.0, 0.0, 0.25])
    found = GroundingCriterion()(output, wanted, weights)
    each = grounding_losses(output, wanted)
    for name in found:
        of_samples = getattr(each, name)
        near(found[name], (of_samples[0] + 0.25 * of_samples[2]) / 3)
    assert_close(GroundingCriterion()(output, wanted, torch.ones(3)), GroundingCriterion()(output, wanted))


def test_targets_of_bins_are_those_asked_for(sample):
    found = {kind: GroundingCriterion(target=kind)(*sample)["bins"] for kind in ("hard", "two_hot", "gaussian")}
    assert len({round(each.item(), 4) for each in found.values()}) == 3
    wider = GroundingCriterion(target="gaussian", deviation=3.0)(*sample)["bins"]
    assert not torch.equal(wider, found["gaussian"])


def test_a_perfect_answer_costs_nothing(sample):
    _, wanted = sample
    found = grounding_losses(says(wanted), wanted)
    near(found.distance, torch.zeros(3))
    near(found.giou, torch.zeros(3))
