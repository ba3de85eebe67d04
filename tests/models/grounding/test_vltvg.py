"""VLTVG against a plain restatement of what is published of it, cell by cell and head by head.

No result of the official code was at hand: the restatement is written from the description that the docstrings give,
in float64 and without any code of the network.
"""

import math

import pytest
import torch
from torch.testing import assert_close

from models.grounding.criterion import GroundingCriterion, grounding_losses
from models.grounding.encoder import EncoderSizes
from models.grounding.transvg import TransVGSizes, build_transvg
from models.grounding.visual import VisualBranch
from models.grounding.vltvg import VLTVG, VLTVGSizes, build_vltvg
from models.text import BertSizes, build_bert, encode_text

SIZES = EncoderSizes(dim=8, heads=2, hidden=12, layers=3)
BERT = BertSizes(40, 12, 5, 3, 16, 16)
GRID = (3, 4)


class Cells(torch.nn.Module):
    """A backbone that gives every 8 x 8 pixels as a cell."""

    def forward(self, images):
        return [torch.nn.functional.avg_pool2d(images, 8)]


@pytest.fixture
def network():
    torch.manual_seed(0)
    visual = VisualBranch(Cells(), 3, EncoderSizes(8, 2, 12, 1))
    network = VLTVG(visual, build_bert(BERT), SIZES, text_dim=12, text_layers=(2, 3, 4, 5), bins=6).eval().double()
    for parameter in network.parameters():
        if parameter.ndim:
            torch.nn.init.normal_(parameter, std=0.4)
    return network


