"""What is measured of bags, and the learning rate of the shipped protocol, against what official code computes."""

import json
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torchmetrics.functional.classification import binary_auroc, multiclass_auroc

from vision_train.optim import build_optimizer, build_schedule
from vision_train.recipe import load_recipe
from vision_train.tasks import auroc
from vision_train.tasks.bags import scores
from vision_train.tasks.scores import Scores

GOLDEN = Path(__file__).parents[1] / "golden" / "acmil"
OFFICIAL = json.loads((GOLDEN / "metrics.json").read_text())


def test_item_9_metrics_are_the_official_ones():
    golden, expected = load_file(GOLDEN / "metrics.safetensors"), OFFICIAL["metrics"]
    probabilities, labels = golden["probs"], golden["labels"]
    numbers = torch.full((len(labels), len(scores.FIELDS)), torch.nan, dtype=torch.float64)
    numbers[:, 0] = labels
    rows = torch.cat([numbers, probabilities.double()], dim=1)
    fields = scores.fields(probabilities.shape[1])
    found = scores.metrics(Scores([str(index) for index in range(len(labels))], fields, rows, {}))
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
    rows = torch.tensor([[0, 0.1, 5, 1, 1, 0.9, 0.1]] * 3, dtype=torch.float64)
    found = scores.metrics(Scores(["a", "b", "c"], scores.fields(2), rows, {}))
    assert math.isnan(found["auroc"])
    assert found["accuracy"] == 1


def test_classes_that_do_not_occur_are_left_out_of_auroc():
    probabilities = torch.tensor([[0.7, 0.2, 0.1], [0.2, 0.7, 0.1], [0.6, 0.3, 0.1]])
    assert auroc.macro_auroc(probabilities, torch.tensor([0, 1, 0])) == 1


@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_auroc_of_a_probability_that_is_no_number_is_not_known(odd):
    probabilities = torch.tensor([[0.7, 0.3], [0.2, 0.8], [odd, odd], [0.6, 0.4]])
    assert math.isnan(auroc.macro_auroc(probabilities, torch.tensor([0, 1, 0, 1])))


def scored_bags(bags: int, classes: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Labels, of which the first classes are rarer, and probabilities that know something of them."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.multinomial(torch.arange(1.0, classes + 1), bags, replacement=True, generator=generator)
    logits = torch.randn(bags, classes, dtype=torch.float64, generator=generator)
    logits[torch.arange(bags), labels] += 1
    return logits.softmax(dim=1), labels


@pytest.fixture
def in_float64():
    """Torchmetrics divides counts in the default type."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("in_float64")
class TestItemsOfAUROC:
    @pytest.mark.parametrize("steps", [None, 5], ids=["distinct", "ties"])
    @pytest.mark.parametrize("classes", [2, 3])
    def test_mean_is_torchmetrics_macro(self, classes, steps):
        probabilities, labels = scored_bags(60, classes)
        if steps:
            probabilities = (steps * probabilities).round() / steps
        expected = multiclass_auroc(probabilities, labels, num_classes=classes, average="macro").item()
        assert auroc.auroc_items(probabilities, labels).mean().item() == pytest.approx(expected, abs=1e-12)

    def test_mean_is_over_the_classes_that_occur(self):
        probabilities, labels = scored_bags(60, 3)
        probabilities, labels = probabilities[labels != 1], labels[labels != 1]
        each = [binary_auroc(probabilities[:, label], (labels == label).long()).item() for label in (0, 2)]
        expected = pytest.approx(sum(each) / 2, abs=1e-12)
        assert auroc.auroc_items(probabilities, labels).mean().item() == expected
        assert auroc.macro_auroc(probabilities, labels) == expected

    def test_variance_of_two_classes_is_delongs(self):
        """Their formula, pair by pair: S10 / positives + S01 / negatives."""
        probabilities, labels = scored_bags(80, 2)
        above, below = (probabilities[labels == label, 1] for label in (1, 0))
        pairs = (above[:, None] > below).double()
        of_positives, of_negatives = pairs.mean(dim=1), pairs.mean(dim=0)
        delong = of_positives.var(correction=0) / len(above) + of_negatives.var(correction=0) / len(below)
        items = auroc.auroc_items(probabilities, labels)
        assert (items.var(correction=0) / len(items)).item() == pytest.approx(delong.item(), rel=1e-12)

    @pytest.mark.parametrize("classes", [2, 3])
    def test_their_standard_error_is_the_spread_of_auroc_over_test_sets(self, classes):
        """Of the metric itself, on bags drawn afresh and on bags drawn again from the same ones."""
        probabilities, labels = scored_bags(200, classes)
        items = auroc.auroc_items(probabilities, labels)
        error = (items.std(correction=0) / math.sqrt(len(items))).item()
        fresh = [auroc.macro_auroc(*scored_bags(200, classes, seed)) for seed in range(1, 401)]
        generator = torch.Generator().manual_seed(0)
        drawn = (torch.randint(200, (200,), generator=generator) for _ in range(400))
        again = [auroc.macro_auroc(probabilities[bags], labels[bags]) for bags in drawn]
        for values in (fresh, again):
            assert torch.tensor(values).std().item() == pytest.approx(error, rel=0.15)
