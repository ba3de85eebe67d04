"""What is measured of bags, and the learning rate of the shipped protocol, against what official code computes."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from vision_train.optim import build_optimizer, build_schedule
from vision_train.recipe import load_recipe
from vision_train.tasks.bags import scores

GOLDEN = Path(__file__).parents[1] / "golden" / "acmil"
OFFICIAL = json.loads((GOLDEN / "metrics.json").read_text())


def test_item_9_metrics_are_the_official_ones():
    golden, expected = load_file(GOLDEN / "metrics.safetensors"), OFFICIAL["metrics"]
    probabilities, labels = golden["probs"], golden["labels"]
    fields = torch.full((len(labels), len(scores.FIELDS)), torch.nan, dtype=torch.float64)
    fields[:, 0] = labels
    found = scores.metrics(scores.Scores([str(index) for index in range(len(labels))], fields, probabilities))
    assert found["auroc"] == pytest.approx(expected["auroc_official"], abs=1e-6)
    assert found["f1"] == pytest.approx(expected["f1_macro"], abs=1e-6)
    assert found["f1_and_auroc"] == found["f1"] + found["auroc"]
    # Micro F1, which official code reports as F1, is the accuracy by another name.
    assert found["accuracy"] == pytest.approx(expected["accuracy"], abs=1e-6)
    assert found["accuracy"] == pytest.approx(expected["f1_official"], abs=1e-6)


@pytest.mark.parametrize("sample", OFFICIAL["schedule"], ids=lambda s: f"{s['epoch']}-warm-up-{s['warmup']}")
def test_item_9_schedule_is_the_official_one(sample):
    """Stepped per bag, on 100 bags an epoch, from the shipped protocol for slides."""
    overrides = [f"optim.warmup_epochs={sample['warmup']}", f"optim.min_lr={sample['min_lr']}"]
    recipe = load_recipe("acmil/slides", overrides, runnable=False)
    assert recipe.data.batch_size == 1
    optimizer = build_optimizer(torch.nn.Linear(1, 1), recipe.optim, effective_batch=1)
    schedule = build_schedule(optimizer, recipe.optim, total_steps=50 * 100, steps_per_epoch=100)
    found = recipe.optim.lr * schedule.lr_lambdas[0](round(sample["epoch"] * 100))
    assert found == pytest.approx(sample["lr"], rel=1e-6, abs=1e-15)


def test_entropy_and_mass_of_the_ten_hottest():
    attention = torch.zeros(4, 40)
    attention[0, 3] = 1  # of 40 instances
    attention[1] = 1 / 40
    attention[2, :5] = 1 / 5  # all five of a padded bag
    attention[3, 0] = 1  # the only one
    entropy, top = scores.attention_figures(attention, torch.tensor([40, 40, 5, 1]))
    torch.testing.assert_close(entropy, torch.tensor([0, 1, 1, 0], dtype=torch.float64))
    torch.testing.assert_close(top, torch.tensor([1, 0.25, 1, 1], dtype=torch.float64))


def test_auroc_of_one_class_alone_is_not_known():
    rows = torch.tensor([[0, 0.1, 5, 1, 1]] * 3, dtype=torch.float64)
    found = scores.metrics(scores.Scores(["a", "b", "c"], rows, torch.tensor([[0.9, 0.1]] * 3)))
    assert math.isnan(found["auroc"])
    assert found["accuracy"] == 1


def test_classes_that_do_not_occur_are_left_out_of_auroc():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert scores.macro_auroc(probabilities, torch.tensor([0, 1, 0])) == 1
