"""How fast a teacher follows its student, and when it begins to teach."""

from __future__ import annotations

from typing import Literal

Start = Literal["scratch", "other classes", "same classes"]
"""What a network knows at the first step: nothing, something else, or the classes that it is trained on."""

LONGEST_HALF_LIFE = 693
"""Updates after which an average with a decay of 0.999 has forgotten half."""
HALF_LIFE_SHARE = 0.1
BURN_IN_SHARES: dict[Start, float] = {"scratch": 0.25, "other classes": 0.5, "same classes": 0.0}
"""What training starts from -> share of the optimiser steps that learn from labelled images alone."""


def half_life(steps: int) -> float:
    """Updates after which a teacher should have forgotten half of what it was: a tenth of the steps, at most 693.

    A decay that is fixed at 0.999 keeps half of the random start after 693 steps, all of a short run.

    Args:
        steps: Optimiser steps of the training, burn-in included, so that all arms of a comparison average alike; at
            least 1.
    """
    return min(LONGEST_HALF_LIFE, HALF_LIFE_SHARE * steps)


def decay_of(half_life: float) -> float:
    """Decay of a moving average that halves the share of old weights in so many updates: ``.5 ** (1 / h)``."""
    return 0.5 ** (1 / half_life)


def default_burn_in(steps: int, start: Start) -> int:
    """Optimiser steps on labelled images alone, before the pool is used.

    A network that knows nothing is at 1/C for all classes, the threshold that FreeMatch starts from: every label of it
    would be accepted.

    Args:
        steps: Of the whole run.
        start: What training starts from.
    """
    return int(BURN_IN_SHARES[start] * steps)


def check_burn_in(burn_in: int, start: Start) -> None:
    """Refuse a teacher that has never seen the classes it is to teach.

    Raises:
        ValueError: There is no burn-in, and the weights are for other classes.
    """
    if burn_in == 0 and start == "other classes":
        raise ValueError(
            "the starting weights are for other classes, so the teacher's first labels would mean nothing; leave the "
            "burn-in at its default, half of the steps, or start from a run of the same classes"
        )
