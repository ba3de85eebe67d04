"""Training steps on bags of 512-wide instances beside steps in the released order, on one thread of a CPU; and memory.

    pytest tests/benchmarks/test_bags.py --benchmark-enable -s

A step draws what is hidden, embeds (512 -> 256), pools, takes the losses and goes back; there is no optimiser. The
released order is written down here from the published formulas for the same network and draw, so that the order of
the steps alone differs: whole maps over the bag left to autograd, branch after branch, the diversity pair after pair.

The ways take turns, a few steps at a time where they are short, so that other load on the machine falls on all alike:
each turn of ours is divided by the mean of the two of theirs around it. Processor time stands beside wall time, for
machines that are not quiet. The released training knows no reduced precision, so beside our step in bfloat16 autocast
stand both the released order in float32 and the released order under the same autocast. The products of matrices that
no step of gated attention can do without are timed in the same turns, on operands made beforehand: the floor. Memory is
that of a process of its own (``bags_memory.py``). The same on a GPU: ``bags_cuda.py``.
"""

import itertools
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from models.mil.abmil import ABMIL
from models.mil.acmil import AcmilGA
from models.mil.acmil_mha import HEADS, AcmilMHA
from models.mil.bags import BagNetwork
from models.mil.losses import bag_loss, branch_loss, diversity_loss
from models.mil.stkim import InstanceMasking, MaskDraw, MaskSampler

pytestmark = pytest.mark.usefixtures("one_thread")

FEATURES, WIDTH, ATTENTION_WIDTH, BRANCHES, CLASSES = 512, 256, 128, 5, 2
MASKING = InstanceMasking(top_k=10, drop_ratio=0.6)
LABEL = 1
TURNS = {100: (31, 20), 1_000: (31, 5), 10_000: (21, 1), 100_000: (9, 1)}
"""For a number of instances: rounds, and steps in a turn."""
MEGABYTE = 2**20

NETWORKS: dict[str, Callable[[], BagNetwork]] = {
    "acmil_ga": lambda: AcmilGA(FEATURES, WIDTH, CLASSES, branches=BRANCHES),
    "abmil": lambda: ABMIL(FEATURES, WIDTH, CLASSES),
    "acmil_mha": lambda: AcmilMHA(FEATURES, WIDTH, CLASSES, branches=BRANCHES, dropout=0.0),
}

Loss = Callable[[BagNetwork, Tensor, MaskDraw | None], Tensor]


def our_loss(network: BagNetwork, bag: Tensor, draw: MaskDraw | None) -> Tensor:
    output = network(bag[None], hidden=draw)
    label = torch.tensor([LABEL], device=bag.device)
    assert output.attention is not None
    losses = bag_loss(output.bag_logits, label), branch_loss(output.branch_logits, label)
    return sum(losses, start=diversity_loss(output.attention))


def released_loss(network: Any, bag: Tensor, draw: MaskDraw | None) -> Tensor:
    """Take the same loss in the released order."""
    embedded = network.dimreduction.fc1(bag).relu()
    if isinstance(network, AcmilMHA):
        logits, branches, scores = multi_head_steps(network, embedded, draw)
    else:
        logits, branches, scores = gated_steps(network, embedded, draw)
    label = torch.tensor([LABEL], device=bag.device)
    loss = functional.cross_entropy(logits, label)
    if branches:
        repeated = label.repeat_interleave(len(branches))
        loss = loss + functional.cross_entropy(torch.cat(branches), repeated) + pair_loop(scores.softmax(dim=-1))
    return loss


def gated_steps(network: Any, embedded: Tensor, draw: MaskDraw | None) -> tuple[Tensor, list[Tensor], Tensor]:
    """From N x L to bag logits 1 x C, those of the branches, and scores 1 x T x N."""
    attention = network.attention
    value, gate = attention.attention_V(embedded).tanh(), attention.attention_U(embedded).sigmoid()
    scores = attention.attention_weights(value * gate).t()
    if draw is not None:
        scores = hide(scores, draw.noise[0])
    attended = scores.softmax(dim=1)
    features = attended @ embedded
    if isinstance(network, ABMIL):
        return network.classifier(features), [], scores[None]
    branches = [classifier(features[[t]]) for t, classifier in enumerate(network.classifier)]
    bag_feature = attended.mean(dim=0, keepdim=True) @ embedded
    return network.Slide_classifier(bag_feature), branches, scores[None]


