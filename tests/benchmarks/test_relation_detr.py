"""Relation-DETR beside its plain form: the position relation, deformable attention and a whole training step.

    pytest tests/benchmarks/test_relation_detr.py --benchmark-enable -s

The plain form is what the paper and its official code compute, as it reads: all 64 features of every pair are embedded
and kept, what deformable attention samples is stacked, each layer is matched and judged by itself, every token of the
first stage gets a box, and each branch projects the memory for itself. Both compute the same numbers, which the
benchmark checks first. They take turns, so that other load falls on both alike.
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest import mock

import pytest
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor, nn
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile
from torchvision.ops import generalized_box_iou
from torchvision.ops.boxes import box_iou

from models.detr import deformable
from models.detr.backbones import build_backbone
from models.detr.boxes import interleave, to_corners, wave_lengths
from models.detr.criterion import Criterion
from models.detr.decoder import Decoder, Predictions
from models.detr.denoising import Target
from models.detr.layers import Mlp
from models.detr.network import RelationDetr, Trained
from models.detr.relation import PositionRelation
from models.detr.transformer import Selection, Transformer, TransformerSizes

ROUNDS = 3
SIDE = 384
DECODER = Decoder.forward


class PlainRelation(nn.Module):
    """The relation as the paper writes it."""

    def __init__(self, light: PositionRelation) -> None:
        super().__init__()
        self.light = light

    def forward(self, rows: Tensor, columns: Tensor, blocked: Tensor | None = None) -> Tensor:
        with torch.no_grad():
            rows, columns = rows[:, :, None], columns[:, None]
            places = torch.log((rows[..., :2] - columns[..., :2]).abs() / (rows[..., 2:] + 1e-5) + 1.0)
            sizes = torch.log((rows[..., 2:] + 1e-5) / (columns[..., 2:] + 1e-5))
            numbers = torch.cat((places, sizes), dim=-1)
            waves = wave_lengths(self.light.width, self.light.temperature, rows.device)
            embedded = interleave(numbers[..., None] * self.light.scale / waves).flatten(-2)
            embedded = embedded.permute(0, 3, 1, 2)
        related = self.light.pos_proj(embedded)
        return related if blocked is None else related.masked_fill(blocked, -torch.inf)


def plain_sample(maps: Sequence[Tensor], references: Tensor, offsets: Tensor, weights: Tensor) -> Tensor:
    """Everything that is read is stacked, then weighted."""
    places = deformable.places_of(references, offsets, [(image.shape[-2], image.shape[-1]) for image in maps])
    batch, queries, heads, levels, points, _ = places.shape
    grids, read = 2 * places - 1, []
    for level, image in enumerate(maps):
        grid = grids[:, :, :, level].transpose(1, 2).flatten(0, 1)
        read.append(functional.grid_sample(image, grid, align_corners=False))
    weighted = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * points)
    total = (torch.stack(read, dim=-2).flatten(-2) * weighted).sum(-1)
    return total.view(batch, -1, queries).transpose(1, 2).contiguous()


class PlainCriterion:
    """A matching and three losses for each layer, one after the other."""

    def __init__(self, repeats: int = 6) -> None:
        self.repeats = repeats

    def __call__(self, trained: Trained, targets: Sequence[Target]) -> dict[str, Tensor]:
        count = max(1, sum(len(target.labels) for target in targets))
        losses: dict[str, Tensor] = {}
        branches = [(trained.found, targets, count, "")]
        if trained.hybrid is not None:
            many = [Target(each.boxes.repeat(self.repeats, 1), each.labels.repeat(self.repeats)) for each in targets]
            branches.append((trained.hybrid, many, count * self.repeats, "_hybrid"))
        for found, wanted, number, suffix in branches:
            for name, each in self._layers(found.queries):
                losses |= self._losses(*each, wanted, self._match(*each, wanted), number, name + suffix)
            each = found.first_stage.logits[0], found.first_stage.boxes[0]
            losses |= self._losses(*each, wanted, self._match(*each, wanted), number, "_enc" + suffix)
        for name, each in self._layers(trained.denoising):
            pairs = self._denoising(trained, targets)
            losses |= self._losses(*each, targets, pairs, count * trained.spoilt.groups, "_dn" + name)
        return losses

    @staticmethod
    def _layers(predictions: Predictions) -> list[tuple[str, tuple[Tensor, Tensor]]]:
        pairs = list(zip(predictions.logits, predictions.boxes, strict=True))
        return [("" if place == len(pairs) - 1 else f"_{place}", pair) for place, pair in enumerate(pairs)]

    @staticmethod
    @torch.no_grad()
    def _match(logits: Tensor, boxes: Tensor, targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
        pairs = []
        for of_image, found, target in zip(logits, boxes, targets, strict=True):
            probability = of_image.sigmoid()[:, target.labels]
            positive = 0.25 * (1 - probability) ** 2 * -(probability + 1e-6).log()
            negative = 0.75 * probability**2 * -(1 - probability + 1e-6).log()
            giou = generalized_box_iou(to_corners(found), to_corners(target.boxes))
            cost = 2 * (positive - negative) + 5 * torch.cdist(found, target.boxes, p=1) - 2 * giou
            query, place = linear_sum_assignment(cost.cpu().numpy())
            pairs.append((torch.as_tensor(query), torch.as_tensor(place)))
        return pairs

    @staticmethod
    def _denoising(trained: Trained, targets: Sequence[Target]) -> list[tuple[Tensor, Tensor]]:
        pairs = []
        for target in targets:
            places = torch.arange(len(target.labels))
            starts = 2 * trained.spoilt.per_group * torch.arange(trained.spoilt.groups)
            pairs.append(((starts[:, None] + places).flatten(), places.repeat(trained.spoilt.groups)))
        return pairs

    @staticmethod
    def _losses(
        logits: Tensor, boxes: Tensor, targets: Sequence[Target], pairs: Any, number: int, suffix: str
    ) -> dict[str, Tensor]:
        image = torch.cat([torch.full_like(query, place) for place, (query, _) in enumerate(pairs)])
        query = torch.cat([query for query, _ in pairs])
        wanted = torch.cat([target.boxes[place] for target, (_, place) in zip(targets, pairs, strict=True)])
        labels = torch.cat([target.labels[place] for target, (_, place) in zip(targets, pairs, strict=True)])
        found = boxes[image, query]
        overlap = torch.diag(box_iou(to_corners(found), to_corners(wanted))).detach()
        classes = logits.shape[-1]
        label = torch.full(logits.shape[:2], classes)
        label[image, query] = labels
        one_hot = functional.one_hot(label, classes + 1)[..., :-1].to(logits.dtype)
        score = torch.zeros_like(logits)
        score[image, query, labels] = overlap
        weight = 0.75 * logits.sigmoid().detach() ** 2 * (1 - one_hot) + score
        class_loss = functional.binary_cross_entropy_with_logits(logits, score, weight=weight, reduction="sum")
        giou = torch.diag(generalized_box_iou(to_corners(found), to_corners(wanted)))
        return {
            f"loss_class{suffix}": class_loss / number,
            f"loss_bbox{suffix}": 5 * functional.l1_loss(found, wanted, reduction="sum") / number,
            f"loss_giou{suffix}": 2 * (1 - giou).sum() / number,
        }


def plain_select(
    transformer: Transformer, tokens: Tensor, anchors: Tensor, count: int, heads: tuple[nn.Linear, Mlp]
) -> Selection:
    """Every token gets a box, of which the likeliest are kept."""
    logits, boxes = heads[0](tokens), (heads[1](tokens) + anchors).sigmoid()
    chosen = logits.amax(-1).topk(min(count, tokens.shape[1]), dim=1).indices[..., None]
    logits, boxes = (each.gather(1, chosen.expand(-1, -1, each.shape[-1])) for each in (logits, boxes))
    return Selection(Predictions(logits[None], boxes[None]), boxes.detach())


def plain_decoder(decoder: Decoder, *given: Any, values: Any = None, relate: bool = True) -> Predictions:
    """Each branch projects the memory for itself."""
    return DECODER(decoder, *given[:4], relate=relate)


@contextmanager
def plainly(network: RelationDetr | None = None) -> Iterator[None]:
    """Within, everything that a network computes in another way than the paper writes it is computed plainly."""
    with ExitStack() as stack:
        stack.enter_context(mock.patch.object(deformable, "sample", plain_sample))
        stack.enter_context(mock.patch.object(Transformer, "select", plain_select))
        stack.enter_context(mock.patch.object(Decoder, "forward", plain_decoder))
        if network is not None:
            decoder = network.transformer.decoder
            light = decoder.position_relation_embedding
            decoder.position_relation_embedding = PlainRelation(light)
            stack.callback(setattr, decoder, "position_relation_embedding", light)
        yield


def timed(function: Callable[[], Any]) -> float:
    """Seconds of the processor; there is one thread."""
    start = time.process_time()
    function()
    return time.process_time() - start


def peak_bytes(function: Callable[[], Any]) -> int:
    """Largest memory that a call holds at a time beyond what was there before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    held = peak = 0
    for record in sorted(profiled.profiler.kineto_results.events(), key=lambda record: record.start_ns()):
        if record.name() == "[memory]":
            held += record.nbytes()
            peak = max(peak, held)
    return peak


