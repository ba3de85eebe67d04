"""Warnings about training on bags: said where something went wrong, with the keys that help, and not otherwise."""

import math

import pytest
import torch

from vision_train.recipe import load_recipe
from vision_train.tasks.bags.collapse import warnings_of
from vision_train.tasks.bags.scores import FIELDS, fields, score_batch
from vision_train.tasks.bags.task import build
from vision_train.tasks.learning import Learnt
from vision_train.tasks.scores import Scores

OFFICIAL = "studies/acmil/digit_bags_official"


def learnt(loss: float, labels: tuple[int, ...] = (0, 1), classes: int = 2) -> Learnt:
    """An epoch of bags that come one by one."""
    epoch = Learnt(classes)
    for label in labels:
        epoch.add(torch.tensor(loss), torch.tensor([label]))
    return epoch


def attended(rests_on: float, instances: int = 100, bags: int = 5) -> Scores:
    """Bags whose attention is spread over as many instances, evenly."""
    rows = torch.full((bags, len(FIELDS) + 2), math.nan, dtype=torch.float64)
    rows[:, FIELDS.index("instances")] = instances
    rows[:, FIELDS.index("attention_entropy")] = math.log(rests_on) / math.log(instances)
    rows[:, len(FIELDS) :] = 0.5
    return Scores([str(bag) for bag in range(bags)], fields(2), rows, {})


def said(epoch: Learnt, scores: Scores, *overrides: str, recipe: str = OFFICIAL) -> list[str]:
    return warnings_of(load_recipe(recipe, overrides), epoch, scores, "test")[0]


FINE, SPREAD = learnt(0.2), attended(30)


def test_nothing_is_said_where_all_is_well():
    assert said(FINE, SPREAD) == []


@pytest.mark.parametrize(
    ("overrides", "keys"),
    [
        (
            ["method.hiding={top_k: 10, drop_ratio: 0.6}"],
            ["hides up to 6 of", "k_max_fraction=0.02", "method.hiding=null"],
        ),
        (["method.hiding=null"], ["Raise optim.lr or trainer.max_epochs", "model.name=mean"]),
        (["method.hiding=null", "method.entropy_weight=0.1"], ["Lower method.entropy_weight, raise optim.lr"]),
    ],
)
def test_a_loss_of_guessing_names_the_keys_that_help(overrides, keys):
    (text,) = said(learnt(0.69), SPREAD, *overrides)
    assert text.startswith("the bag loss of the last epoch is 0.690, where guessing has 0.693: little was learnt")
    assert all(key in text for key in keys)


def test_guessing_depends_on_how_frequent_classes_are():
    labels = (0,) * 9 + (1,)
    assert learnt(0.3, labels).loss_of_guessing == pytest.approx(-0.9 * math.log(0.9) - 0.1 * math.log(0.1))
    assert said(learnt(0.32, labels), SPREAD)
    assert said(learnt(0.32, (0, 1)), SPREAD) == []
    assert learnt(1.0, (0, 1, 2), classes=3).loss_of_guessing == pytest.approx(math.log(3))


@pytest.mark.parametrize("epoch", [Learnt(2), learnt(0.1, labels=(1, 1))], ids=["nothing trained", "one class"])
def test_nothing_is_said_of_what_cannot_be_judged(epoch):
    assert said(epoch, SPREAD) == []


def test_losses_of_batches_are_averaged():
    epoch = Learnt(2)
    for loss in (1.0, 3.0):
        epoch.add(torch.tensor(loss), torch.tensor([0, 1]))
    assert epoch.loss == 2
    assert epoch.loss_of_guessing == pytest.approx(math.log(2))


def classified(right: int, sure: float = 0.9, bags: int = 80) -> Scores:
    """Bags of two classes by turns, so many of which are right; all others are taken for the other class."""
    rows = attended(30, bags=bags).rows
    rows[:, FIELDS.index("label")] = torch.arange(bags) % 2
    named = torch.arange(bags) % 2
    named[right:] = 1 - named[right:]
    rows[:, len(FIELDS) :] = torch.where(torch.arange(2) == named[:, None], sure, 1 - sure)
    return Scores([str(bag) for bag in range(bags)], fields(2), rows, {})


@pytest.mark.parametrize(("right", "guesses"), [(40, True), (44, True), (56, False)])
def test_bags_at_chance_are_guesses_by_the_rule_of_all_classifiers(right, guesses):
    scores, recipe = classified(right), load_recipe(OFFICIAL)
    texts, told = warnings_of(recipe, FINE, scores, "test")
    assert told is guesses
    assert ["80 bags cannot tell from guessing" in text for text in texts] == [True] * guesses
    (text,), told = warnings_of(recipe, learnt(0.69), scores, "test")
    assert told is guesses
    assert "little was learnt" in text
    assert "method.hiding.top_k" in text, "the remedy for bags"


def test_a_network_that_ranks_bags_well_but_names_one_class_does_not_guess():
    scores = classified(80, sure=0.6)
    shares = scores.rows[:, len(FIELDS) :]
    shares[:, 1] -= 0.35  # all are taken for the first class, and those of the second still have more of it
    shares[:, 0] += 0.35
    assert warnings_of(load_recipe(OFFICIAL), FINE, scores, "test") == ([], False)


@pytest.mark.parametrize(("above", "guesses"), [(30, False), (22, True)])
def test_ranks_of_bags_may_be_luck_by_how_many_there_are(above, guesses):
    """An AUROC of 0.75 and of 0.55; ranks at random of 80 bags seldom have more than 0.61."""
    scores = classified(80)
    second = torch.full((80,), 0.2, dtype=torch.float64)  # all bags are taken for the first class
    second[1::2] = torch.where(torch.arange(40) < above, 0.3, 0.1).double()
    scores.rows[:, len(FIELDS) :] = torch.stack([1 - second, second], dim=1)
    assert warnings_of(load_recipe(OFFICIAL), FINE, scores, "test")[1] is guesses


def test_attention_on_one_instance_is_pointed_out():
    (text,) = said(FINE, attended(1.0))
    assert text.startswith("attention rests on 1.0 instances in half of the bags or more")
    assert "raise method.entropy_weight (0.05), or model.args.branches" in text


@pytest.mark.parametrize(
    "scores", [attended(2.5), attended(1.0, instances=15), attended(math.nan), attended(1.0, bags=0)],
    ids=["on a few", "of small bags", "without attention", "without bags"],
)  # fmt: skip
def test_other_attention_is_left_alone(scores):
    assert said(FINE, scores) == []


def test_a_collapsed_network_is_told_by_its_own_scores():
    task = build(
        load_recipe("studies/acmil/digit_bags_abmil", ["data.feature_width=4", "model.args.width=8"]), ["a", "b"]
    )
    features, mask = torch.randn(3, 50, 4), torch.zeros(3, 50, dtype=torch.bool)
    texts = {}
    for scale in (1.0, 1e4):
        with torch.no_grad():
            task.network.get_parameter("attention.attention_weights.weight").mul_(scale)
            rows = score_batch(task.network.eval()(features), torch.tensor([0, 1, 0]), mask)
        told = said(FINE, Scores(["a", "b", "c"], fields(2), rows, {}))
        texts[scale] = [text for text in told if text.startswith("attention")]
    assert texts[1.0] == []
    assert "attention rests on 1." in texts[1e4][0]


def test_a_run_says_both():
    assert len(said(learnt(0.7), attended(1.0))) == 2
