"""Networks for bags on a GPU: whether they are right, then their steps beside the released order; one file of figures.

    python tests/benchmarks/bags_cuda.py RESULT.json

First what is to be timed must be right. Every network that can hide instances is held against itself in float64 on the
CPU, with the same instances hidden: loss, attention and gradients, in float32 without TF32 and under autocast to
float16 and bfloat16, for a batch of unequal bags and for a bag of several parts; and prediction, which streams through
the bag. In float32 the networks must also hide the very instances that float64 hides. Then training steps on bags of
512 -> 256 take turns with steps in the released order.
"""

from __future__ import annotations

import copy
import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, NamedTuple

import torch
from attention_cuda import machine
from test_bags import CLASSES, FEATURES, MASKING, NETWORKS, WIDTH, Loss, our_loss, released_loss
from torch import Tensor, nn

from models.mil.abmil import ABMIL
from models.mil.bags import BagNetwork, BagOutput
from models.mil.clam import ClamSB
from models.mil.losses import bag_loss, branch_loss, diversity_loss
from models.mil.stkim import Hide, MaskSampler
from vision_train.files import write_json

DEVICE = torch.device("cuda")
WARM_UP, ROUNDS = 5, 30
LOSS_SCALE = 4096.0
"""Keeps gradients from vanishing in float16; a power of two, so that it changes nothing else."""

CHECKED = NETWORKS | {
    "abmil_ungated": lambda: ABMIL(FEATURES, WIDTH, CLASSES, gated=False),
    "clam_sb": lambda: ClamSB(FEATURES, WIDTH, CLASSES),
}
BATCHES = ((1, 7, 12, 3_000), (70_000,))
"""Instances of the bags of a batch: unequal ones, and one that is worked through in parts."""
INSTANCES = (100, 1_000, 10_000, 100_000)
ALLOWED = {torch.float32: 1e-4, torch.float16: 5e-2, torch.bfloat16: 1e-1}
"""Distance from float64 relative to its norm. In half precision single units fall on the other side of their ReLU,
which a small bag feels; the released order has the same."""


class Imposed(NamedTuple):
    """Hides the given entries of each bag, S x n without padding, in the place of a ``MaskDraw``."""

    entries: list[Tensor]

    def per_bag(self, _: tuple[int, ...]) -> list[Hide]:
        return [lambda scores, rows=rows: rows for rows in self.entries]


class Results(NamedTuple):
    output: BagOutput
    loss: Tensor
    gradients: Tensor

    def distances(self, exact: Results) -> dict[str, float]:
        """Of each, relative to the norm of what is exact."""
        pairs = {
            "loss": (self.loss, exact.loss),
            "attention": (self.output.attention, exact.output.attention),
            "gradients": (self.gradients, exact.gradients),
        }
        return {name: distance(*pair) for name, pair in pairs.items()}


def distance(found: Tensor, exact: Tensor) -> float:
    return ((found.detach().cpu().double() - exact).norm() / exact.norm()).item()


def attentive(name: str) -> BagNetwork:
    """A network whose attention is far from even, without dropout."""
    torch.manual_seed(0)
    network = CHECKED[name]()
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=1.5 / parameter[0].numel() ** 0.5)
    return network


