"""A DropPos step of ViT-B/16 at batch 256 on a GPU, beside one in the official order, as one file of raw figures.

    python tests/benchmarks/droppos_cuda.py RESULT.json

First what is to be timed must be right: in float32, without TF32, both orders must give the same loss and gradients; in
float16 and bfloat16 ours may lie no further from them than twice as far as the official order. Then the steps take
turns in bfloat16: without affinity, with that to the whole image and to its visible patches, and with pixels.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import torch
from attention_cuda import machine
from test_droppos import ALLOWED, GRID, Loss, official_loss, our_loss, vit_base
from torch import Tensor

from models.droppos.masks import Masking, MaskSampler
from models.droppos.network import Affinity, MaskedPositionNetwork
from models.droppos.smoothing import position_targets
from vision_train.files import write_json

DEVICE = torch.device("cuda")
BATCH, WARM_UP, ROUNDS = 256, 5, 30
LOSS_SCALE = 4096.0
"""Keeps gradients from vanishing in float16; a power of two, so that it changes nothing else."""

AFFINITIES = {"none": None, "full": Affinity("full"), "visible": Affinity("visible")}


def precision(dtype: torch.dtype) -> AbstractContextManager[Any]:
    return torch.autocast(DEVICE.type, dtype, enabled=dtype != torch.float32)


class Steps:
    """Training steps of one network on one batch."""

    def __init__(self, network: MaskedPositionNetwork) -> None:
        self.network = network
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(BATCH, 3, 224, 224, generator=generator).to(DEVICE)
        self.targets = position_targets(GRID, 1.0, device=DEVICE)

    def sampler(self) -> MaskSampler:
        return MaskSampler(Masking(), GRID[0] * GRID[1], seed=0)

    def take(self, loss_of: Loss, affinity: str, dtype: torch.dtype, sampler: MaskSampler) -> Tensor:
        self.network.affinity = AFFINITIES[affinity]
        self.network.zero_grad()
        masks = sampler.draw(BATCH, DEVICE)
        with precision(dtype):
            loss = loss_of(self.network, self.images, masks, self.targets)
        (LOSS_SCALE * loss).backward()
        return loss.detach()

    def results(self, loss_of: Loss, affinity: str, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Loss, and all gradients in a row, in float64."""
        loss = self.take(loss_of, affinity, dtype, self.sampler())
        gradients = [parameter.grad for parameter in self.network.parameters() if parameter.grad is not None]
        row = torch.cat([gradient.flatten() for gradient in gradients])
        return loss.double(), row.double() / LOSS_SCALE


def check(steps: Steps, affinity: str) -> list[dict[str, Any]]:
    """Distances from the official order in float32: of the loss, and of the gradients relative to their norm.

    Raises:
        SystemExit: Ours is wrong.
    """
    loss, gradients = steps.results(official_loss, affinity, torch.float32)
    rows: list[dict[str, Any]] = []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        row: dict[str, Any] = {"affinity": affinity, "dtype": str(dtype)}
        for name, loss_of in {"ours": our_loss, "official": official_loss}.items():
            own_loss, own_gradients = steps.results(loss_of, affinity, dtype)
            row[f"{name}_loss_error"] = (own_loss - loss).abs().item()
            row[f"{name}_gradient_error"] = ((own_gradients - gradients).norm() / gradients.norm()).item()
        print(row)
        allowed = 1e-4 if dtype == torch.float32 else 2 * row["official_gradient_error"]
        if not row["ours_gradient_error"] <= allowed or not row["ours_loss_error"] <= 1e-2:
            raise SystemExit(f"not measured: ours differs from the official order: {row}")
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


def take_turns(steps: Steps, with_pixels: Steps) -> dict[str, list[dict[str, float]]]:
    sampler = steps.sampler()

    def step(of: Steps, loss_of: Loss, affinity: str) -> Callable[[], Tensor]:
        return lambda: of.take(loss_of, affinity, torch.bfloat16, sampler)

    ways = {f"ours, {affinity}": step(steps, our_loss, affinity) for affinity in AFFINITIES}
    ways |= {f"official, {affinity}": step(steps, official_loss, affinity) for affinity in ("none", "full")}
    ways["ours, pixels"] = step(with_pixels, our_loss, "none")
    taken: dict[str, list[dict[str, float]]] = {name: [] for name in ways}
    for turn in range(WARM_UP + ROUNDS):
        for name, way in ways.items():
            for of in (steps, with_pixels):
                of.network.zero_grad()
            figures = timed(way)
            if turn >= WARM_UP:
                taken[name].append(figures)
    return taken


def ratios_of(taken: dict[str, list[dict[str, float]]]) -> dict[str, float]:
    """Median over the rounds, each divided within itself."""
    pairs = {
        "none": ("ours, none", "official, none"),
        "full": ("ours, full", "official, full"),
        "visible": ("ours, visible", "official, full"),
        "pixels": ("ours, pixels", "ours, none"),
    }
    milliseconds = {name: [figures["milliseconds"] for figures in rounds] for name, rounds in taken.items()}
    return {
        name: statistics.median(own / other for own, other in zip(*map(milliseconds.get, pair), strict=True))
        for name, pair in pairs.items()
    }


def main(result: Path) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("not measured: this needs a CUDA device, and there is none")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    steps = Steps(vit_base().to(DEVICE))
    errors = [row for affinity in ("none", "full") for row in check(steps, affinity)]
    taken = take_turns(steps, Steps(vit_base(position_weight=0.05).to(DEVICE)))
    ratios = ratios_of(taken)
    for name, ratio in ratios.items():
        print(f"{name:8} {ratio:.3f}" + (f", at most {ALLOWED[name]} allowed" if name in ALLOWED else ""))
    figures = {"machine": machine(), "batch": BATCH, "dtype": "bfloat16", "errors": errors}
    write_json(result, figures | {"steps": taken, "ratios": ratios})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/benchmarks/droppos_cuda.py RESULT.json")
    main(Path(sys.argv[1]))
