"""Both networks learn which of two squares is meant: from the text where the image is the same, and the other way."""

import pytest
import torch
from torch import nn

from models.detr.boxes import generalized_iou, to_corners
from models.grounding.criterion import GroundingCriterion
from models.grounding.quantised import likeliest_box
from models.grounding.transvg import TransVGSizes, build_transvg
from models.grounding.vltvg import VLTVGSizes, build_vltvg
from models.text import BertSizes

BERT = BertSizes(10, 16, 1, 2, 16, 8)
SMALL = {"dim": 32, "heads": 2, "hidden": 32, "visual_layers": 1, "bins": 8, "dropout": 0.0}
RED, BLUE = 5, 6
STEPS = 120


class Cells(nn.Module):
    """A backbone that gives every 8 x 8 pixels as a cell."""

    def forward(self, images):
        return [nn.functional.avg_pool2d(images, 8)]


def scenes():
    """Four pairs of an image and a word: a red and a blue square, at two places; which one is meant is the word's."""
    images, words, boxes = torch.zeros(4, 3, 32, 32), torch.tensor([RED, BLUE, RED, BLUE]), torch.empty(4, 4)
    places = {True: (slice(0, 16), slice(0, 16)), False: (slice(16, 32), slice(8, 32))}
    centres = {True: torch.tensor([0.25, 0.25, 0.5, 0.5]), False: torch.tensor([0.625, 0.75, 0.75, 0.5])}
    for number, word in enumerate(words.tolist()):
        red_first = number < 2
        images[number, 0][places[red_first]] = 1
        images[number, 2][places[not red_first]] = 1
        boxes[number] = centres[red_first == (word == RED)]
    ids = torch.stack((torch.full((4,), 2), words, torch.full((4,), 3)), dim=1)
    return (images, torch.zeros(4, 32, 32).bool(), ids, torch.zeros(4, 3).bool()), boxes


def build(name):
    torch.manual_seed(0)
    if name == "vltvg":
        return build_vltvg(Cells(), 3, BERT, VLTVGSizes(text_layers=1, stages=2, **SMALL))
    sizes = TransVGSizes(
        image_size=32, stride=8, text_length=3, text_layer=1, fusion_layers=2, sine_start=True, **SMALL
    )
    return build_transvg(Cells(), 3, BERT, sizes)


@pytest.mark.parametrize("name", ["transvg", "vltvg"])
@pytest.mark.parametrize("pairs", [[0, 1], [0, 2]], ids=["the text decides", "the image decides"])
def test_two_pairs_are_learnt_by_both_heads(name, pairs):
    network, (batch, boxes) = build(name), scenes()
    batch, boxes = [each[pairs] for each in batch], boxes[pairs]
    optimizer, criterion = torch.optim.AdamW(network.parameters(), lr=1e-3), GroundingCriterion(distance=5.0, giou=2.0)
    for _ in range(STEPS):
        optimizer.zero_grad()
        torch.stack([*criterion(network(*batch), boxes).values()]).sum().backward()
        nn.utils.clip_grad_norm_(network.parameters(), 0.5)
        optimizer.step()
    found = network.eval()(*batch)
    assert generalized_iou(to_corners(found.boxes), to_corners(boxes))[0].min() > 0.7
    assert (likeliest_box(found.bin_logits) - boxes).abs().max() <= 1 / 16 + 1e-6
