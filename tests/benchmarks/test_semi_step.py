"""A step that learns from a pool, beside a supervised step with as many images that have a gradient; and scoring.

    pytest tests/benchmarks/test_semi_step.py --benchmark-enable -s

Processor time of one thread; the steps take turns, and the median of each counts. The aims are 1.35 times,
and for scoring under V views 1.1 (V + 1) predictions. Items are those of the specification of learning from
unlabelled images.
"""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vision_train.data.toy.folder import make_image_folder
from vision_train.ema import MovingAverage
from vision_train.optim import build_optimizer
from vision_train.recipe import load_recipe
from vision_train.run.phase import prepare, scan
from vision_train.tasks.classification.asked import answer
from vision_train.tasks.classification.task import ClassificationTask

BATCH, SIZE, STEPS = 16, 96, 15
MOST, MOST_OF_SCORING = 1.35, 1.1


class Alone(ClassificationTask):
    """The task without a Trainer: its average and the number of the step are given."""

    average = None  # type: ignore[assignment]
    global_step = None  # type: ignore[assignment]


def stepper(folder: Path, *overrides: str, batch: int) -> Callable[[], float]:
    """A training step on batches that are ready, without loader and Trainer; each call returns its seconds."""
    keys = [f"data.root={folder}", f"data.batch_size={batch}", f"data.image_size={SIZE}", "data.workers=0"]
    recipe = load_recipe("classification/vit_tiny", [*keys, *overrides])
    prepared = prepare(scan(recipe))
    task: Any = prepared.task
    task.__class__ = Alone
    task.total_steps, task.steps_per_epoch, task.class_counts = 1000, 10, [1] * len(task.classes)
    average = MovingAverage(task.network, 0.999)
    task.__dict__ |= {"average": average, "global_step": 0}  # not a part of it, as in a run
    if task.teaching is not None:
        task.teaching.begin(task)
    task.on_train_start()
    task.on_train_epoch_start()
    optimizer = build_optimizer(task.network, recipe.optim, effective_batch=batch)
    found = next(iter(prepared.data.train_dataloader()))
    ready = found[0] if isinstance(found, tuple) else found
    task.train()

    def step() -> float:
        before = time.process_time()
        loss: Tensor = task.training_step(ready, 0)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        average.update(task.network)
        task.__dict__["global_step"] += 1
        return time.process_time() - before

    return step


@pytest.mark.parametrize("method", ["mean_teacher", "freematch"])
def test_item_16_a_step_costs_at_most_1_35_supervised_steps_of_as_many_images(tmp_path, method):
    torch.set_num_threads(1)
    folder = tmp_path / "images"
    make_image_folder(folder, classes=4, per_class=24, size=(SIZE, SIZE))
    pool = [f"data.unlabelled={folder}", f"semi.method={method}", "semi.burn_in=0", "method.label_smoothing=0"]
    semi, supervised = stepper(folder, *pool, batch=BATCH), stepper(folder, batch=2 * BATCH)
    seconds: dict[str, list[float]] = {"semi": [], "supervised": []}
    for _ in range(STEPS):
        seconds["semi"].append(semi())
        seconds["supervised"].append(supervised())
    medians = {name: statistics.median(each[2:]) for name, each in seconds.items()}
    ratio = medians["semi"] / medians["supervised"]
    print(f"{method}: {medians['semi']:.3f} s beside {medians['supervised']:.3f} s, {ratio:.2f} times")
    assert ratio <= MOST


def test_asking_about_a_pool_under_v_views_beside_the_image_costs_as_many_predictions(tmp_path):
    torch.set_num_threads(1)
    make_image_folder(tmp_path / "images", classes=4, per_class=24, size=(SIZE, SIZE))
    keys = [f"data.root={tmp_path / 'images'}", f"data.image_size={SIZE}", "data.workers=0"]
    prepared = prepare(scan(load_recipe("classification/vit_tiny", keys)))
    network, views = prepared.task.network.eval(), [torch.randn(BATCH, 3, SIZE, SIZE) for _ in range(5)]
    names = [str(number) for number in range(BATCH)]

    def seconds(call: Callable[[], object]) -> float:
        before = time.process_time()
        with torch.inference_mode():
            call()
        return time.process_time() - before

    asked, predicted = [], []
    for _ in range(STEPS):
        asked.append(seconds(lambda: answer(network, names, views, {"confidence", "robustness"}, (0, 0))))
        predicted.append(seconds(lambda: network(views[0]).float().softmax(dim=1)))
    ratio = statistics.median(asked[2:]) / statistics.median(predicted[2:])
    print(f"five views: {ratio:.2f} times one prediction, {ratio / 5:.2f} times five")
    assert ratio <= 5 * MOST_OF_SCORING
