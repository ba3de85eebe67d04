"""A run delivers the round with the best validation score."""

import math
from pathlib import Path

import pytest

from vision_train.recipe.run_section import Select
from vision_train.run.delivery import delivered, delivery_in_words
from vision_train.run.plan import LAST, FinishedPhase

HIGHEST, LOWEST = Select(), Select(metric="val/accuracy", mode="min")


def finished(**accuracies: float) -> list[FinishedPhase]:
    """Phases under their names, with underscores for hyphens."""
    names = {name: name.replace("_", "-") for name in accuracies}
    return [FinishedPhase(names[name], Path(), {"val/accuracy": value}) for name, value in accuracies.items()]


@pytest.mark.parametrize(
    ("phases", "select", "name"),
    [
        (finished(burn_in=0.9, round_1=0.8, round_2=0.7, fit=0.6), HIGHEST, "round-1"),
        (finished(burn_in=0.1, round_1=0.8, round_2=0.2, fit=0.6), LOWEST, "round-2"),
        (finished(round_1=0.7, fit=0.7), HIGHEST, LAST),
        (finished(round_1=0.7, round_2=0.7, fit=0.6), HIGHEST, "round-2"),
        (finished(round_1=0.5, fit=math.nan), HIGHEST, "round-1"),
        (finished(round_1=math.nan, fit=math.nan), LOWEST, LAST),
    ],
)
def test_the_best_round_by_validation_and_of_equal_ones_the_latest(phases, select, name):
    assert delivered(phases, select).name == name


@pytest.mark.parametrize("before", ["pretrain", "burn_in", "voter_2"])
def test_what_is_no_round_never_takes_the_place_of_the_last_phase(before):
    assert delivered(finished(**{before: 0.9, "fit": 0.5}), HIGHEST).name == LAST


def test_a_choice_that_is_not_the_last_round_is_said_with_both_scores():
    (said,) = delivery_in_words(finished(burn_in=0.4, round_1=0.8, fit=0.6), HIGHEST)
    assert all(word in said for word in ("round-1", "0.8", "0.6", f"phases/{LAST}"))
    assert not delivery_in_words(finished(burn_in=0.4, round_1=0.5, fit=0.6), HIGHEST)
    assert not delivery_in_words(finished(burn_in=0.9, voter_2=0.9, fit=0.6), HIGHEST), "a vote has no rounds"


def test_a_burn_in_that_no_round_came_up_to_is_said_with_the_place_of_its_weights():
    (said,) = delivery_in_words(finished(burn_in=0.9, round_1=0.5, fit=0.6), HIGHEST)
    assert all(word in said for word in ("burn-in", "0.9", "0.6", "phases/burn-in/checkpoints/best.ckpt"))
