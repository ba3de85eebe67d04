"""Properties of the grounding network and of its parts."""

import math

import pytest
import torch
from torch.testing import assert_close

from models.detr.backbones import build_single_map
from models.detr.positions import embed_positions
from models.grounding.encoder import DenseEncoder, EncoderSizes
from models.grounding.transvg import TransVGSizes, build_transvg
from models.text import BertSizes
from models.timm_attention import install_attention

SMALL = {"image_size": 64, "text_length": 8, "text_layer": 2, "dim": 16, "heads": 2, "hidden": 24}
BERT = BertSizes(40, 24, 2, 3, 36, 16)


def test_texts_are_padded_to_any_length(make_network, official):
    network = make_network().eval()
    images, padding_mask, ids, padding = (each[[0, 2]] for each in official.batch)  # texts of 5 and 3 tokens
    whole = network(images, padding_mask, ids, padding, with_attention=True)
    short = network(images, padding_mask, ids[:, :5], padding[:, :5], with_attention=True)
    assert_close(short.boxes, whole.boxes)
    assert_close(short.attention, whole.attention)


def test_what_lies_on_padding_changes_no_box(make_network, official):
    network = make_network(bins=6).eval()
    images, _, ids, padding = official.batch
    padding_mask = torch.ones(3, 128, 128, dtype=torch.bool)
    padding_mask[:, 32:96, 64:] = False
    other, words = images.masked_fill(padding_mask[:, None], 7.0), ids.masked_fill(padding, 9)
    first, second = network(images, padding_mask, ids, padding), network(other, padding_mask, words, padding)
    assert not torch.equal(images, other)
    assert_close(first.boxes, second.boxes)
    assert_close(first.bin_logits, second.bin_logits)


def test_both_heads_read_the_same_token(make_network, official):
    network = make_network(bins=6).eval()
    found = network(*official.batch)
    assert found.bin_logits.shape == (3, 4, 6)
    assert found.boxes.dtype == found.bin_logits.dtype == torch.float32
    (found.bin_logits.sum() + found.boxes.sum()).backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for name, parameter in network.named_parameters()
        if not name.startswith("text.encoder.layer.2.")  # behind the layer that is read
    )


def test_a_text_that_is_too_long_and_another_grid_are_refused_with_both_sizes(make_network, official):
    images, padding_mask, ids, padding = official.batch
    with pytest.raises(ValueError, match=r"8 tokens.* 6"):
        make_network(text_length=6)(*official.batch)
    with pytest.raises(ValueError, match=r"3 x 4 cells.* 4 x 4"):
        make_network()(images[:, :, :96], padding_mask[:, :96], ids, padding)


def test_plain_detr_places_tokens_at_the_ends_of_their_cells():
    padding = torch.zeros(1, 3, 4, dtype=torch.bool)
    padding[:, :, 0] = True  # at the left, as random offsets put it
    found = embed_positions(padding, 8, within=1.0)
    for row, column in ((0, 1), (2, 3)):
        y, x = 2 * math.pi * (row + 1) / 3, 2 * math.pi * column / 3
        expected = [f(place / wave) for place in (y, x) for wave in (1, 100) for f in (math.sin, math.cos)]
        assert_close(found[0, :, row, column], torch.tensor(expected), atol=1e-5, rtol=0)


def test_dropout_acts_in_training_alone_and_on_attention_weights_too(monkeypatch):
    asked = []
    from models.detr import layers

    def noted(query, key, value, bias, dropout, backend):
        asked.append(dropout)
        return value

    monkeypatch.setattr(layers, "attention", noted)
    encoder = DenseEncoder(EncoderSizes(16, 2, 24, 1, 0.25))
    tokens, padding = torch.randn(1, 5, 16), torch.zeros(1, 5, dtype=torch.bool)
    once, again = (encoder(tokens, tokens, padding) for _ in range(2))
    assert not torch.equal(once, again)
    encoder.eval()
    once, again = (encoder(tokens, tokens, padding) for _ in range(2))
    assert torch.equal(once, again)
    assert asked == [0.25, 0.25, 0.0, 0.0]


