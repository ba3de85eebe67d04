"""A training step under our task and callbacks, beside a hand-written loop over the same network, data and optimiser.

    pytest tests/benchmarks/test_training_step.py --benchmark-enable -s

The two take turns, so that other load on the machine falls on both alike; the median step of each counts.
"""

import statistics
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from rich.console import Console
from torch.nn import functional

from augment.labels import mix_targets, soft_targets
from augment.mixing import mix_images
from vision_train.data.toy.folder import make_image_folder
from vision_train.ema import AverageWeights, MovingAverage
from vision_train.metrics_log import MetricsLog
from vision_train.optim import build_optimizer, build_schedule
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.checkpointing import RandomState
from vision_train.run.meter import Meter
from vision_train.run.phase import prepare, scan
from vision_train.run.progress import ProgressDisplay
from vision_train.run.steps import count_steps, tell
from vision_train.run.trainer import build_trainer

pytestmark = pytest.mark.usefixtures("all_threads")


class Clock(Callback):
    """Notes when each step ends."""

    def __init__(self) -> None:
        self.marks: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        self.marks.append(time.perf_counter())


def median_step(marks: list[float]) -> float:
    """Median seconds between the ends of two steps, the first few left out."""
    return statistics.median(after - before for before, after in pairwise(marks[2:]))


def ours(recipe: Recipe, folder: Path) -> float:
    """Seconds of a step as ``fit`` takes it, saving and validation aside."""
    prepared = prepare(scan(recipe))
    clock, meter = Clock(), Meter("fit", MetricsLog(folder / "metrics.jsonl"), recipe.run.on_nan)
    average = [AverageWeights(recipe.optim.ema.share_kept)] if recipe.optim.ema else []
    display = ProgressDisplay(meter, recipe, Console(quiet=True))
    callbacks = [RandomState(recipe.seed), *average, meter, display, clock]
    trainer = build_trainer(recipe, callbacks, folder, limit_val_batches=0, enable_checkpointing=False)
    tell(prepared.task, prepared.data, count_steps(prepared.recipe, prepared.data, trainer))
    trainer.fit(prepared.task, datamodule=prepared.data)
    return median_step(clock.marks)


def by_hand(recipe: Recipe) -> float:
    """Seconds of a step of the shortest loop that trains the same."""
    prepared = prepare(scan(recipe))
    network, classes = prepared.task.network, len(prepared.data.classes)
    prepared.task.on_fit_start()
    mixer = prepared.task.mixing.mixer  # type: ignore[attr-defined]
    optimizer = build_optimizer(network, recipe.optim, effective_batch=recipe.data.batch_size)
    schedule = build_schedule(optimizer, recipe.optim, total_steps=1000, steps_per_epoch=100)
    average = MovingAverage(network, recipe.optim.ema.share_kept) if recipe.optim.ema else None
    network.train()
    loader, marks = prepared.data.train_dataloader(), []
    for epoch in range(recipe.trainer["max_epochs"]):
        loader.batch_sampler.set_epoch(epoch)
        for step, batch in enumerate(loader):
            if step == recipe.trainer.get("limit_train_batches"):
                break
            images, targets = batch["image"], soft_targets(batch["label"], classes, recipe.method.label_smoothing)
            mix = mixer.draw(len(images), *images.shape[-2:])
            if mix is not None:
                images, targets = mix_images(images, mix), mix_targets(targets, mix.partner, mix.share)
            optimizer.zero_grad()
            functional.cross_entropy(network(images), targets).backward()
            if clip := recipe.trainer.get("gradient_clip_val"):
                torch.nn.utils.clip_grad_norm_(network.parameters(), clip)
            optimizer.step()
            schedule.step()
            if average:
                average.update(network)
            marks.append(time.perf_counter())
    return median_step(marks)


def compare(benchmark: Any, recipe: Recipe, folder: Path, rounds: int) -> None:
    seconds: dict[str, list[float]] = {"ours": [], "by hand": []}
    benchmark.pedantic(
        lambda: seconds["ours"].append(ours(recipe, folder)),
        setup=lambda: seconds["by hand"].append(by_hand(recipe)),
        rounds=rounds,
    )
    ratios = [mine / theirs for mine, theirs in zip(seconds["ours"], seconds["by hand"], strict=True)]
    benchmark.extra_info["ratio"] = statistics.median(ratios)
    print()
    for name, values in seconds.items():
        print(f"{name:8} {1000 * statistics.median(values):8.1f} ms a step, median of {rounds} rounds")
    print(f"ratio    {statistics.median(ratios):.3f} (rounds: {', '.join(f'{ratio:.3f}' for ratio in ratios)})")


def test_quickstart_step(benchmark: Any, tmp_path: Path) -> None:
    recipe = load_recipe("quickstart", ["trainer.max_epochs=2", "augment.mixing.labels=area"])
    compare(benchmark, recipe, tmp_path, rounds=5)


def test_vit_small_step_at_batch_8(benchmark: Any, tmp_path: Path) -> None:
    images = tmp_path / "images"
    make_image_folder(images, classes=2, per_class=64, size=(256, 256))
    options = [f"data.root={images}", "data.batch_size=8", "data.workers=0", "trainer.accelerator=cpu"]
    limits = ["trainer.max_epochs=1", "trainer.limit_train_batches=8", "trainer.log_every_n_steps=1"]
    compare(benchmark, load_recipe("classification/vit_small", [*options, *limits]), tmp_path, rounds=3)