def multi_head_steps(network: Any, embedded: Tensor, draw: MaskDraw | None) -> tuple[Tensor, list[Tensor], Tensor]:
    """From N x L to bag logits 1 x C, those of the branches, and scores H x T x N."""
    branches, every_score, every_attention = [], [], []
    for t, block in enumerate(network.sub_attention):
        query, key, value = (
            project(tokens).unflatten(1, (HEADS, -1)).transpose(0, 1)
            for project, tokens in (
                (block.q_proj, network.q[0, [t]]),
                (block.k_proj, embedded),
                (block.v_proj, embedded),
            )
        )
        scores = query @ key.mT / key.shape[-1] ** 0.5  # H 1 N
        if draw is not None:
            scores = hide(scores[:, 0], draw.noise[0, t])[:, None]
        attended = scores.softmax(dim=-1)
        feature = block.layer_norm(block.dropout(block.out_proj((attended @ value).flatten()[None])))
        branches.append(network.classifier[t](feature))
        every_score.append(scores)
        every_attention.append(attended)
    block = network.bag_attention
    value = block.v_proj(embedded).unflatten(1, (HEADS, -1)).transpose(0, 1)
    attended = torch.cat(every_attention, dim=1).mean(dim=1, keepdim=True)
    feature = block.layer_norm(block.dropout(block.out_proj((attended @ value).flatten()[None])))
    return network.Slide_classifier(feature), branches, torch.cat(every_score, dim=1)


def hide(scores: Tensor, noise: Tensor) -> Tensor:
    """Hide some of the highest scores in each row of S x N, as the noise says."""
    candidates = min(MASKING.top_k, scores.shape[1])
    ranked = scores.topk(candidates, dim=1).indices
    chosen = noise[:, :candidates].argsort(dim=1)[:, : int(candidates * MASKING.drop_ratio)]
    kept = torch.ones_like(scores).scatter_(1, ranked.gather(1, chosen), 0)
    return scores.masked_fill(kept == 0, max(-1e9, torch.finfo(scores.dtype).min))


def pair_loop(attention: Tensor) -> Tensor:
    """Mean cosine similarity of branches, H x T x N, averaged over heads."""
    pairs = list(itertools.combinations(range(attention.shape[1]), 2))
    total = torch.zeros((), device=attention.device)
    for one, other in pairs:
        total = total + functional.cosine_similarity(attention[:, one], attention[:, other], dim=-1).mean() / len(pairs)
    return total


class Seconds(NamedTuple):
    wall: float
    processor: float