class TestBuild:
    @pytest.mark.parametrize(("stride", "channels"), [(8, 4), (16, 4), (32, 8)])
    def test_a_map_of_each_stride(self, stride, channels):
        backbone, found = build_single_map("resnet50", stride, layers=[1, 1, 1, 1], channels=[2, 4, 4, 8])
        assert found == 4 * channels  # bottlenecks widen
        network = build_transvg(backbone, found, BERT, TransVGSizes(**SMALL, stride=stride)).eval()
        images = torch.randn(1, 3, 64, 64), torch.zeros(1, 64, 64, dtype=torch.bool)
        output = network(*images, torch.ones(1, 4).long(), torch.zeros(1, 4).bool())
        assert output.grid == (64 // stride, 64 // stride)

    def test_dilation_gives_the_last_stage_a_stride_of_16(self):
        args = {"layers": [1, 1, 1, 1], "channels": [2, 4, 4, 8]}
        plain, dilated = (
            build_single_map("resnet50", **args),
            build_single_map("resnet50", 16, output_stride=16, **args),
        )
        assert plain[1] == dilated[1] == 32
        assert plain[0].state_dict().keys() == dilated[0].state_dict().keys()
        assert dilated[0](torch.randn(1, 3, 64, 64))[-1].shape[-2:] == (4, 4)

    def test_another_stride_is_refused_with_those_that_there_are(self):
        with pytest.raises(ValueError, match=r"\[2, 4, 8, 16, 32\].* 64"):
            build_single_map("resnet18", 64)
        with pytest.raises(ValueError, match="no_such_model"):
            build_single_map("no_such_model")

    def test_the_published_sizes(self):
        with torch.device("meta"):
            network = build_transvg(*build_single_map("resnet50"), BertSizes(), TransVGSizes())
        assert len(network.fusion.visual_positions) == 400
        fusion = sum(len(each) for name, each in network.fusion.named_parameters() if "position" in name)
        assert fusion == 421
        assert len(network.visual.backbone.state_dict()) == 265
        assert sum(parameter.numel() for parameter in network.parameters()) == 149_155_268

    def test_positions_of_cells_may_begin_as_those_of_the_visual_branch(self):
        sizes = TransVGSizes(**SMALL, sine_start=True)
        network = build_transvg(torch.nn.AvgPool2d(32), 3, BERT, sizes)
        (expected,) = embed_positions(torch.zeros(1, 2, 2, dtype=torch.bool), 16, within=1.0)
        assert torch.equal(network.fusion.visual_positions, expected.flatten(1).T)
        assert network.fusion.visual_positions.requires_grad

    def test_the_box_head_starts_as_that_of_the_release(self):
        network = build_transvg(torch.nn.AvgPool2d(32), 3, BERT, TransVGSizes(**SMALL))
        for linear in network.box_head.layers:
            assert 0.2 < linear.weight.abs().max() <= 16**-0.5, "as PyTorch's linear layers start, biases too"
            assert linear.bias.abs().max() > 0

    @pytest.mark.parametrize(
        ("name", "value"),
        [("image_size", 100), ("stride", 0), ("bins", 1), ("dim", 18), ("heads", 3), ("dropout", 1.0), ("dropout", "a"),
         ("text_layer", 3), ("text_length", 17), ("fusion_layers", 0)],
    )  # fmt: skip
    def test_sizes_that_do_not_fit_are_refused_by_name(self, name, value):
        with pytest.raises(ValueError, match=f"^{name}: is {value!r}"):
            build_transvg(torch.nn.Identity(), 3, BERT, TransVGSizes(**SMALL | {name: value}))


def test_bert_keeps_its_own_attention_and_the_rest_is_routed(make_network):
    receipt = install_attention(make_network())
    assert receipt.installed == {"SelfAttention": 4}
    assert list(receipt.kept) == ["BertSelfAttention"]
