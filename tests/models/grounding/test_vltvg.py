"""VLTVG in what its official code cannot be asked: other grids, padding that is masked, and what it refuses."""

import math

import pytest
import torch
from torch.testing import assert_close

from models.attention import additive_bias
from models.grounding.criterion import GroundingCriterion, grounding_losses
from models.grounding.cross_attention import CrossAttention, GridAttention
from models.grounding.encoder import EncoderSizes
from models.grounding.transvg import TransVGSizes, build_transvg
from models.grounding.visual import VisualBranch
from models.grounding.vltvg import VLTVG, VLTVGSizes, build_vltvg
from models.text import BertSizes, build_bert

SIZES = EncoderSizes(dim=8, heads=2, hidden=12, layers=3)
BERT = BertSizes(40, 12, 5, 3, 16, 16)
GRID = (3, 4)


class Cells(torch.nn.Module):
    """A backbone that gives every 8 x 8 pixels as a cell."""

    def forward(self, images):
        return [torch.nn.functional.avg_pool2d(images, 8)]


def build(**changed):
    torch.manual_seed(0)
    visual = VisualBranch(Cells(), 3, EncoderSizes(8, 2, 12, 1))
    network = VLTVG(visual, build_bert(BERT), SIZES, text_dim=12, text_layers=(2, 3, 4, 5), bins=6, **changed)
    network.eval().double()
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return network


@pytest.fixture
def network():
    return build()


