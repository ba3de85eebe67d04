"""Schedule of rounds: budgets to the sample, steps to the step."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vision_train.semi.rounds import Round, budget, check_restarts, schedule_rounds


def test_budgets_rise_to_four_fifths_of_the_pool():
    assert [budget(number, 5, 1000) for number in range(7)] == [0, 160, 320, 480, 640, 800, 800]
    assert [budget(number, 4, 1197) for number in range(1, 5)] == [239, 478, 718, 957]
    assert budget(1, 4, 3) == 0
    assert budget(4, 4, 0) == 0


def test_samples_that_stay_count_towards_a_budget():
    assert [budget(number, 4, 100, stayed=stayed) for number, stayed in ((1, 0), (2, 20), (3, 35), (4, 80))] == [
        20,
        20,
        25,
        0,
    ]


@pytest.mark.parametrize(("pool", "most"), [(1000, 0.57), (100, 0.29), (10, 0.7), (1000, 0.001)])
def test_budgets_are_exact_though_binary_numbers_are_not(pool, most):
    assert budget(1, 1, pool, most) == round(pool * most)


def test_steps_are_divided_into_burn_in_and_equal_rounds():
    schedule = schedule_rounds(722, 100, burn_in=180)
    assert schedule == [Round(0, 180, 0), Round(1, 135, 20), Round(2, 135, 40), Round(3, 136, 60), Round(4, 136, 80)]


def test_a_start_from_the_same_classes_needs_no_burn_in():
    assert schedule_rounds(10, 10, burn_in=0, rounds=2) == [Round(1, 5, 4), Round(2, 5, 8)]


def test_a_control_on_labels_alone_has_the_same_phases():
    schedule, control = (schedule_rounds(722, pool, burn_in=180) for pool in (100, 0))
    assert [each._replace(budget=0) for each in schedule] == control


@given(st.integers(1, 5000), st.integers(0, 3000), st.integers(1, 12), st.integers(0, 10**6))
def test_no_step_is_lost_and_no_budget_exceeds_the_pool(steps, burn_in, rounds, pool):
    if steps - burn_in < rounds:
        with pytest.raises(ValueError, match=f"{steps} steps"):
            schedule_rounds(steps, pool, burn_in=burn_in, rounds=rounds)
        return
    schedule = schedule_rounds(steps, pool, burn_in=burn_in, rounds=rounds)
    lengths = [each.steps for each in schedule if each.number]
    assert sum(each.steps for each in schedule) == steps
    assert max(lengths) - min(lengths) <= 1 <= min(lengths)
    budgets = [each.budget for each in schedule]
    assert budgets == sorted(budgets)
    assert budgets[-1] <= 0.8 * pool < budgets[-1] + 1


@pytest.mark.parametrize("wrong", [{"burn_in": -1}, {"rounds": 0}, {"most": 0.0}, {"most": 1.1}])
def test_an_impossible_schedule_is_refused(wrong):
    with pytest.raises(ValueError, match=str(next(iter(wrong.values())))):
        schedule_rounds(100, 10, **{"burn_in": 20, **wrong})


def test_rounds_shorter_than_burn_in_are_too_short_to_re_initialise():
    check_restarts(schedule_rounds(500, 10, burn_in=100))
    check_restarts(schedule_rounds(10, 10, burn_in=0))
    with pytest.raises(ValueError, match=r"99 steps.*100"):
        check_restarts(schedule_rounds(499, 10, burn_in=100))
