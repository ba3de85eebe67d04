"""Which keys of `semi` a method uses, and what is said of the others."""

from dataclasses import fields
from typing import get_args

import pytest

from vision_train.recipe import load_recipe
from vision_train.recipe.semi_rounds import SemiRounds
from vision_train.recipe.semi_section import USED_BY, Semi, SemiMethod


def test_every_key_is_known_to_be_used_by_some_method_or_by_all():
    assert {each.name for each in fields(Semi)} - {"method", "ratio", "verdict"} == USED_BY.keys()
    assert {method for methods in USED_BY.values() for method in methods} <= {*get_args(SemiMethod)}


@pytest.mark.parametrize(
    ("semi", "told"),
    [
        (Semi("freematch", threshold=0.8), "semi.threshold=0.8"),
        (Semi("freematch", voters=3, class_cap=5), "semi.voters=3, semi.class_cap=5"),
        (Semi("mean_teacher", fairness=0.1), "semi.fairness=0.1"),
        (Semi("fixmatch", momentum=0.9), "semi.momentum=0.9"),
        (Semi("active_rounds", teacher="student"), "semi.teacher=student"),
        (Semi("softmatch", views=3), "semi.views=3"),
        (Semi("self_training", rounds=SemiRounds(count=2, most=0.5)), "semi.rounds.count=2, semi.rounds.most=0.5"),
        (Semi("self_training", rounds=SemiRounds(reinitialise={"a": "fresh"})), "semi.rounds.reinitialise"),
        (Semi("self_training", voters=["runs/a"], burn_in=0.5), "semi.burn_in=0.5"),
        (Semi("none", weight=2.0, burn_in=0.0), "semi.weight=2.0, semi.burn_in=0.0"),
    ],
)
def test_values_that_the_method_does_not_use_are_told_in_one_sentence(semi, told):
    assert semi.notes == [f"semi.method={semi.method} does not use {told}"]


@pytest.mark.parametrize("method", get_args(SemiMethod))
def test_nothing_is_said_of_defaults_and_of_what_is_used(method):
    own = {"fixmatch": {"threshold": 0.8}, "self_training": {"voters": 3, "class_cap": 9, "burn_in": 0.5, "views": 0}}
    assert Semi(method, ratio=2.0, **own.get(method, {})).notes == []


def test_a_recipe_that_changes_the_method_of_another_is_accepted():
    recipe = load_recipe("semi/digits_self_training", ["semi.method=freematch"])
    assert recipe.semi.notes == ["semi.method=freematch does not use semi.voters=3, semi.class_cap=100"]


@pytest.mark.parametrize("name", ["semi/digits", "semi/digits_rounds", "semi/shapes", "actress/referring"])
def test_recipes_that_others_start_from_set_nothing_idle(name):
    assert load_recipe(name).semi.notes == []
