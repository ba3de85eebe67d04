"""What reading the attention row adds to a training step of ViT-S/16, in time and in memory, on a CPU.

    pytest tests/benchmarks/test_attention.py --benchmark-enable -s

The step with the row and the step without take turns, so that other load on the machine falls on both alike; where that
load is heavy, the time of the row alone beside the step says more. The same on a GPU, beside the backends of attention:
``attention_cuda.py``.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from models.attention_row import class_token_row, column_mean, predict_with_attention
from models.timm_attention import install_attention
from models.vit import build_model

ROUNDS = 5
BATCH = 8
HEADS, WIDTH = 6, 64


pytestmark = pytest.mark.usefixtures("all_threads")


def timed(function: Callable[[], Any]) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def step(network: nn.Module, logits: Callable[[], Tensor]) -> float:
    """Seconds of a forward and backward pass."""
    network.zero_grad()
    return timed(lambda: logits().square().mean().backward())


@pytest.mark.parametrize("pooling", ["token", "avg"])
def test_step_with_the_row(benchmark: Any, pooling: str) -> None:
    network = build_model("vit_small_patch16_224", num_classes=1000, image_size=224, global_pool=pooling)
    install_attention(network)
    images = torch.randn(BATCH, 3, 224, 224)
    seconds: dict[str, list[float]] = {"with the row": [], "plain": []}
    step(network, lambda: network(images))
    benchmark.pedantic(
        lambda: seconds["with the row"].append(step(network, lambda: predict_with_attention(network, images).logits)),
        setup=lambda: seconds["plain"].append(step(network, lambda: network(images))),
        rounds=ROUNDS,
    )
    query, key = (torch.randn(BATCH, 197, HEADS, WIDTH).transpose(1, 2) for _ in range(2))
    read = class_token_row if pooling == "token" else column_mean
    seconds["row alone"] = [timed(lambda: read(query, key, None)) for _ in range(ROUNDS)]
    ratios = [with_row / plain for with_row, plain in zip(seconds["with the row"], seconds["plain"], strict=True)]
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    print(f"\nViT-S/16, batch {BATCH}, pooling {pooling!r}")
    for name, values in seconds.items():
        print(f"{name:13} {1000 * statistics.median(values):8.1f} ms a step, median of {ROUNDS} rounds")
    print(f"ratio         {statistics.median(ratios):.3f} (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})")


def peak_bytes(function: Callable[[], Any]) -> int:
    """Largest memory that a call holds at a time beyond what was there before it."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        function()
    held = peak = 0
    records = profiled.profiler.kineto_results.events()  # type: ignore[union-attr]
    for record in sorted(records, key=lambda record: record.start_ns()):
        if record.name() == "[memory]":
            held += record.nbytes()
            peak = max(peak, held)
    return peak


@pytest.mark.parametrize("read", [class_token_row, column_mean], ids=lambda read: read.__name__)
def test_memory_of_the_row(benchmark: Any, read: Callable[..., Tensor]) -> None:
    per_token = {}
    print(f"\n{read.__name__}: peak memory, {HEADS} heads of {WIDTH}")
    for batch, tokens in ((8, 197), (16, 197), (8, 785), (16, 785)):
        query, key = (torch.randn(batch, tokens, HEADS, WIDTH).transpose(1, 2) for _ in range(2))
        peak = peak_bytes(lambda query=query, key=key: read(query, key, None))
        full_map = batch * HEADS * tokens * tokens * 4
        per_token[batch, tokens] = peak / (batch * tokens)
        print(f"B {batch:3}, N {tokens:4}: {peak / 2**20:7.2f} MiB, one N x N map {full_map / 2**20:8.2f} MiB")
    benchmark.extra_info["bytes per token"] = {str(case): value for case, value in per_token.items()}
    benchmark.pedantic(read, args=(query, key, None), rounds=3)
    print("bytes per B x N: " + ", ".join(f"{value:.0f}" for value in per_token.values()))
    assert max(per_token.values()) < 1.1 * per_token[8, 197], "memory grows faster than B x N"
