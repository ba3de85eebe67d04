"""A grounding network guesses if it does no better than one and the same box."""

import math

import numpy as np
import pytest

from vision_train.tasks.grounding.chance import chance_warnings
from vision_train.tasks.grounding.results import PhraseResult, Results

MIDDLE = (40.0, 40.0, 60.0, 60.0)


def expressions(right: float, images: int = 100, each: int = 2, spread: float = 40) -> Results:
    """Expressions of so many images, a share of which is found; all others get the middle box."""
    draw, found = np.random.default_rng(0), {}
    for number in range(images * each):
        left, top = draw.uniform(40 - spread, 40 + spread, 2).tolist()
        true = (left, top, left + 20, top + 20)
        box = true if number < right * images * each else MIDDLE
        found[f"{number:04d}"] = PhraseResult("circle", box, true, math.nan, f"{number % images}", (100, 100))
    return found


@pytest.mark.parametrize(("right", "guesses"), [(0.0, True), (0.02, True), (0.2, False), (1.0, False)])
def test_a_result_of_one_and_the_same_box_is_told(right, guesses):
    assert bool(chance_warnings(expressions(right), "test")) is guesses


def test_the_commonest_of_several_places_is_guessing_too():
    """The middle one of boxes at the left, at the right and between finds none of them."""
    left, right = (0.0, 40.0, 20.0, 60.0), (80.0, 40.0, 100.0, 60.0)
    found = {
        f"{number:03d}": PhraseResult("circle", left, left if number % 2 else right, math.nan, f"{number}", (100, 100))
        for number in range(100)
    }
    (text,) = chance_warnings(found, "test")
    assert "is 50.0 %" in text
    assert "(49.0 %)" in text


def test_images_are_counted_since_several_expressions_may_mean_one_object():
    assert not chance_warnings(expressions(0.06, images=1000), "test")
    assert chance_warnings(expressions(0.06, images=50, each=40), "test")


def test_the_message_has_both_figures_and_the_keys_that_help():
    (text,) = chance_warnings(expressions(0.0), "testA")
    assert "accuracy at IoU 0.5 on testA is" in text
    assert "200 expressions of 100 images cannot tell" in text
    assert all(key in text for key in ("optim.lr", "trainer.max_steps", "model.checkpoint"))


def test_boxes_that_are_all_alike_tell_nothing_whatever_the_result():
    (text,) = chance_warnings(expressions(1.0, spread=1), "test")
    assert "put more images, with objects in other places, into the split test" in text
    assert "optim.lr" not in text


def test_without_expressions_nothing_is_said():
    assert chance_warnings({}, "test") == []
