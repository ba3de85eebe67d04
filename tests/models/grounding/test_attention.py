"""What [REG] attends to, as one row, and the faithfulness that follows from it.

Items are those of the specification of grounding.
"""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from models.grounding.encoder import DenseEncoder, EncoderSizes
from models.grounding.published import adapt_grounder
from vision_train.semi.score import box_faithfulness, covered_share

SIZES = EncoderSizes(dim=16, heads=4, hidden=24, layers=3)


@pytest.fixture
def network(make_network, official):
    network = make_network()
    network.load_state_dict(adapt_grounder(official.state, network), strict=False)
    return network.eval()


@pytest.fixture
def sequence():
    """Tokens, positions and padding of two sequences of 9 tokens."""
    generator = torch.Generator().manual_seed(0)
    tokens, positions = (torch.randn(2, 9, 16, generator=generator) for _ in range(2))
    return tokens, positions, torch.arange(9)[None] >= torch.tensor([[9], [5]])


def dense_rows(encoder, tokens, positions, padding):
    """The first rows of the maps that torch's own attention returns, mean of heads and layers."""
    rows = []
    for layer in encoder.layers:
        attention = nn.MultiheadAttention(16, 4, batch_first=True)
        attention.load_state_dict(layer.self_attn.state_dict())
        placed = tokens + positions
        _, maps = attention(placed, placed, tokens, key_padding_mask=padding, need_weights=True)
        rows.append(maps[:, 0])
        tokens = encoder_layer_alone(layer, tokens, positions, padding)
    return torch.stack(rows).mean(0)


def encoder_layer_alone(layer, tokens, positions, padding):
    alone = DenseEncoder(EncoderSizes(16, 4, 24, 1)).eval()
    alone.layers[0].load_state_dict(layer.state_dict())
    return alone(tokens, positions, padding)


def test_the_row_is_that_of_the_dense_maps_and_changes_no_token(sequence):
    torch.manual_seed(0)
    encoder = DenseEncoder(SIZES).eval()
    for parameter in encoder.parameters():
        nn.init.normal_(parameter, std=0.5)
    tokens, row = encoder.with_first_row(*sequence)
    assert_close(row, dense_rows(encoder, *sequence))
    assert_close(row.sum(1), torch.ones(2))
    assert not row[sequence[2]].any()
    assert torch.equal(tokens, encoder(*sequence))
    assert not row.requires_grad


def test_it_is_read_only_on_request_and_changes_no_answer(network, official):
    plain, asked = network(*official.batch), network(*official.batch, with_attention=True)
    assert plain.attention is None
    assert torch.equal(plain.boxes, asked.boxes)
    assert asked.attention.shape == asked.padding.shape == (3, 16)
    assert not asked.attention[asked.padding].any()
    assert (asked.attention.sum(1) < 1).all()  # words have the rest


def test_padded_pixels_receive_none_wherever_they_lie(network, official):
    padding_mask = torch.zeros(3, 128, 128, dtype=torch.bool)
    padding_mask[:, :64] = True
    padding_mask[:, :, 96:] = True
    found = network(official.images, padding_mask, *official.batch[2:], with_attention=True)
    shown = ~found.padding.unflatten(1, found.grid)
    assert torch.equal(shown[0], torch.tensor([[0] * 4, [0] * 4, [1, 1, 1, 0], [1, 1, 1, 0]]).bool())
    assert (found.attention > 0).eq(~found.padding).all()


class Shapes(TorchDispatchMode):
    """Notes the shape of every tensor that an operation returns."""

    def __init__(self):
        super().__init__()
        self.seen = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for each in result if isinstance(result, tuple | list) else [result]:
            if isinstance(each, torch.Tensor):
                self.seen.add(tuple(each.shape[-2:]))
        return result


def test_no_map_of_all_pairs_is_ever_held(sequence):
    encoder = DenseEncoder(SIZES).eval()
    with torch.no_grad():
        encoder(*sequence)
        with Shapes() as shapes:
            encoder.layers[0].self_attn.first_row(*sequence[:2], None)
    assert (1, 9) in shapes.seen
    assert (9, 9) not in shapes.seen


def test_item_7_uniform_attention_is_faithful_to_no_box(network, official):
    with torch.no_grad():
        for layer in network.fusion.encoder.layers:
            layer.self_attn.in_proj_weight[:32] = 0  # queries
            layer.self_attn.in_proj_bias[:32] = 0
    found = network(*official.batch, with_attention=True)
    for corners in ([0, 0, 128, 128], [10, 20, 50, 90], [64, 0, 128, 64]):
        covered = covered_share(torch.tensor([corners]), found.grid, (128, 128)).expand(3, -1)
        faithfulness = box_faithfulness(found.attention, covered, found.padding)
        assert_close(faithfulness, torch.zeros(3).double(), atol=1e-5, rtol=0)


def test_item_7_attention_inside_the_box_alone_is_faithful(network, official):
    found = network(*official.batch, with_attention=True)
    inside = torch.zeros(4, 4)
    inside[1:3, 1:3] = 1
    attention = found.attention * inside.flatten()
    covered = covered_share(torch.tensor([[32, 32, 96, 96]]), found.grid, (128, 128)).expand(3, -1)
    assert (box_faithfulness(attention, covered, found.padding) >= 0.99).all()