@pytest.fixture
def batch():
    """Images of 3 x 4 cells, texts of 5 tokens; of the second pair a column of cells and two tokens are padding."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 24, 32, generator=generator).double()
    padding_mask = torch.zeros(2, 24, 32, dtype=torch.bool)
    padding_mask[1, :, :8] = True
    ids = torch.randint(5, 40, (2, 5), generator=generator)
    return images, padding_mask, ids, torch.arange(5)[None] >= torch.tensor([[5], [3]])


def test_it_keeps_the_contract(network, batch):
    found = network(*batch, with_attention=True)
    assert (found.grid, found.bin_logits.shape, found.earlier_boxes.shape) == (GRID, (2, 4, 6), (2, 2, 4))
    assert_close(found.attention.sum(1), torch.ones(2))
    assert torch.equal(found.padding[1], torch.tensor([True, False, False, False] * 3))
    assert not found.attention[found.padding].any()
    plain = network(*batch)
    assert plain.attention is None
    assert torch.equal(plain.boxes, found.boxes)


def test_a_cell_scores_most_where_it_agrees_with_its_text(network):
    verification = network.verification
    with torch.no_grad():
        verification.tf_scale.fill_(1.0)
        verification.tf_sigma.fill_(0.5)
        for head in (verification.img_proj, verification.text_proj):
            head.layers[0].weight.copy_(torch.eye(8))
            head.layers[0].bias.zero_()
    cell = torch.eye(8).double()[None, :3]
    text = torch.stack((cell[0, 0], cell[0, 2], -cell[0, 2]))[None]
    expected = torch.tensor([1.0, math.exp(-2), math.exp(-8)]).double()
    assert_close(verification.scores(cell, text)[0], expected, atol=1e-6, rtol=0)


def test_what_lies_on_padding_changes_nothing(network, batch):
    images, padding_mask, ids, text_padding = batch
    other = images.masked_fill(padding_mask[:, None], 5.0), padding_mask, ids.masked_fill(text_padding, 7), text_padding
    assert_close(network(*other).boxes, network(*batch).boxes)


def test_where_padding_is_not_masked_its_cells_are_as_any_others(batch):
    images, padding_mask, *text = batch
    found = build(mask_padding=False)(*batch, with_attention=True)
    expected = build()(images, torch.zeros_like(padding_mask), *text, with_attention=True)
    assert torch.equal(found.boxes, expected.boxes)
    assert torch.equal(found.attention, expected.attention)
    assert not found.padding.any()


@pytest.mark.parametrize("size", [(8, 48), (40, 16)])
def test_images_may_have_any_size(network, size):
    images, padding_mask = torch.randn(1, 3, *size).double(), torch.zeros(1, *size, dtype=torch.bool)
    found = network(images, padding_mask, torch.ones(1, 4).long(), torch.zeros(1, 4).bool())
    assert found.grid == (size[0] // 8, size[1] // 8)


@pytest.mark.parametrize(("whole", "part", "corner"), [((20, 20), GRID, (5, 11)), ((4, 45), (2, 45), (1, 0))])
def test_offsets_mean_the_same_in_every_grid(whole, part, corner):
    """Cells of a grid, attending to one another alone, are those of a smaller grid."""
    torch.manual_seed(0)
    attention = GridAttention(8, 2, 0.0).double()
    torch.nn.init.normal_(attention.in_proj_weight)
    asking, values = torch.randn(2, 1, *whole, 8).double()
    inside = torch.zeros(whole, dtype=torch.bool)
    window = tuple(slice(start, start + length) for start, length in zip(corner, part, strict=True))
    inside[window] = True
    bias = additive_bias(inside.flatten()[None, None, None], torch.float64)
    there = attention.among(asking.flatten(1, 2), values.flatten(1, 2), whole, bias)[:, inside.flatten()]
    cut = [each[0][window].flatten(0, 1)[None] for each in (asking, values)]
    free = torch.zeros(1, 1, 1, 1).double()
    assert_close(attention.among(*cut, part, free), there)
    assert (attention.among(*cut, (1, part[0] * part[1]), free) - there).abs().max() > 0.01


def test_boxes_of_all_stages_learn(network, batch):
    wanted = torch.tensor([[0.4, 0.5, 0.2, 0.3], [0.6, 0.4, 0.4, 0.2]])
    output = network(*batch)
    found = grounding_losses(output, wanted)
    alone = [grounding_losses(output._replace(boxes=each, earlier_boxes=None), wanted) for each in output.earlier_boxes]
    last = grounding_losses(output._replace(earlier_boxes=None), wanted)
    for name in ("distance", "giou"):
        assert_close(getattr(found, name), sum(getattr(each, name) for each in [*alone, last]))
    assert torch.equal(found.bins, last.bins)
    torch.stack([*GroundingCriterion(distance=5.0, giou=2.0)(output, wanted).values()]).sum().backward()
    unread = [name for name, parameter in network.named_parameters() if parameter.grad is None]
    assert not unread


def test_attention_weights_alone_are_dropped_behind_the_branches(network, batch):
    torch.manual_seed(1)
    expected = network(*batch).boxes
    network.verification.train()
    network.reasoning.train()
    assert not torch.equal(network(*batch).boxes, expected)
    for module in network.modules():
        if isinstance(module, CrossAttention):
            module.weight_dropout = 0.0
    assert torch.equal(network(*batch).boxes, expected)


def test_the_start_is_that_of_the_release():
    torch.manual_seed(0)
    network = build_vltvg(Cells(), 3, BERT, VLTVGSizes(dim=64, heads=2, hidden=96, visual_layers=1, stages=2))
    verification = network.verification
    assert (verification.tf_scale.item(), verification.tf_sigma.item()) == (1.0, 0.5)
    # Xavier over the three projections together, and over the one row of a query.
    for parameter, limit in (
        (verification.img2img_attn.in_proj_weight, (6 / 256) ** 0.5),
        (network.reasoning.vis_query_embed.weight, (6 / 65) ** 0.5),
        (network.reasoning.layers[1].ffn[0].weight, (6 / 160) ** 0.5),
        (verification.img_proj.layers[0].weight, (6 / 128) ** 0.5),
        (verification.text_proj.layers[0].weight, (6 / 128) ** 0.5),
    ):
        assert 0.8 * limit < parameter.abs().max() <= limit
    for linear in network.box_head.layers:
        assert 0.1 < linear.weight.abs().max() <= 64**-0.5, "as PyTorch's linear layers start"
    for linear in (*verification.img_proj.layers, *verification.text_proj.layers, *network.box_head.layers):
        assert 0 < linear.bias.abs().max() <= 64**-0.5, "as PyTorch's linear layers start"


def test_the_last_four_layers_of_the_text_are_read():
    network = build_vltvg(Cells(), 3, BERT, VLTVGSizes(dim=8, heads=2, hidden=12, visual_layers=1, stages=2))
    assert network.text_layers == (2, 3, 4, 5)
    assert network.bin_head is None
    with pytest.raises(ValueError, match=r"^text_layers: is 6; .* 5"):
        build_vltvg(Cells(), 3, BERT, VLTVGSizes(text_layers=6))


@pytest.mark.parametrize(
    ("name", "value"), [("stages", 0), ("bins", 1), ("heads", 3), ("text_layers", True), ("mask_padding", 0)]
)
def test_sizes_that_do_not_fit_are_refused_by_name(name, value):
    with pytest.raises(ValueError, match=f"^{name}: is {value}"):
        VLTVGSizes(**{name: value})


@pytest.mark.parametrize("build", ["transvg", "vltvg"])
def test_networks_learn_under_half_precision(build, batch):
    torch.manual_seed(0)
    small = {"dim": 8, "heads": 2, "hidden": 12, "visual_layers": 1, "bins": 6}
    if build == "vltvg":
        network = build_vltvg(Cells(), 3, BERT, VLTVGSizes(stages=2, **small))
    else:
        sizes = TransVGSizes(image_size=32, stride=8, text_length=5, text_layer=5, fusion_layers=2, **small)
        network = build_transvg(Cells(), 3, BERT, sizes)
    images, padding_mask = torch.randn(2, 3, 32, 32), torch.zeros(2, 32, 32, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(images, padding_mask, *batch[2:], with_attention=True)
        losses = GroundingCriterion()(output, torch.tensor([[0.4, 0.5, 0.2, 0.3]] * 2))
    assert {each.dtype for each in (output.boxes, output.bin_logits, output.attention)} == {torch.float32}
    sum(losses.values()).backward()
    assert not [
        name for name, each in network.named_parameters() if each.grad is None or not each.grad.isfinite().all()
    ]


def test_another_width_of_the_visual_branch_is_refused_by_both():
    visual = VisualBranch(Cells(), 3, EncoderSizes(16, 2, 12, 1))
    with pytest.raises(ValueError, match=r"dim: is 8.* 16"):
        VLTVG(visual, torch.nn.Identity(), SIZES, text_dim=12, text_layers=(1,))
