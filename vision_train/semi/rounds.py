"""How many rounds of retraining there are, how long each is, and how many pseudo labels it may take.

That rounds of selecting and retraining follow a burn-in on the labels is published of ACTRESS; every number is our
choice.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

ROUNDS = 4
"""Our default, T."""
MOST = 0.8
"""Our default of the largest share of the pool that is ever taken."""


class Round(NamedTuple):
    """A round of retraining, or the burn-in before the first."""

    number: int
    """From 1 on; 0 is the burn-in, on labels alone."""
    steps: int
    budget: int
    """The most pseudo labels that may be selected for it."""


def budget(number: int, rounds: int, pool: int, most: float = MOST, stayed: int = 0) -> int:
    """``n_r = floor(U rho_max min(1, r / T))``, exactly, whatever the decimals of ``rho_max`` are in binary.

    Args:
        number: The round, r; 0 takes nothing.
        rounds: T.
        pool: Unlabelled samples, U.
        most: ``rho_max``, in (0, 1].
        stayed: Samples of earlier rounds that stay, and count; 0 where each round selects anew.

    Returns:
        The most that may be selected in this round.
    """
    share = Fraction(str(most)) * min(Fraction(1), Fraction(number, rounds))
    return max(0, math.floor(pool * share) - stayed)


def schedule_rounds(steps: int, pool: int, *, burn_in: int, rounds: int = ROUNDS, most: float = MOST) -> list[Round]:
    """Divide the optimiser steps of a run into a burn-in and rounds of equal length.

    Steps that do not divide go to the last rounds, one to each. A labelled-only run with the same phases is the same
    schedule with a pool of 0.

    Args:
        steps: Of the whole run.
        pool: Unlabelled samples.
        burn_in: Steps on labels alone; 0 where training starts from a run of the same classes.
        rounds: At least 1.
        most: As for :func:`budget`.

    Returns:
        The burn-in, unless it has no steps, and the rounds.

    Raises:
        ValueError: A round would have no step, or the share is not in (0, 1].
    """
    if not 0 < most <= 1:
        raise ValueError(f"rounds take a share of the pool in (0, 1], got {most}")
    if burn_in < 0 or rounds < 1 or steps - burn_in < rounds:
        raise ValueError(
            f"{steps} steps cannot be divided into a burn-in of {burn_in} and {rounds} rounds of a step or more"
        )
    length, rest = divmod(steps - burn_in, rounds)
    lengths = [length + (number > rounds - rest) for number in range(1, rounds + 1)]
    first = [Round(0, burn_in, 0)] if burn_in else []
    return first + [Round(number, each, budget(number, rounds, pool, most)) for number, each in enumerate(lengths, 1)]


def check_restarts(schedule: Sequence[Round]) -> None:
    """Refuse rounds that are too short to re-initialise a network in.

    In our prototypes on digits, re-initialisation in shorter rounds than burn-in lost accuracy, without a pool too.

    Args:
        schedule: As :func:`schedule_rounds` returns it; one without a burn-in says nothing of how long training takes.

    Raises:
        ValueError: A round is shorter than the burn-in.
    """
    burn_in = max((each.steps for each in schedule if each.number == 0), default=0)
    shortest = min(each.steps for each in schedule)
    if shortest < burn_in:
        raise ValueError(
            f"rounds of {shortest} steps are shorter than the burn-in of {burn_in}: what is re-initialised would not "
            "be trained to the end; have fewer rounds, more steps, or re-initialise nothing"
        )
