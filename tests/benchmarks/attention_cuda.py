"""Backends of attention on a GPU: time, peak memory and equality, forward and backward, as one file of raw figures.

    python tests/benchmarks/attention_cuda.py RESULT.json

The shapes are those of ViT-S/16 at 224 and 448 pixels: 197 and 785 tokens, 6 heads of 64, in a batch of 64. The bias,
where there is one, is 1 x 6 x N x N and learns. Errors are taken against the formula in float32. Training steps of the
whole network, with the attention row and without, stand beside them.
"""

from __future__ import annotations

import platform
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from models.attention import BACKENDS, AttentionCall, attention, choose_backend
from models.attention_row import predict_with_attention
from models.timm_attention import install_attention
from models.vit import build_model
from vision_train.files import write_json

BATCH, HEADS, WIDTH = 64, 6, 64
WARM_UP, ROUNDS = 5, 30


def machine() -> dict[str, Any]:
    device = torch.cuda.get_device_properties(0)
    return {
        "device": device.name,
        "memory_bytes": device.total_memory,
        "capability": [device.major, device.minor],
        "cuda": torch.version.cuda,
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": {name: metadata.version(name) for name in ("torch", "xformers", "timm")},
    }


def measure(function: Callable[[], Any]) -> dict[str, Any]:
    """Milliseconds of each round by CUDA's own clock, and the most memory held beyond what was there before."""
    for _ in range(WARM_UP):
        function()
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    milliseconds = []
    for _ in range(ROUNDS):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        function()
        end.record()
        end.synchronize()
        milliseconds.append(start.elapsed_time(end))
    peak = torch.cuda.max_memory_allocated() - before
    return {"milliseconds": milliseconds, "median": statistics.median(milliseconds), "peak_bytes": peak}


def results_of(backend: str, inputs: list[Tensor], weight: Tensor) -> list[Tensor]:
    """Output and the gradients of query, key, value and bias."""
    output = attention(*inputs, backend=backend)
    return [output, *torch.autograd.grad(output, inputs, weight)]


def compare_backends(image_size: int, dtype: torch.dtype, with_bias: bool) -> list[dict[str, Any]]:
    tokens = (image_size // 16) ** 2 + 1
    generator = torch.Generator("cuda").manual_seed(0)
    shapes = [(BATCH, HEADS, tokens, WIDTH)] * 3 + [(1, HEADS, tokens, tokens)] * with_bias
    exact = [torch.randn(shape, device="cuda", generator=generator) for shape in shapes]
    weight = torch.randn(shapes[0], device="cuda", generator=generator)
    inputs = [tensor.to(dtype).requires_grad_() for tensor in exact]
    expected = results_of("math", [tensor.detach().float().requires_grad_() for tensor in inputs], weight)
    case = {"image_size": image_size, "tokens": tokens, "dtype": str(dtype), "bias": with_bias}
    choice = choose_backend(AttentionCall.of(*inputs[:3], inputs[3] if with_bias else None, 0.0))
    rows: list[dict[str, Any]] = []
    for backend in BACKENDS:
        if backend in choice.refused:
            rows.append(case | {"backend": backend, "refused": choice.refused[backend]})
            continue
        results = results_of(backend, inputs, weight.to(dtype))
        pairs = [(ours.float() - theirs, theirs) for ours, theirs in zip(results, expected, strict=True)]
        names = ["output", "query", "key", "value", "bias"][: len(pairs)]
        equality = {
            "largest_error": {name: error.abs().max().item() for name, (error, _) in zip(names, pairs, strict=True)},
            "relative_error": {
                name: (error.norm() / theirs.norm()).item() for name, (error, theirs) in zip(names, pairs, strict=True)
            },
        }
        del results, pairs
        figures = measure(lambda backend=backend: results_of(backend, inputs, weight.to(dtype)))
        rows.append(case | {"backend": backend} | figures | equality)
        print(f"{case} {backend:8} {figures['median']:.3f} ms, {figures['peak_bytes'] / 2**20:.0f} MiB")
    return rows


def compare_steps(dtype: torch.dtype) -> list[dict[str, Any]]:
    network = build_model("vit_small_patch16_224", num_classes=1000, image_size=224).cuda()
    receipt = install_attention(network)
    images = torch.randn(BATCH, 3, 224, 224, device="cuda")
    rows = []
    for name, logits in (
        ("plain", lambda: network(images)),
        ("with the row", lambda: predict_with_attention(network, images).logits),
    ):

        def step(logits: Callable[[], Tensor] = logits) -> None:
            network.zero_grad()
            with torch.autocast("cuda", dtype):
                loss = logits().float().square().mean()
            loss.backward()

        rows.append({"step": name, "dtype": str(dtype)} | measure(step))
        print(f"ViT-S/16 step, {dtype}, {name}: {rows[-1]['median']:.2f} ms")
    decided = receipt.decided(network, device=torch.device("cuda"), dtype=dtype, training=True)
    return [row | {"attention": asdict(decided)} for row in rows]


def main(result: Path) -> None:
    if not torch.cuda.is_available():
        raise SystemExit("this measures a CUDA device, and there is none")
    dtypes = (torch.float16, torch.bfloat16)
    cases = [(size, dtype, bias) for size in (224, 448) for dtype in dtypes for bias in (False, True)]
    backends = [row for case in cases for row in compare_backends(*case)]
    steps = [row for dtype in dtypes for row in compare_steps(dtype)]
    write_json(result, {"machine": machine(), "batch": BATCH, "backends": backends, "steps": steps})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python tests/benchmarks/attention_cuda.py RESULT.json")
    main(Path(sys.argv[1]))
