"""Fixed sine-cosine positions of timm's vision transformers; ``test_vit.py`` brings tables to other grids."""

import pytest
import torch
from timm.models.deit import VisionTransformerDistilled
from timm.models.vision_transformer import VisionTransformer

from models.positions import fix_positions, position_prefix, sincos_positions
from models.vit import build_model

SMALL = {"img_size": (8, 12), "patch_size": 4, "embed_dim": 8, "depth": 1, "num_heads": 2, "num_classes": 3}


def by_the_formula(row, column, width):
    """[sin(column w), cos(column w), sin(row w), cos(row w)] with w_i = 10000 ** (-i / (width / 4))."""
    rates = 10_000 ** (-torch.arange(width // 4, dtype=torch.float64) / (width / 4))
    return torch.cat([wave(place * rates) for place in (column, row) for wave in (torch.sin, torch.cos)]).float()


def test_the_table_follows_the_formula_behind_rows_of_zeros():
    table = sincos_positions((2, 3), 8, prefix=2)
    assert table.shape == (1, 2 + 6, 8)
    assert not table[0, :2].any()
    expected = torch.stack([by_the_formula(row, column, 8) for row in range(2) for column in range(3)])
    torch.testing.assert_close(table[0, 2:], expected)


def test_no_two_places_are_alike():
    table = sincos_positions((14, 14), 48, prefix=0)[0]
    apart = torch.cdist(table, table) + torch.eye(196)
    assert apart.min() > 0.1


@pytest.mark.parametrize(
    ("build", "prefix"),
    [
        (lambda: VisionTransformer(**SMALL), 1),
        (lambda: VisionTransformer(**SMALL, reg_tokens=3), 4),
        (lambda: VisionTransformer(**SMALL, reg_tokens=3, no_embed_class=True), 0),
        (lambda: VisionTransformer(**SMALL, class_token=False, global_pool="avg"), 0),
        (lambda: VisionTransformerDistilled(**SMALL), 2),
    ],
)
def test_fixed_positions_fill_the_table_and_no_training_changes_them(build, prefix):
    network = build()
    fix_positions(network)
    assert position_prefix(network) == prefix
    table = sincos_positions((2, 3), 8, prefix=prefix)
    assert torch.equal(network.pos_embed, table)
    assert isinstance(network.pos_embed, torch.nn.Parameter), "checkpoints know it under its name"
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, weight_decay=0.5)
    network(torch.randn(2, 3, 8, 12)).sum().backward()
    optimizer.step()
    assert torch.equal(network.pos_embed, table)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("swin_tiny_patch4_window7_224", {}, "SwinTransformer has no table of positions that could be fixed"),
        ("resnet18", {}, "ResNet has no table of positions"),
        ("vit_tiny_patch16_224", {"pos_embed": "none"}, "VisionTransformer has no table of positions"),
        ("vit_tiny_patch16_224", {"embed_dim": 30}, "has a width of 30, and sin-cos positions need a multiple of 4"),
    ],
)
def test_networks_without_a_table_that_fits_are_refused(name, args, message):
    with torch.device("meta"):
        network = build_model(name, num_classes=2, image_size=224, **args)
    with pytest.raises(ValueError, match=message):
        fix_positions(network)
