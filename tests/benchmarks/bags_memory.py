"""Prints how many bytes a process held at its peak beyond those it held before, for one pass over one bag; on Linux.

    python tests/benchmarks/bags_memory.py WAY INSTANCES

WAY is ``ours-NETWORK`` or ``released-NETWORK``, a training step in float32, or ``predict-WIDTH``, an evaluation of
ACMIL-GA on float16 features of that width.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from test_bags import CLASSES, FEATURES, NETWORKS, Steps, our_loss, released_loss

from models.mil.acmil import AcmilGA
from models.mil.networks import published_width

LOSSES = {"ours": our_loss, "released": released_loss}


def resident(field: str) -> int:
    """Bytes in memory, now (VmRSS) or at most so far (VmHWM)."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    assert found
    return 1024 * int(found[1])


def training(order: str, network: str, instances: int) -> Callable[[], object]:
    built, loss = NETWORKS[network](), LOSSES[order]
    # What the first step loads, a small one has loaded.
    Steps(built, loss, torch.randn(10, FEATURES), "fp32").take()
    return Steps(built, loss, torch.randn(instances, FEATURES), "fp32").take


def prediction(in_features: int, instances: int) -> Callable[[], object]:
    network = AcmilGA(in_features, published_width(in_features), CLASSES).eval()
    network(torch.randn(1, 10, in_features).half())
    bag = torch.randn(1000, in_features).half().repeat(instances // 1000, 1)[None]

    @torch.no_grad()
    def predict() -> None:
        network(bag)

    return predict


def main(way: str, instances: int) -> None:
    torch.set_num_threads(1)
    kind, _, what = way.partition("-")
    act = prediction(int(what), instances) if kind == "predict" else training(kind, what, instances)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    act()
    print(resident("VmHWM") - before)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
