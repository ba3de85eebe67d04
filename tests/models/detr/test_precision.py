"""The detector in half precision, compiled, and its groups of parameters."""

import copy

import pytest
import torch
from torch._dynamo.utils import counters

from models.detr.backbones import build_backbone
from models.detr.criterion import Criterion
from models.detr.deformable import MultiScaleDeformableAttention
from models.detr.denoising import Target
from models.detr.network import RelationDetr
from models.detr.relation import PositionRelation
from models.detr.transformer import TransformerSizes


def detector() -> RelationDetr:
    torch.manual_seed(0)
    backbone, channels = build_backbone("resnet10t", channels=[32, 32, 32, 32], stem_type="", norm_layer="groupnorm")
    sizes = TransformerSizes(64, 4, 64, encoder_layers=1, decoder_layers=2, levels=3, queries=20, hybrid_queries=12)
    return RelationDetr(backbone, channels, 5, sizes)


def images(count: int) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    return torch.rand(count, 3, 64, 64), torch.zeros(count, 64, 64, dtype=torch.bool)


def step(network: RelationDetr, *counts: int):
    """What the network says, its losses, and its gradients."""
    batch, generator = images(len(counts)), torch.Generator().manual_seed(2)
    targets = [
        Target(torch.rand(count, 4, generator=generator) * 0.3 + 0.3, torch.randint(0, 5, (count,))) for count in counts
    ]
    network.zero_grad()
    trained = network.learn(*batch, targets, generator=generator)
    losses = Criterion()(trained, targets)
    torch.stack([*losses.values()]).sum().backward()
    gradients = {name: each.grad.clone() for name, each in network.named_parameters() if each.grad is not None}
    return trained, losses, gradients


@pytest.mark.parametrize(("dtype", "allowed"), [(torch.bfloat16, 0.05), (torch.float16, 0.003)])
class TestHalfPrecision:
    def test_losses_and_gradients_are_finite_and_near_those_of_float32(self, dtype, allowed):
        network = detector()
        _, exact, _ = step(network, 3, 5)
        with torch.autocast("cpu", dtype):
            trained, losses, gradients = step(network, 3, 5)
        assert trained.found.queries.logits.dtype == dtype
        assert all(each.dtype == torch.float32 for each in (trained.found.queries.boxes, *losses.values()))
        assert all(each.isfinite().all() for each in gradients.values())
        total, expected = (sum(each.values()).item() for each in (losses, exact))
        assert abs(total - expected) < allowed * expected

    def test_boxes_stay_near_and_the_relation_is_that_of_float32(self, dtype, allowed):
        network, relation, boxes = detector().eval(), PositionRelation(4), torch.rand(1, 6, 4)
        with torch.no_grad():
            exact, bias = network(*images(2)), relation(boxes, boxes)
            with torch.autocast("cpu", dtype):
                found, same = network(*images(2)), relation(boxes, boxes)
        assert torch.equal(bias, same)
        # The first stage ranks tokens, and another rank gives a query another box: tokens are compared, not queries.
        assert found.queries.boxes.dtype == torch.float32
        apart = torch.cdist(exact.queries.boxes[-1], found.queries.boxes[-1]).amin(2)
        assert apart.max() < 10 * allowed


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("whole", [False, True], ids=["autocast", "converted"])
def test_attention_reads_where_float32_does(dtype, whole):
    """Rounded to bfloat16, places on a map of 160 pixels would be off by up to a third of a pixel."""
    generator, shapes = torch.Generator().manual_seed(0), [(96, 160), (48, 80)]
    attention = MultiScaleDeformableAttention(32, 4, 2)
    tokens = torch.cat([smooth(*shape, generator) for shape in shapes], dim=1)
    query, references = torch.randn(1, 50, 32, generator=generator), torch.rand(1, 50, 2, 2, generator=generator)
    with torch.no_grad():
        exact = attention(query, references, attention.project(tokens, shapes))
        if whole:
            attention.to(dtype)
            found = attention(query.to(dtype), references, attention.project(tokens.to(dtype), shapes))
        else:
            with torch.autocast("cpu", dtype):
                found = attention(query, references, attention.project(tokens, shapes))
    assert found.dtype == dtype
    assert (found.float() - exact).norm() < 0.01 * exact.norm()


def smooth(height: int, width: int, generator: torch.Generator) -> torch.Tensor:
    """Tokens of a map whose pixels are like their neighbours, 1 x S x 32."""
    coarse = torch.randn(1, 32, height // 4, width // 4, generator=generator)
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bilinear").flatten(2).transpose(1, 2)


@pytest.mark.slow
def test_compiled_parts_learn_and_find_the_same_without_breaks(monkeypatch):
    """Traced by dynamo; what a compiler makes of the graphs is torch's."""
    torch._dynamo.reset()
    counters.clear()
    network = detector()
    compiled = copy.deepcopy(network)
    compiled.compile(backend="eager")
    assert compiled.state_dict().keys() == network.state_dict().keys()
    (_, losses, gradients), (_, same, others) = step(network, 3, 0), step(compiled, 3, 0)
    torch.testing.assert_close(same, losses, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(others, gradients, atol=1e-5, rtol=1e-4)
    assert counters["stats"]["unique_graphs"] >= 4, "backbone, neck, encoder, decoder"
    assert not counters["graph_break"]
