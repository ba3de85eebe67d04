"""How long a user waits before anything happens: whole processes, warm disk.

pytest tests/benchmarks/test_start_up.py --benchmark-enable -s
"""

import statistics
import subprocess
import sys
import time
from typing import Any

import pytest

ROUNDS = 5
LIBRARIES = "torch, torchvision, timm, pytorch_lightning, torchmetrics.functional, albumentations, sklearn.datasets"
OURS = "vision_train.run.fit, vision_train.tasks.classification.task, vision_train.data.images"


def seconds(*command: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, *command], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


@pytest.mark.parametrize("verb", [("--help",), ("recipes",)], ids=lambda verb: verb[0])
def test_verb_starts(benchmark: Any, verb: tuple[str, ...]) -> None:
    benchmark.pedantic(seconds, args=("-m", "vision_train", *verb), rounds=ROUNDS, warmup_rounds=1)
    print(f"\nvision-train {verb[0]}: {benchmark.stats['median']:.2f} s, median of {ROUNDS}")


def test_imports_beside_those_of_the_libraries(benchmark: Any) -> None:
    taken: dict[str, list[float]] = {"libraries": [], "ours": []}
    benchmark.pedantic(
        lambda: taken["ours"].append(seconds("-c", f"import {OURS}")),
        setup=lambda: taken["libraries"].append(seconds("-c", f"import {LIBRARIES}")),
        rounds=ROUNDS,
        warmup_rounds=1,
    )
    medians = {name: statistics.median(values) for name, values in taken.items()}
    benchmark.extra_info.update(medians)
    print(f"\nimports: ours {medians['ours']:.2f} s, the libraries alone {medians['libraries']:.2f} s")
