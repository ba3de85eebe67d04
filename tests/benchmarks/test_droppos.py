"""A DropPos training step of ViT-B/16 beside one in the order of the official code, on a CPU; and its target map.

    pytest tests/benchmarks/test_droppos.py --benchmark-enable -s

A step draws masks, runs the network, takes the loss and goes back; there is no optimiser. The official order embeds all
patches before it removes most of them, and for affinity it takes whole images through the encoder. It is written down
here for the same network, so that weights and the kernels of attention are shared and the order alone differs.

The two take turns, so that other load on the machine falls on both alike: each step of ours is divided by the mean of
the two of theirs around it. Processor time and counted operations stand beside wall time, for machines that are not
quiet. The same on a GPU: ``droppos_cuda.py``.
"""

import statistics
import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

from models.droppos.decoders import DecoderShape
from models.droppos.masks import Masking, Masks, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork
from models.droppos.smoothing import position_targets
from models.timm_attention import install_attention

BATCH, ROUNDS = 4, 7
GRID = (14, 14)
ALLOWED = {"none": 0.97, "full": 0.97, "visible": 0.68}

Loss = Callable[[MaskedPositionNetwork, Tensor, Masks, Tensor], Tensor]


def vit_base(**options: Any) -> MaskedPositionNetwork:
    """The published network, its attention routed as in training."""
    torch.manual_seed(0)
    encoder = VisionTransformer(patch_size=16, embed_dim=768, depth=12, num_heads=12, num_classes=0)
    network = MaskedPositionNetwork(encoder, decoder=DecoderShape(), **options)
    install_attention(network)
    return network


def our_loss(network: MaskedPositionNetwork, images: Tensor, masks: Masks, targets: Tensor) -> Tensor:
    return network(images, masks, targets).loss


def official_loss(network: MaskedPositionNetwork, images: Tensor, masks: Masks, targets: Tensor) -> Tensor:
    """Take the same loss in the official order; where the network has affinity, always that to the whole image."""
    encoder, decoder = network.encoder, network.decoder
    assert encoder.pos_embed is not None
    assert encoder.cls_token is not None
    patches = encoder.patch_embed(images)
    places = masks.visible[..., None].expand(-1, -1, patches.shape[-1])
    positions = encoder.pos_embed[:, 1:].expand(len(images), -1, -1).gather(1, places)
    tokens = patches.gather(1, places) + torch.where(masks.dropped[..., None], network.mask_pos_token, positions)
    class_token = (encoder.cls_token + encoder.pos_embed[:, :1]).expand(len(images), -1, -1)
    encoded = encoder.norm(encoder.blocks(torch.cat([class_token, tokens], dim=1)))
    logits = decoder.pred(decoder.norm(decoder.blocks(decoder.embed(encoded))))[:, 1:]
    weights = masks.dropped.float()
    if network.affinity is not None:
        with torch.no_grad():
            whole = encoder.forward_features(images).float()
            similarity = functional.cosine_similarity(whole[:, :1], whole[:, 1:], dim=-1)
            shares = (similarity / network.affinity.temperature).softmax(dim=1).gather(1, masks.visible)
            weights = weights * shares / shares.sum(dim=1, keepdim=True)
    cross_entropy = -(targets[masks.visible] * logits.float().log_softmax(dim=-1)).sum(dim=-1)
    return (weights * cross_entropy).sum() / weights.sum()


class Seconds(NamedTuple):
    wall: float
    processor: float


class Steps:
    """Training steps on one batch, each with masks of its own."""

    def __init__(self, network: MaskedPositionNetwork, loss: Loss) -> None:
        self.network, self.loss = network, loss
        self.images, self.targets = torch.randn(BATCH, 3, 224, 224), position_targets(GRID, 1.0)
        self.sampler = MaskSampler(Masking(), GRID[0] * GRID[1], seed=0)

    def take(self) -> Seconds:
        self.network.zero_grad()
        wall, processor = time.perf_counter(), time.process_time()
        masks = self.sampler.draw(BATCH)
        self.loss(self.network, self.images, masks, self.targets).backward()
        return Seconds(time.perf_counter() - wall, time.process_time() - processor)

    def operations(self) -> int:
        """Floating-point operations of a step in linear layers and convolutions; what no other load changes."""
        with FlopCounterMode(display=False) as counter:
            self.take()
        return counter.get_total_flops()


def compare(benchmark: Any, threads: int, what: str, subject: Steps, baseline: Steps) -> None:
    taken: dict[str, list[Seconds]] = {"subject": [], "baseline": []}
    operations = subject.operations() / baseline.operations()
    benchmark.pedantic(
        lambda: taken["subject"].append(subject.take()),
        setup=lambda: taken["baseline"].append(baseline.take()),
        rounds=ROUNDS,
    )
    taken["baseline"].append(baseline.take())
    benchmark.extra_info["ratio, operations"] = operations
    print(f"\n{what}, {threads} threads, {ROUNDS} rounds; ratio of operations {operations:.3f}")
    for clock in Seconds._fields:
        subjects, baselines = ([getattr(seconds, clock) for seconds in taken[name]] for name in taken)
        around = [statistics.mean(pair) for pair in pairwise(baselines)]
        ratios = [own / other for own, other in zip(subjects, around, strict=True)]
        benchmark.extra_info[f"ratio, {clock}"] = statistics.median(ratios)
        medians = " against ".join(f"{1000 * statistics.median(values):.0f} ms" for values in (subjects, baselines))
        rounds = ", ".join(f"{ratio:.3f}" for ratio in ratios)
        print(f"{clock:9} ratio {statistics.median(ratios):.3f}: {medians} (rounds: {rounds})")


@pytest.fixture(scope="module")
def network() -> MaskedPositionNetwork:
    return vit_base()


@pytest.mark.parametrize("affinity", [None, Affinity("full"), Affinity("visible")], ids=ALLOWED)
def test_step_beside_the_official_order(
    benchmark: Any, threads: int, network: MaskedPositionNetwork, affinity: Affinity | None
) -> None:
    network.affinity = affinity
    tokens = affinity.tokens if affinity else "none"
    ours, theirs = Steps(network, our_loss), Steps(network, official_loss)
    if tokens != "visible":
        arguments = (network, ours.images, ours.sampler.draw(BATCH), ours.targets)
        torch.testing.assert_close(our_loss(*arguments), official_loss(*arguments))
    compare(benchmark, threads, f"affinity {tokens}, at most {ALLOWED[tokens]} allowed", ours, theirs)


def test_step_with_pixels_beside_the_step_without(benchmark: Any, threads: int, network: MaskedPositionNetwork) -> None:
    network.affinity = None
    with_pixels = Steps(vit_base(position_weight=0.05), our_loss)
    compare(benchmark, threads, "with pixels, against without", with_pixels, Steps(network, our_loss))


@pytest.mark.parametrize("side", [14, 28])
def test_target_map(benchmark: Any, threads: int, side: int) -> None:
    benchmark.pedantic(position_targets, args=((side, side), 0.7), rounds=300, warmup_rounds=20)
    if benchmark.enabled:
        print(f"\n{side} x {side}, {threads} threads: {1000 * benchmark.stats.stats.median:.3f} ms, below 1 ms allowed")