def timed(step: Callable[[], object], steps: int) -> Seconds:
    """Time of one of several steps in a row."""
    wall, processor = time.perf_counter(), time.process_time()
    for _ in range(steps):
        step()
    return Seconds((time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps)


class Steps:
    """Training steps of one network on one bag, each with a draw of its own."""

    def __init__(self, network: BagNetwork, loss: Loss, bag: Tensor, precision: str) -> None:
        self.network, self.loss, self.bag = network, loss, bag
        self.autocast = precision == "bf16"
        self.sampler = MaskSampler(MASKING, seed=0)

    def draw(self) -> MaskDraw | None:
        return None if isinstance(self.network, ABMIL) else self.sampler.draw(1, self.network.map_shape)

    def take(self) -> Tensor:
        """Take a step; returns its loss."""
        self.network.zero_grad()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
            loss = self.loss(self.network, self.bag, self.draw())
        loss.backward()
        return loss.detach()

    def results(self) -> tuple[Tensor, Tensor]:
        """Loss, and all gradients in a row, of one step with the first draw of the seed."""
        self.sampler = MaskSampler(MASKING, seed=0)
        loss = self.take()
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        return loss, torch.cat([gradient.flatten() for gradient in gradients])


class Product(NamedTuple):
    left: Tensor
    right: Tensor
    result: Tensor


class MatrixProducts:
    """The products of a step of gated attention with T branches, forward and backward, and nothing else."""

    def __init__(self, instances: int, branches: int, dtype: torch.dtype) -> None:
        def made(rows: int, columns: int) -> Tensor:
            return torch.randn(rows, columns).to(dtype)

        bag, embedded, evidence = (made(instances, width) for width in (FEATURES, WIDTH, ATTENTION_WIDTH))
        embedding, value, score = made(WIDTH, FEATURES), made(ATTENTION_WIDTH, WIDTH), made(branches, ATTENTION_WIDTH)
        scores, features = made(branches, instances), made(branches, WIDTH)
        pairs = [(bag, embedding.t()), *[(embedded, value.t())] * 2, (evidence, score.t()), (scores, embedded)]
        pairs += [(features, embedded.t()), (scores.t(), features), (scores, evidence), (scores.t(), score)]
        pairs += [*[(evidence.t(), embedded), (evidence, value)] * 2, (embedded.t(), bag)]
        self.products = [Product(left, right, left @ right) for left, right in pairs]

    def take(self) -> None:
        for left, right, result in self.products:
            torch.mm(left, right, out=result)


CASES = [
    pytest.param(name, instances, precision, asked, id=f"{name}-{instances}-{precision}")
    for name, instances, precision, asked in (
        ("acmil_ga", 100, "fp32", 0.71),
        ("acmil_ga", 1_000, "fp32", 0.85),
        ("acmil_ga", 10_000, "fp32", 1.0),
        ("acmil_ga", 100_000, "fp32", 1.0),
        ("acmil_ga", 100_000, "bf16", 0.6),
        ("abmil", 100, "fp32", None),
        ("abmil", 1_000, "fp32", 0.85),
        ("abmil", 10_000, "fp32", 1.0),
        ("abmil", 100_000, "fp32", 1.0),
        ("abmil", 100_000, "bf16", 0.6),
        ("acmil_mha", 1_000, "fp32", 1.0),
        ("acmil_mha", 10_000, "fp32", 1.0),
    )
]
"""Network, instances, precision, and the ratio to the released training that is asked for."""


def take_turns(benchmark: Any, ways: dict[str, Callable[[], object]], instances: int) -> dict[str, list[Seconds]]:
    """Time all ways; those beside ours run once more at the end."""
    rounds, steps = TURNS[instances]
    taken: dict[str, list[Seconds]] = {way: [] for way in ways}

    def others() -> None:
        for way, step in ways.items():
            if way != "ours":
                taken[way].append(timed(step, steps))

    benchmark.pedantic(lambda: taken["ours"].append(timed(ways["ours"], steps)), setup=others, rounds=rounds)
    others()
    return taken


def compare(benchmark: Any, taken: dict[str, list[Seconds]]) -> dict[str, float]:
    """Print and keep medians, and ratios of ours to every other way by both clocks; returns those of processor time."""
    by_processor: dict[str, float] = {}
    for way, turns in taken.items():
        lines = [f"{way:25}"]
        for clock in Seconds._fields:
            seconds = [getattr(turn, clock) for turn in turns]
            lines.append(f"{clock} {1000 * statistics.median(seconds):8.2f} ms")
            if way != "ours":
                own = [getattr(turn, clock) for turn in taken["ours"]]
                around = [statistics.mean(pair) for pair in itertools.pairwise(seconds)]
                ratios = [one / other for one, other in zip(own, around, strict=True)]
                by_processor[way] = statistics.median(ratios)
                low, _, high = statistics.quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
                lines[-1] += f", ours takes {by_processor[way]:.3f} of it (quartiles {low:.3f} to {high:.3f})"
                benchmark.extra_info[f"ratio to {way}, {clock}"] = by_processor[way]
        print("; ".join(lines))
    return by_processor


@pytest.mark.parametrize(("name", "instances", "precision", "asked"), CASES)
def test_item_12_step_beside_the_released_order(
    benchmark: Any, name: str, instances: int, precision: str, asked: float | None
) -> None:
    torch.manual_seed(0)
    network, bag = NETWORKS[name](), torch.randn(instances, FEATURES)
    ours, theirs = (Steps(network, loss, bag, precision) for loss in (our_loss, released_loss))
    (loss, gradients), (expected, expected_gradients) = ours.results(), theirs.results()
    within = 1e-5 if precision == "fp32" else 2e-2
    torch.testing.assert_close(loss, expected, atol=within, rtol=0, check_dtype=False)
    if precision == "fp32":
        assert (gradients - expected_gradients).norm() <= 1e-4 * expected_gradients.norm()
    ways: dict[str, Callable[[], object]] = {"ours": ours.take, f"released, {precision}": theirs.take}
    if precision != "fp32":
        ways["released, fp32"] = Steps(network, released_loss, bag, "fp32").take
    if name != "acmil_mha":
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        ways["products of matrices"] = MatrixProducts(instances, network.map_shape[0], dtype).take
    load = Path("/proc/loadavg").read_text().split()[0] if sys.platform == "linux" else "unknown"
    print(f"\n{name}, {instances} instances, {precision}, load {load}; asked beside released, fp32: {asked}")
    ratios = compare(benchmark, take_turns(benchmark, ways, instances))
    # Loose, for machines that are not quiet; without --benchmark-enable a single round says nothing.
    if benchmark.enabled and asked is not None:
        assert ratios["released, fp32"] <= 1.25


def peak_bytes(way: str, instances: int) -> int:
    command = [sys.executable, str(Path(__file__).with_name("bags_memory.py")), way, str(instances)]
    return int(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize("name", ["acmil_ga", "acmil_mha"])
def test_item_7_memory_of_training_is_linear(name: str) -> None:
    peaks = {
        (order, instances): peak_bytes(f"{order}-{name}", instances)
        for order in ("ours", "released")
        for instances in (10_000, 20_000, 100_000)
    }
    print(f"\n{name}, a training step, float32, beyond the bag")
    for (order, instances), peak in peaks.items():
        print(f"{order:8} {instances:7}: {peak / MEGABYTE:7.0f} MiB, {peak / instances / 1000:.2f} kB an instance")
    assert peaks["ours", 20_000] <= 2.2 * peaks["ours", 10_000]
    assert peaks["ours", 100_000] <= peaks["released", 100_000]


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process is read from /proc")
@pytest.mark.parametrize(("way", "allowed"), [("predict-512", 300e6), ("predict-1024", 1.5e9)])
def test_item_7_memory_of_prediction(way: str, allowed: float) -> None:
    peak = peak_bytes(way, 200_000)
    print(f"\n{way}, 200,000 instances, float16: {peak / 1e6:.0f} MB beyond the bag, {allowed / 1e6:.0f} MB allowed")
    assert peak <= allowed
