"""The detector as a program: preprocessing inside, ranges of pixels, padding; without tracing."""

import pytest
import torch

from models.detr.backbones import build_backbone
from models.detr.deployed import DeployedDetector
from models.detr.network import RelationDetr
from models.detr.postprocess import likeliest_boxes
from models.detr.transformer import TransformerSizes

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def detector() -> DeployedDetector:
    torch.manual_seed(0)
    backbone, channels = build_backbone("resnet10t", channels=[32, 32, 32, 32], stem_type="", norm_layer="groupnorm")
    sizes = TransformerSizes(64, 4, 64, encoder_layers=1, decoder_layers=2, levels=3, queries=10, hybrid_queries=0)
    return DeployedDetector(RelationDetr(backbone, channels, 3, sizes), MEAN, STD)


@torch.no_grad()
def found(detector, image, size):
    return detector(image, torch.tensor(size))


def test_shares_and_levels_give_the_same_as_the_network_by_itself(detector):
    levels = torch.randint(0, 256, (2, 3, 50, 70)).float()
    mean, std = (torch.tensor(each).view(3, 1, 1) for each in (MEAN, STD))
    pixels, padding = torch.zeros(2, 3, 64, 96), torch.ones(2, 64, 96, dtype=torch.bool)
    pixels[:, :, :50, :70], padding[:, :50, :70] = (levels / 255 - mean) / std, False
    with torch.no_grad():
        queries = detector.network(pixels, padding).queries
    expected = likeliest_boxes(queries.logits[-1], queries.boxes[-1], torch.tensor([[50, 70]] * 2))
    for image in (levels, levels / 255):
        for ours, theirs in zip(found(detector, image, [[50, 70]] * 2), expected, strict=True):
            torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_what_is_outside_of_an_image_does_not_count(detector):
    image = torch.rand(1, 3, 64, 64)
    other = image.clone()
    other[..., 40:, :], other[..., 30:] = 255.0, -7.0
    for ours, theirs in zip(*(found(detector, each, [[40, 30]]) for each in (image, other)), strict=True):
        torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("smallest", "largest", "usable"),
    [
        (0.0, 1.0, True),
        (-0.04, 1.06, True),  # resampled with overshoot
        (0.0, 0.0, True),
        (0.0, 2.0, True),  # a dark image of levels
        (-12.0, 262.0, True),
        (-2.1, 2.6, False),  # normalised
        (-0.1, 2.6, False),
        (-2.1, 0.4, False),
        (-1.0, 1.0, False),
        (0.0, 65535.0, False),
        (0.0, float("nan"), False),
    ],
)
def test_what_cannot_be_pixels_gets_no_scores(detector, smallest, largest, usable):
    image = torch.full((1, 3, 64, 64), smallest)
    image[..., ::2] = largest
    assert found(detector, image, [[64, 64]])[0].isfinite().all() == usable