def report(name: str, light: list[float], plain: list[float], unit: str = "s") -> float:
    ratios = [mine / theirs for mine, theirs in zip(light, plain, strict=True)]
    ratio = statistics.median(ratios)
    print(
        f"\n{name}: {statistics.median(light):.3f} {unit} beside {statistics.median(plain):.3f} {unit}, "
        f"ratio {ratio:.3f} (rounds: {', '.join(f'{each:.3f}' for each in ratios)})"
    )
    return ratio


def random_boxes(*shape: int) -> Tensor:
    sides = 0.02 + 0.3 * torch.rand(*shape, 2)
    return torch.cat((sides / 2 + (1 - sides) * torch.rand(*shape, 2), sides), dim=-1)


@pytest.mark.parametrize("queries", [300, 900])
def test_relation(benchmark: Any, queries: int) -> None:
    light = PositionRelation(8)
    plain = PlainRelation(light)
    rows, columns = random_boxes(1, queries), random_boxes(1, queries)
    upstream = torch.randn(1, 8, queries, queries)
    torch.testing.assert_close(light(rows, columns), plain(rows, columns), atol=1e-3, rtol=0)
    seconds: dict[str, list[float]] = {"light": [], "plain": []}
    benchmark.pedantic(
        lambda: seconds["light"].append(timed(lambda: light(rows, columns).backward(upstream))),
        setup=lambda: seconds["plain"].append(timed(lambda: plain(rows, columns).backward(upstream))),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    report(f"relation of {queries} queries, forward and backward", seconds["light"][1:], seconds["plain"][1:])
    peaks = [peak_bytes(lambda form=form: form(rows, columns).backward(upstream)) / 2**20 for form in (light, plain)]
    report("its peak memory", peaks[:1], peaks[1:], "MiB")


def test_deformable_attention_of_the_encoder_at_full_size(benchmark: Any) -> None:
    shapes = [(100, 167), (50, 84), (25, 42), (13, 21)]
    tokens = sum(height * width for height, width in shapes)
    attention = deformable.MultiScaleDeformableAttention(256, 8, 4)
    nn.init.normal_(attention.sampling_offsets.weight, std=0.01)
    value = torch.randn(1, tokens, 256, requires_grad=True)
    references = torch.rand(1, tokens, 4, 2)

    def step() -> None:
        attention(value, references, attention.project(value, shapes)).sum().backward()

    peaks = [peak_bytes(step) / 2**20]
    with plainly():
        peaks.append(peak_bytes(step) / 2**20)
    report("peak memory of deformable attention at 800 x 1333", peaks[:1], peaks[1:], "MiB")
    seconds: dict[str, list[float]] = {"light": [], "plain": []}

    def plain_step() -> None:
        with plainly():
            seconds["plain"].append(timed(step))

    benchmark.pedantic(lambda: seconds["light"].append(timed(step)), setup=plain_step, rounds=ROUNDS)
    report("its time, forward and backward", seconds["light"], seconds["plain"])


@pytest.mark.parametrize("queries", [300, 900])
def test_training_step(benchmark: Any, queries: int) -> None:
    backbone, channels = build_backbone("resnet50")
    network = RelationDetr(backbone, channels, 91, TransformerSizes(queries=queries), hide_empty=False)
    images, padding = torch.randn(1, 3, SIDE, SIDE), torch.zeros(1, SIDE, SIDE, dtype=torch.bool)
    targets = [Target(random_boxes(7), torch.randint(91, (7,)))]
    light, plain = Criterion(hide_empty=False), PlainCriterion()

    def step(criterion: Callable[..., dict[str, Tensor]]) -> float:
        network.zero_grad()
        trained = network.learn(images, padding, targets, generator=torch.Generator().manual_seed(0))
        total = torch.stack(list(criterion(trained, targets).values())).sum()
        total.backward()
        return total.item()

    def plain_step() -> float:
        with plainly(network):
            return step(plain)

    assert step(light) == pytest.approx(plain_step(), rel=1e-3)
    seconds: dict[str, list[float]] = {"light": [], "plain": []}
    benchmark.pedantic(
        lambda: seconds["light"].append(timed(lambda: step(light))),
        setup=lambda: seconds["plain"].append(timed(plain_step)),
        rounds=ROUNDS,
    )
    report(f"training step with ResNet-50 at {SIDE} x {SIDE}, {queries} queries", seconds["light"], seconds["plain"])
