"""What reading the attention of [REG] costs, beside attention that returns its maps, on a CPU.

    pytest tests/benchmarks/test_reg_row.py --benchmark-enable -s

The shapes are those of TransVG: 421 tokens of width 256, 8 heads. The maps are those of ``nn.MultiheadAttention`` with
``need_weights=True``, by which the official code would have to read them; the output that it computes as well is what
the layer needs anyway, so its time without maps stands beside. All take turns, so that other load on the machine falls
on all alike. Target: the row takes at most half of the time of attention with maps.
"""

import statistics
import time
from typing import Any

import pytest
import torch
from torch import nn

from models.attention import additive_bias
from models.detr.layers import SelfAttention

pytestmark = pytest.mark.usefixtures("all_threads")

BATCH, TOKENS, DIM, HEADS = 8, 421, 256, 8
ROUNDS = 15
MOST = 0.5
"""Share of the time of attention with maps."""


@torch.no_grad()
def test_the_row_takes_at_most_half_the_time_of_maps(benchmark: Any) -> None:
    torch.manual_seed(0)
    tokens, positions = torch.randn(BATCH, TOKENS, DIM), torch.randn(1, TOKENS, DIM).expand(BATCH, -1, -1)
    padding = torch.arange(TOKENS)[None] >= torch.linspace(TOKENS // 2, TOKENS, BATCH)[:, None]
    ours = SelfAttention(DIM, HEADS).eval()
    theirs = nn.MultiheadAttention(DIM, HEADS, batch_first=True).eval()
    theirs.load_state_dict(ours.state_dict())
    bias = additive_bias(~padding[:, None, None], tokens.dtype)

    def with_maps(need_weights: bool = True) -> Any:
        placed = tokens + positions
        return theirs(placed, placed, tokens, key_padding_mask=padding, need_weights=need_weights)

    cases = {
        "row": lambda: ours.first_row(tokens, positions, bias),
        "attention with maps": with_maps,
        "attention without maps": lambda: with_maps(False),
        "our attention and the row": lambda: (ours(tokens, positions, bias), ours.first_row(tokens, positions, bias)),
    }
    torch.testing.assert_close(cases["row"](), with_maps()[1][:, 0])
    seconds: dict[str, list[float]] = {name: [] for name in cases}

    def all_cases() -> None:
        for name, case in cases.items():
            start = time.perf_counter()
            case()
            seconds[name].append(time.perf_counter() - start)

    benchmark.pedantic(all_cases, rounds=ROUNDS, warmup_rounds=2)
    medians = {name: statistics.median(values[2:]) for name, values in seconds.items()}
    ratio = medians["row"] / medians["attention with maps"]
    benchmark.extra_info["ratio"] = ratio
    print(f"\n{BATCH} sequences of {TOKENS} tokens, width {DIM}, {HEADS} heads")
    for name, median in medians.items():
        print(f"{name:26} {1000 * median:7.1f} ms, median of {ROUNDS} rounds")
    print(f"row / attention with maps  {ratio:7.3f}")
    assert ratio <= MOST
