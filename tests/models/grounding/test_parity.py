"""The grounding network against what the official code of TransVG computed.

Items are those of the specification of grounding.
"""

import json
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from models.detr.boxes import generalized_iou, to_corners
from models.grounding.criterion import GroundingCriterion
from models.grounding.names import OF_TRANSVG, TABLE
from models.grounding.published import adapt_grounder
from models.text import encode_text

GOLDEN = Path(__file__).parents[2] / "golden" / "transvg"


def near(found, expected, within=1e-5, relative=0.0):
    assert_close(found, expected, atol=within, rtol=relative)


@pytest.fixture
def network(make_network, official):
    network = make_network()
    network.load_state_dict(adapt_grounder(official.state, network), strict=False)
    return network.eval()


def test_item_1_visual_tokens_and_their_padding(network, official):
    found = network.visual(official.images, official.padding_mask)
    assert found.grid == (4, 4)
    assert torch.equal(found.padding, official.tensors["mid/visu_mask"].bool())
    near(found.tokens.transpose(0, 1), official.tensors["mid/visu_tokens"])


def test_item_1_text_tokens(network, official):
    found = encode_text(network.text, official.token_ids, official.token_padding, [network.text_layer])
    near(found, official.tensors["mid/text_tokens"])


def test_item_1_fused_sequence(network, official):
    visual = network.visual(official.images, official.padding_mask)
    text = encode_text(network.text, official.token_ids, official.token_padding, [network.text_layer])
    cells = visual._replace(tokens=network.visual_proj(visual.tokens))
    found = network.fusion(network.text_proj(text), official.token_padding, cells, with_attention=False)
    near(found.sequence.transpose(0, 1), official.tensors["mid/vl_out"])
    assert found.attention is None


def test_item_1_box(network, official):
    found = network(*official.batch)
    near(found.boxes, official.tensors["out/box_cxcywh"])
    assert torch.equal(found.padding, official.tensors["mid/visu_mask"].bool())
    assert (found.grid, found.bin_logits, found.attention) == ((4, 4), None, None)


def test_item_1_the_box_overlaps_as_officially(network, official):
    found, wanted = network(*official.batch).boxes, official.tensors["in/target_cxcywh"]
    overlaps = generalized_iou(to_corners(found), to_corners(wanted))[0]
    near(overlaps, official.tensors["out/iou"])
    near((overlaps >= 0.5).float().mean(), official.tensors["out/accu"][0].float())


def test_item_1_losses_and_gradients(network, official):
    found = GroundingCriterion()(network(*official.batch), official.tensors["in/target_cxcywh"])
    near(found["distance"], official.tensors["out/loss_bbox"][0])
    near(found["giou"], official.tensors["out/loss_giou"][0])
    (found["distance"] + found["giou"]).backward()
    listed = {name.removeprefix("grad/"): each for name, each in official.tensors.items() if name.startswith("grad/")}
    assert len(listed) == 6
    for name, expected in listed.items():
        near(gradient(network, name), expected, 1e-6, 1e-3)


def test_item_1_norms_of_all_gradients(network, official):
    sum(GroundingCriterion()(network(*official.batch), official.tensors["in/target_cxcywh"]).values()).backward()
    norms = json.loads((GOLDEN / "model.json").read_text())["grad_norms"]
    unread = {name for name, norm in norms.items() if norm is None}
    assert unread == {name for name in norms if ".layer.2." in name or ".pooler." in name}
    for name in norms.keys() - unread:
        near(gradient(network, name).norm(), torch.tensor(norms[name]), 1e-6, 1e-3)
    assert all(network.get_parameter(OF_TRANSVG.ours(name)).grad is None for name in unread if ".pooler." not in name)


def gradient(network, name):
    """The gradient of a parameter of the official name."""
    if name == TABLE:
        fusion = network.fusion
        return torch.cat([each.grad for each in (fusion.reg_position, fusion.text_positions, fusion.visual_positions)])
    return network.get_parameter(OF_TRANSVG.ours(name)).grad
