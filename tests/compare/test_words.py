import pytest

from vision_train.compare.comparison import Pair, compare_pairs
from vision_train.compare.statistics import Interval
from vision_train.compare.words import format_difference, format_interval, format_p, headline, sentence

FIRST = {0: 0.90, 1: 0.92, 2: 0.91, 3: 0.93}


def said(values: dict[int, float], metric: str = "test/accuracy", mode: str = "max", **pair) -> str:
    (comparison,) = compare_pairs([Pair("mixed", "plain", values, FIRST, **pair)], mode)
    return sentence(comparison, metric, 1)


def test_a_difference_is_told_with_its_interval_and_direction():
    text = said({0: 0.95, 1: 0.96, 2: 0.96, 3: 0.97})
    assert text.startswith("mixed is better than plain. Over 4 seeds the test accuracy differs by +4.50 points (95 % ")
    assert "mixed is ahead on 4 of them. No further seeds are needed to tell." in text


def test_of_a_loss_less_is_better():
    text = said({0: 0.95, 1: 0.96, 2: 0.965, 3: 0.97}, "test/loss", "min")
    assert text.startswith("mixed is worse than plain. Over 4 seeds the test loss differs by +0.04625 (95 % interval ")


def test_a_null_tells_what_it_would_take():
    text = said({0: 0.91, 1: 0.915, 2: 0.915, 3: 0.93})
    assert text.startswith("No measurable difference between mixed and plain.")
    assert "To tell one of this size would take about " in text
    assert " more seeds; 4 seeds find one of " in text


def test_a_difference_that_other_images_could_undo_says_so():
    import numpy as np

    items = np.array([1.0, -1.0, 1.0, -1.0, 1.0, 0.0])
    assert "But other test images of the same kind could undo it" in said(
        {0: 0.95, 1: 0.96, 2: 0.965, 3: 0.97}, item_differences=items
    )


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({0: 0.95}, "differs by +5.00 points on a single seed. With a single seed there is no interval"),
        ({0: 0.95, 1: 0.97, 2: 0.96}, "differs by +5.00 points on each of 3 seeds. That every seed"),
        (dict(FIRST), "No measurable difference between mixed and plain. The test accuracy is the same on each of 4"),
    ],
    ids=["one seed", "no spread", "equal"],
)
def test_what_cannot_be_tested_is_said(values, says):
    assert says in said(values)


def test_numbers_are_written_with_their_unit_once():
    def written(value: float) -> str:
        return format_difference("test/accuracy", value)

    assert format_interval(Interval(-0.012, 0.03), written) == "−1.20 to +3.00 points"
    assert format_interval(None, written) == "–"
    assert [format_p(p) for p in (None, 0.0004, 0.0123, 0.4)] == ["–", "< 0.001", "0.012", "0.40"]
    assert format_difference("test/loss", -0.5) == "−0.5"
    assert headline(compare_pairs([Pair("b", "a", {0: 1.0}, {0: 1.0})], "max")[0]) == "b and a: not tested"
