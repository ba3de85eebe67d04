"""A training step on MaskMix batches whose labels follow attention, beside the step whose labels follow area.

    pytest tests/benchmarks/test_label_sharing.py --benchmark-enable -s

ViT-S/16 at 224: mixing, forward, loss and backward as the task does them, on the same images and mixes. The two take
turns, so that other load on the machine falls on both alike.
"""

import statistics
import time
from typing import Any

import pytest
import torch

from vision_train.recipe import load_recipe
from vision_train.tasks.classification.task import ClassificationTask, build

ROUNDS = 12
BATCH = 8
CLASSES = [f"class {index}" for index in range(1000)]


pytestmark = pytest.mark.usefixtures("all_threads")


def task(labels: str) -> ClassificationTask:
    mixing = f"augment.mixing={{maskmix: 1.0, mixup: 0.0, cutmix: 0.0, labels: {labels}}}"
    torch.manual_seed(0)
    return build(load_recipe("mixpro/deit_small", [mixing], runnable=False), CLASSES)


def step(of: ClassificationTask, batch: dict[str, Any]) -> float:
    """Seconds of one training step without the optimiser, which is the same for both."""
    of.network.zero_grad()
    start = time.perf_counter()
    of.training_step(batch, 0).backward()
    return time.perf_counter() - start


def test_progressive_labels_beside_area_labels(benchmark: Any) -> None:
    batch = {"image": torch.randn(BATCH, 3, 224, 224), "label": torch.arange(BATCH)}
    tasks = {labels: task(labels) for labels in ("progressive", "area")}
    seconds: dict[str, list[float]] = {labels: [] for labels in tasks}
    for subject in tasks.values():
        step(subject, batch)
    benchmark.pedantic(
        lambda: seconds["progressive"].append(step(tasks["progressive"], batch)),
        setup=lambda: seconds["area"].append(step(tasks["area"], batch)),
        rounds=ROUNDS,
    )
    ratios = [mine / theirs for mine, theirs in zip(seconds["progressive"], seconds["area"], strict=True)]
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    print(f"\nViT-S/16, batch {BATCH}, {torch.get_num_threads()} threads")
    for labels, values in seconds.items():
        print(f"{labels:11} {1000 * statistics.median(values):8.1f} ms a step, median of {ROUNDS} rounds")
    print(f"ratio       {statistics.median(ratios):.3f} (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})")
