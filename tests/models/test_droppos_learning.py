"""Positions are learnt where images tell them, and only there.

Numbers in names are those of the acceptance list in ``docs/methods/droppos.md``.
"""

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer

from models.droppos.decoders import DecoderShape
from models.droppos.masks import Masking, MaskSampler
from models.droppos.network import MaskedPositionNetwork
from models.droppos.scores import score_positions
from models.droppos.smoothing import decayed_sigma, position_targets

pytestmark = pytest.mark.slow  # trains

PATCHES, EPOCHS, STEPS = 16, 10, 150
RAMP = torch.linspace(-1.5, 1.5, 16)
GRADIENT = torch.stack([RAMP.expand(16, 16), RAMP[:, None].expand(16, 16), torch.zeros(16, 16)])
"""Colour tells the place: red grows with the column, green with the row."""


def gradients(batch):
    return GRADIENT + 0.05 * torch.randn(batch, 3, 16, 16)


def noise(batch):
    return torch.randn(batch, 3, 16, 16)


def accuracy_after_training(images, compat=None):
    """``acc1`` on fresh images after a few epochs, each with its own width of smoothing."""
    encoder = VisionTransformer(img_size=16, patch_size=4, embed_dim=24, depth=2, num_heads=2, num_classes=0)
    network = MaskedPositionNetwork(encoder, decoder=DecoderShape(16, 1, 2))
    sampler = MaskSampler(Masking(0.5, 0.75), PATCHES, seed=0)
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=3e-3)
    for step in range(STEPS):
        sigma = decayed_sigma(1.0, step * EPOCHS // STEPS, EPOCHS)
        targets = position_targets((4, 4), sigma, compat=compat, patch=4)
        optimizer.zero_grad()
        network(images(32), sampler.draw(32), targets).loss.backward()
        optimizer.step()
    with torch.no_grad():
        output = network(images(256), sampler.draw(256), torch.eye(PATCHES))
    return score_positions(output, (4, 4)).means()["acc1"].item()


@pytest.mark.parametrize("compat", [None, "official"])
def test_item_15_positions_are_learnt_from_structured_images(compat):
    assert accuracy_after_training(gradients, compat) > 10 / PATCHES


def test_item_15_nothing_is_learnt_from_noise():
    assert 0.5 / PATCHES < accuracy_after_training(noise) < 2 / PATCHES