def autocast(device: torch.device, dtype: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(device.type, dtype, enabled=dtype in (torch.float16, torch.bfloat16))


def results(network: BagNetwork, features: Tensor, padding: Tensor, hidden: Any, dtype: torch.dtype) -> Results:
    network.zero_grad()
    labels = torch.arange(len(features), device=features.device) % CLASSES
    with autocast(features.device, dtype):
        output = network(features, padding, hidden)
        losses = (bag_loss(output.bag_logits, labels), branch_loss(output.branch_logits, labels))
        loss = sum(losses, start=diversity_loss(output.attention))
    (LOSS_SCALE * loss).backward()
    gradients = [parameter.grad.flatten() for parameter in network.parameters() if parameter.grad is not None]
    return Results(output, loss, torch.cat(gradients).double() / LOSS_SCALE)


@torch.no_grad()
def predicted(network: BagNetwork, features: Tensor, padding: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Logits and attention in evaluation mode."""
    network.eval()
    with autocast(features.device, dtype):
        output = network(features, padding)
    network.train()
    assert output.attention is not None
    return output.bag_logits, output.attention


def check(name: str, sizes: tuple[int, ...]) -> list[dict[str, Any]]:
    """Distances from float64 in every precision, for one batch of bags.

    Raises:
        SystemExit: The network is wrong.
    """
    network, lengths = attentive(name), torch.tensor(sizes)
    features = torch.randn(len(sizes), max(sizes), FEATURES)
    padding = torch.arange(max(sizes)) >= lengths[:, None]
    draw = MaskSampler(MASKING, seed=0).draw(len(sizes), network.map_shape)
    exact_network = copy.deepcopy(network).double()
    exact = results(exact_network, features.double(), padding, draw, torch.float64)
    exact_prediction = predicted(exact_network, features.double(), padding, torch.float64)
    hidden = exact.output.scores.isneginf()
    entries = [rows[:, :length].to(DEVICE) for rows, length in zip(hidden.flatten(1, -2), sizes, strict=True)]
    network, features, padding = network.to(DEVICE), features.to(DEVICE), padding.to(DEVICE)
    draw = draw._replace(noise=draw.noise.to(DEVICE))
    rows: list[dict[str, Any]] = []
    for dtype, allowed in ALLOWED.items():
        chosen = results(network, features, padding, draw, dtype).output.scores.isneginf().cpu()
        errors = results(network, features, padding, Imposed(entries), dtype).distances(exact)
        logits, attention = predicted(network, features, padding, dtype)
        errors["prediction_logits"] = distance(logits, exact_prediction[0])
        errors["prediction_attention"] = distance(attention, exact_prediction[1])
        row = {"network": name, "bags": sizes, "dtype": str(dtype), "errors": errors}
        row["hidden_otherwise"] = int((chosen != hidden).sum())
        print(row)
        if not max(errors.values()) <= allowed or (dtype == torch.float32 and row["hidden_otherwise"]):
            raise SystemExit(f"not measured: {name} differs from itself in float64: {row}")
        rows.append(row)
    return rows


def timed(step: Callable[[], Any]) -> dict[str, float]:
    """Milliseconds by CUDA's own clock, and the most memory held beyond what was there before."""
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    start.record()
    step()
    end.record()
    end.synchronize()
    return {"milliseconds": start.elapsed_time(end), "peak_bytes": torch.cuda.max_memory_allocated() - before}


def take_turns(name: str, instances: int, dtype: torch.dtype) -> dict[str, Any]:
    """Time steps of one network on one bag, in both orders."""
    torch.manual_seed(0)
    network, bag = NETWORKS[name]().to(DEVICE), torch.randn(instances, FEATURES, device=DEVICE)
    sampler = MaskSampler(MASKING, seed=0)

    def step(loss_of: Loss) -> None:
        draw = None if isinstance(network, ABMIL) else sampler.draw(1, network.map_shape, DEVICE)
        with autocast(DEVICE, dtype):
            loss = loss_of(network, bag, draw)
        (LOSS_SCALE * loss).backward()

    taken: dict[str, list[dict[str, float]]] = {"ours": [], "released": []}
    for turn in range(WARM_UP + ROUNDS):
        for order, loss_of in (("ours", our_loss), ("released", released_loss)):
            network.zero_grad()
            figures = timed(lambda loss_of=loss_of: step(loss_of))
            if turn >= WARM_UP:
                taken[order].append(figures)
    pairs = zip(taken["ours"], taken["released"], strict=True)
    ratio = statistics.median(own["milliseconds"] / other["milliseconds"] for own, other in pairs)
    print(f"{name:10} {instances:7} {dtype}: {ratio:.3f} of the released order's time")
    return {"network": name, "instances": instances, "dtype": str(dtype), "ratio": ratio, "steps": taken}


def main(result: Path) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("not measured: this needs a CUDA device, and there is none")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    errors = [row for name in CHECKED for sizes in BATCHES for row in check(name, sizes)]
    cases = [(name, instances, dtype) for name in NETWORKS for instances in INSTANCES for dtype in ALLOWED]
    steps = [take_turns(*case) for case in cases]
    write_json(result, {"machine": machine(), "errors": errors, "steps": steps})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/benchmarks/bags_cuda.py RESULT.json")
    main(Path(sys.argv[1]))
