"""The grounding network against what the official code of TransVG computed."""

import pytest
import torch
from torch.testing import assert_close

from models.grounding.published import adapt_grounder
from models.text import encode_text


def near(found, expected, within=1e-5, relative=0.0):
    assert_close(found, expected, atol=within, rtol=relative)


@pytest.fixture
def network(make_network, official):
    network = make_network()
    network.load_state_dict(adapt_grounder(official.state, network), strict=False)
    return network.eval()


def test_visual_tokens_and_their_padding(network, official):
    found = network.visual(official.images, official.padding_mask)
    assert found.grid == (4, 4)
    assert torch.equal(found.padding, official.tensors["mid/visu_mask"].bool())
    near(found.tokens.transpose(0, 1), official.tensors["mid/visu_tokens"])


def test_text_tokens(network, official):
    found = encode_text(network.text, official.token_ids, official.token_padding, [network.text_layer])
    near(found, official.tensors["mid/text_tokens"])


def test_fused_sequence(network, official):
    visual = network.visual(official.images, official.padding_mask)
    text = encode_text(network.text, official.token_ids, official.token_padding, [network.text_layer])
    cells = visual._replace(tokens=network.visual_proj(visual.tokens))
    found = network.fusion(network.text_proj(text), official.token_padding, cells, with_attention=False)
    near(found.sequence.transpose(0, 1), official.tensors["mid/vl_out"])
    assert found.attention is None


def test_box(network, official):
    found = network(*official.batch)
    near(found.boxes, official.tensors["out/box_cxcywh"])
    assert torch.equal(found.padding, official.tensors["mid/visu_mask"].bool())
    assert (found.grid, found.bin_logits, found.attention) == ((4, 4), None, None)
