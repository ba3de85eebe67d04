"""A classifier's step on labelled images and a pool: who gets a gradient.

Items are those of the specification of learning from unlabelled images.
"""

import pytest
import torch

from vision_train.ema import MovingAverage
from vision_train.recipe import load_recipe
from vision_train.recipe.semi_section import IN_STEPS
from vision_train.tasks.classification.task import ClassificationTask, build

IMAGES = 4


def task_of(method: str, monkeypatch: pytest.MonkeyPatch) -> ClassificationTask:
    """A task amid its training, whose teacher is surer than it is."""
    keys = [f"semi.method={method}", "semi.threshold=0.1", "method.label_smoothing=0", "semi.fairness=0.5"]
    task = build(load_recipe("semi/digits", keys, smoke=True), [*"0123456789"])
    average = MovingAverage(task.network, 0.9)
    monkeypatch.setattr(ClassificationTask, "average", property(lambda self: average))
    monkeypatch.setattr(ClassificationTask, "global_step", property(lambda self: 5))
    assert task.teaching is not None
    task.teaching.burn_in, task.steps_per_epoch, task.teaching.total_steps = 0, 1, 10
    return task


@pytest.mark.parametrize("method", IN_STEPS)
def test_item_4_no_gradient_reaches_teacher_or_weak_view(method, monkeypatch):
    task = task_of(method, monkeypatch)
    side = task.recipe.data.image_size
    weak, strong, image = torch.randn(3, IMAGES, 3, side, side)
    batch = {
        "labelled": {"image": image, "label": torch.arange(IMAGES)},
        "unlabelled": {"weak": {"image": weak.requires_grad_()}, "strong": {"image": strong.requires_grad_()}},
    }
    before = {name: value.clone() for name, value in task.average.weights.items()}
    task.seed_generators(0)
    task.train()
    task.training_step(batch, 0).backward()
    assert strong.grad.abs().sum() > 0, "else the test shows nothing"
    assert weak.grad is None
    assert all(parameter.grad is None for parameter in task.average.parameters())
    assert not any(module.training for module in task.average.network.modules())
    assert all(torch.equal(value, before[name]) for name, value in task.average.weights.items())
