"""What a pool is worth in labels.

Items are those of the specification of learning from unlabelled images.
"""

import numpy as np
import pytest

from vision_train.semi.worth import worth_in_labels, worth_sentence

COUNTS = [25, 50, 100]


def curve(exponent, seeds=10, noise=0.0, constant=2.0):
    generator = np.random.default_rng(0)
    wobble = np.exp(generator.normal(0, noise, size=(seeds, len(COUNTS))))
    return constant * np.power(COUNTS, -float(exponent)) * wobble


def error_at(count, exponent, seeds=10, constant=2.0):
    return [constant * count**-exponent] * seeds


@pytest.mark.parametrize("exponent", [0.5, 1.0])
@pytest.mark.parametrize("reached", [70, 110, 150])
def test_item_15_a_known_power_law_is_recovered(exponent, reached):
    found = worth_in_labels(COUNTS, curve(exponent, noise=0.02), error_at(reached, exponent), 100)
    assert found.more + 100 == pytest.approx(reached, rel=0.1)
    assert found.interval.low <= found.more <= found.interval.high
    exact = worth_in_labels(COUNTS, curve(exponent), error_at(reached, exponent), 100)
    assert exact.more == pytest.approx(reached - 100)


@pytest.mark.parametrize("flat", [curve(0.0, noise=0.05), curve(0.0), curve(-0.5)], ids=["noisy", "even", "rising"])
def test_item_15_a_flat_curve_says_so(flat):
    assert worth_in_labels(COUNTS, flat, error_at(100, 0.5), 100) is None
    assert "cannot be said: more labels did not lower the error" in worth_sentence(
        COUNTS, flat, error_at(100, 0.5), 100
    )
    assert "about 50 more" in worth_sentence(COUNTS, curve(0.5), error_at(150, 0.5), 100)


def test_a_curve_that_falls_for_some_seeds_only_says_nothing():
    errors = curve(0.5)
    assert worth_in_labels(COUNTS, errors, error_at(100, 0.5), 100) is not None
    errors[0] = [0.2, 0.2, 0.21]
    assert worth_in_labels(COUNTS, errors, error_at(100, 0.5), 100) is None


def test_beyond_twice_the_labels_no_number_is_claimed():
    found = worth_in_labels(COUNTS, curve(0.5), error_at(450, 0.5), 100)
    assert found.sentence == "The pool is worth more than 100 more labels (more than 100 to more than 100)."
    perfect = worth_in_labels(COUNTS, curve(0.5), [0.0] * 10, 100)
    assert perfect.sentence == found.sentence


@pytest.mark.filterwarnings("error")
def test_a_curve_that_hardly_falls_makes_any_gain_more_than_the_labels():
    found = worth_in_labels(COUNTS, curve(1e-4), error_at(150, 0.5), 100)
    assert found.sentence == "The pool is worth more than 100 more labels (more than 100 to more than 100)."


def test_one_seed_without_an_error_does_not_undo_the_others():
    reached = error_at(150, 0.5)
    reached[3] = 0.0
    found = worth_in_labels(COUNTS, curve(0.5), reached, 100)
    assert found.sentence == "The pool is worth about 50 more labels (50 to 50)."


def test_a_method_that_errs_more_costs_labels():
    found = worth_in_labels(COUNTS, curve(0.5), error_at(80, 0.5), 100)
    assert found.sentence == "The pool costs the worth of 20 labels (20 to 20)."


def test_an_error_of_zero_has_no_place_on_the_curve():
    errors = curve(0.5)
    errors[2, 2] = 0
    assert worth_in_labels(COUNTS, errors, error_at(100, 0.5), 100) is None


@pytest.mark.parametrize(
    ("counts", "errors", "reached"),
    [
        ([50], [[0.1], [0.1]], [0.1, 0.1]),
        ([25, 50], [[0.2, 0.1]], [0.1]),
        ([25, 50], [[0.2, 0.1]] * 2, [0.1] * 3),
    ],
)
def test_what_is_no_curve_is_refused(counts, errors, reached):
    with pytest.raises(ValueError, match="at least two"):
        worth_in_labels(counts, errors, reached, 50)