@pytest.fixture
def batch():
    """Images of 3 x 4 cells, texts of 5 tokens; of the second pair a column of cells and two tokens are padding."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(2, 3, 24, 32, generator=generator).double()
    padding_mask = torch.zeros(2, 24, 32, dtype=torch.bool)
    padding_mask[1, :, :8] = True
    ids = torch.randint(5, 40, (2, 5), generator=generator)
    return images, padding_mask, ids, torch.arange(5)[None] >= torch.tensor([[5], [3]])


class Restated:
    """What VLTVG computes for one sample, from its weights by name."""

    def __init__(self, state, padding, text_padding):
        self.state, self.padding, self.text_padding = state, padding, text_padding

    def linear(self, name, x):
        bias = self.state.get(f"{name}.bias")
        return x @ self.state[f"{name}.weight"].T + (0 if bias is None else bias)

    def norm(self, name, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.state[f"{name}.weight"] + self.state[f"{name}.bias"]

    def attend(self, name, query, key, value, padding, added=None):
        """One query (D) to M keys; returns the result (D) and the weights of each head (H x M)."""
        queries, keys, values = (
            self.linear(f"{name}.{kind}_proj", each).unflatten(-1, (2, 4))
            for kind, each in (("q", query), ("k", key), ("v", value))
        )
        weights, parts = [], []
        for head in range(2):
            scores = keys[:, head] @ queries[head] / 2  # the root of 4
            if added is not None:
                scores = scores + added(queries[head], head) / 2
            scores = scores.masked_fill(padding, -math.inf)
            weights.append(scores.exp() / scores.exp().sum())
            parts.append(weights[-1] @ values[:, head])
        return self.linear(f"{name}.out_proj", torch.cat(parts)), torch.stack(weights)

    def offset(self, name, offset, head):
        """The embedded offset of an axis, for one head."""
        waves = [10_000.0 ** (2 * (k // 2) / 8) for k in range(8)]
        phases = [offset / wave for wave in waves]
        embedded = torch.tensor([math.cos(p) if k % 2 else math.sin(p) for k, p in enumerate(phases)]).double()
        return self.linear(f"verification.context.{name}_proj", embedded)[4 * head : 4 * head + 4]

    def verified(self, cells, positions, text):
        rows = []
        conditioned = torch.stack(
            [
                cell + self.attend("verification.text_as_condition", cell + position, text, text, self.text_padding)[0]
                for cell, position in zip(cells, positions, strict=True)
            ]
        )
        for place, (cell, position) in enumerate(zip(cells, positions, strict=True)):
            semantic, _ = self.attend("verification.text_to_verify", cell + position, text, text, self.text_padding)
            seen, said = self.linear("verification.cell_proj", cell), self.linear("verification.text_proj", semantic)
            cosine = seen @ said / (seen.norm() * said.norm())
            alpha, sigma = self.state["verification.alpha"], self.state["verification.sigma"]
            score = alpha * torch.exp(-((1 - cosine) ** 2) / (2 * sigma**2))
            row, column = divmod(place, GRID[1])

            def relative(query, head, row=row, column=column):
                return torch.stack(
                    [
                        query @ (self.offset("row", k - row, head) + self.offset("column", c - column, head))
                        for k in range(GRID[0])
                        for c in range(GRID[1])
                    ]
                )

            name = "verification.context"
            context, _ = self.attend(name, conditioned[place], conditioned, cells, self.padding, relative)
            both = self.norm("verification.norm_cell", cell) + self.norm("verification.norm_context", context)
            rows.append(both * score)
        return torch.stack(rows)

    def decoded(self, cells, keys, text):
        query, states, rows = self.state["decoder.query"][0], [], []
        for stage in range(3):
            name = f"decoder.stages.{stage}"
            read, _ = self.attend(f"{name}.text_attn", query, text, text, self.text_padding)
            read = self.norm(f"{name}.norm1", read)
            seen, weights = self.attend(f"{name}.image_attn", read, keys, cells, self.padding)
            query = self.norm(f"{name}.norm2", query + seen)
            thought = self.linear(f"{name}.linear2", self.linear(f"{name}.linear1", query).clamp(min=0))
            query = self.norm(f"{name}.norm3", query + thought)
            states.append(query)
            rows.append(weights.mean(0))
        return torch.stack(states), torch.stack(rows).mean(0)


@torch.no_grad()
def test_it_is_what_the_description_says(network, batch):
    images, padding_mask, ids, text_padding = batch
    found = network(*batch, with_attention=True)
    visual = network.visual(images, padding_mask)
    text = network.text_proj(encode_text(network.text, ids, text_padding, (2, 3, 4, 5)))
    for sample in range(2):
        restated = Restated(network.state_dict(), visual.padding[sample], text_padding[sample])
        cells, positions, words = visual.tokens[sample], visual.positions[sample], text[sample]
        verified = restated.verified(cells, positions, words)
        states, attention = restated.decoded(cells, verified + positions, words)
        boxes = network.box_head(states).sigmoid().float()
        assert_close(found.boxes[sample], boxes[-1])
        assert_close(found.earlier_boxes[:, sample], boxes[:-1])
        assert_close(found.attention[sample], attention.float())
        assert_close(found.bin_logits[sample], network.bin_head(states[-1]).float())


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
        verification.alpha.fill_(1.0)
        verification.sigma.fill_(0.5)
        for layer in (verification.cell_proj, verification.text_proj):
            layer.weight.copy_(torch.eye(8))
            layer.bias.zero_()
    cell = torch.eye(8).double()[None, :3]
    text = torch.stack((cell[0, 0], cell[0, 2], -cell[0, 2]))[None]
    expected = torch.tensor([1.0, math.exp(-2), math.exp(-8)]).double()
    assert_close(verification.scores(cell, text)[0], expected, atol=1e-6, rtol=0)


def test_what_lies_on_padding_changes_nothing(network, batch):
    images, padding_mask, ids, text_padding = batch
    other = images.masked_fill(padding_mask[:, None], 5.0), padding_mask, ids.masked_fill(text_padding, 7), text_padding
    assert_close(network(*other).boxes, network(*batch).boxes)


@pytest.mark.parametrize("size", [(8, 48), (40, 16)])
def test_images_may_have_any_size(network, size):
    images, padding_mask = torch.randn(1, 3, *size).double(), torch.zeros(1, *size, dtype=torch.bool)
    found = network(images, padding_mask, torch.ones(1, 4).long(), torch.zeros(1, 4).bool())
    assert found.grid == (size[0] // 8, size[1] // 8)


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


def test_the_last_four_layers_of_the_text_are_read():
    network = build_vltvg(Cells(), 3, BERT, VLTVGSizes(dim=8, heads=2, hidden=12, visual_layers=1, stages=2))
    assert network.text_layers == (2, 3, 4, 5)
    assert network.bin_head is None
    with pytest.raises(ValueError, match=r"^text_layers: is 6; .* 5"):
        build_vltvg(Cells(), 3, BERT, VLTVGSizes(text_layers=6))


@pytest.mark.parametrize(("name", "value"), [("stages", 0), ("bins", 1), ("heads", 3), ("text_layers", True)])
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
