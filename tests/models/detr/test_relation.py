"""What must hold of the position relation whatever its weights: items 1 to 5 of the specification's acceptance list."""

import pytest
import torch
from torch.testing import assert_close

from models.detr.boxes import interleave
from models.detr.relation import PositionRelation
from tests.models.detr.conftest import random_boxes


def numbers_of(rows: torch.Tensor, columns: torch.Tensor, epsilon: float = 1e-5) -> torch.Tensor:
    """The four numbers of each pair of boxes, B x N x M x 4, as the paper writes them."""
    rows, columns = rows[:, :, None], columns[:, None]
    places = torch.log((rows[..., :2] - columns[..., :2]).abs() / (rows[..., 2:] + epsilon) + 1)
    sizes = torch.log((rows[..., 2:] + epsilon) / (columns[..., 2:] + epsilon))
    return torch.cat((places, sizes), dim=-1)


def plainly(relation: PositionRelation, rows: torch.Tensor, columns: torch.Tensor, dtype=torch.float64) -> torch.Tensor:
    """The relation as the paper writes it: an embedding of every pair, then a convolution."""
    frequencies = 100 / 10_000 ** (torch.arange(8, dtype=dtype) / 8)
    embedded = interleave(numbers_of(rows.to(dtype), columns.to(dtype))[..., None] * frequencies).flatten(-2)
    return relation.pos_proj.to(dtype)(embedded.permute(0, 3, 1, 2))


def test_item_1_a_box_and_itself():
    relation = PositionRelation(8)
    boxes = random_boxes(1, 20)
    bias = relation(boxes, boxes).diagonal(dim1=2, dim2=3)
    convolution = relation.pos_proj[0]
    expected = (convolution.bias + convolution.weight.flatten(1)[:, 1::2].sum(1)).relu()
    assert_close(bias, expected[None, :, None].expand_as(bias), atol=1e-5, rtol=0)


@pytest.mark.parametrize(
    ("moved", "scaled", "features", "bias"),
    [(0.1, 1.0, 1e-6, 2e-5), (0.0, 0.5, 2e-4, None), (0.0, 0.01, 2e-2, None)],
)
def test_item_2_places_and_sizes_count_by_their_ratios(moved, scaled, features, bias):
    """As far as the small constant that keeps divisors from 0 allows; without it they are the same."""
    relation, boxes = PositionRelation(8), random_boxes(1, 20).double()
    changed = boxes * scaled + torch.tensor([moved, moved, 0, 0])
    assert_close(numbers_of(changed, changed), numbers_of(boxes, boxes), atol=features, rtol=0)
    exact = (numbers_of(each, each, epsilon=0.0) for each in (changed, boxes))
    assert_close(*exact, atol=1e-12, rtol=0)
    if bias is not None:
        assert_close(plainly(relation, changed, changed), plainly(relation, boxes, boxes), atol=bias, rtol=0)
        light = PositionRelation(8)
        assert_close(light(changed, changed), light(boxes, boxes), atol=1e-3, rtol=0)  # float32, times 100


def test_item_3_the_row_measures_distances():
    boxes = random_boxes(1, 20)
    places, sizes = numbers_of(boxes, boxes).split(2, dim=-1)
    assert_close(sizes, -sizes.transpose(1, 2), atol=1e-6, rtol=0)
    assert (places >= 0).all()
    assert not torch.allclose(places, places.transpose(1, 2))
    assert (PositionRelation(8)(boxes, boxes) >= 0).all()


def test_item_4_boxes_get_no_gradient():
    relation, boxes = PositionRelation(8), random_boxes(1, 20).requires_grad_()
    relation(boxes, boxes).sum().backward()
    assert boxes.grad is None
    assert relation.pos_proj[0].weight.grad.abs().sum() > 0


@pytest.mark.parametrize("at_once", [2**20, 5000])
def test_item_5_equals_the_plain_form(monkeypatch, at_once):
    monkeypatch.setattr("models.detr.relation._NUMBERS_AT_ONCE", at_once)
    rows, columns = random_boxes(2, 30), random_boxes(2, 40, smallest=0.001, seed=1)
    light, plain = PositionRelation(8), PositionRelation(8)
    plain.load_state_dict(light.state_dict())
    upstream = torch.randn(2, 8, 30, 40, generator=torch.Generator().manual_seed(0))
    found, expected = light(rows, columns), plainly(plain, rows, columns)
    assert_close(found.double(), expected, atol=1e-4, rtol=0)
    found.backward(upstream)
    expected.backward(upstream.double())
    for ours, theirs in zip(light.parameters(), plain.parameters(), strict=True):
        scale = theirs.grad.abs().max().item()
        assert_close(ours.grad.double(), theirs.grad, atol=1e-4 * scale, rtol=0)


def test_item_5_nothing_of_the_size_of_all_embeddings_is_held():
    """What is kept for the backward pass, and what is made at a time, beside the bias itself."""
    relation, boxes = PositionRelation(8), random_boxes(1, 300)
    largest = 0
    original = torch.Tensor.sin

    def watched(self, *args):
        nonlocal largest
        largest = max(largest, self.numel())
        return original(self, *args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "sin", watched)
        relation(boxes, boxes).sum().backward()
    assert largest <= 2**20 < 300 * 300 * 32


def test_under_autocast_it_stays_float32():
    relation, boxes = PositionRelation(8), random_boxes(1, 20)
    with torch.autocast("cpu", torch.bfloat16):
        bias = relation(boxes, boxes)
    assert bias.dtype == torch.float32
    assert_close(bias, relation(boxes, boxes), atol=0, rtol=0)
