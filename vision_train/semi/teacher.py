"""How fast a teacher follows its student, and when it begins to teach."""

from __future__ import annotations

import math
from typing import Literal

Start = Literal["scratch", "other classes", "same classes"]
"""What a network knows at the first step: nothing, something else, or the classes that it is trained on."""

LONGEST_HALF_LIFE = 693
"""Updates after which an average with a decay of 0.999 has forgotten half."""
HALF_LIFE_SHARE = 0.1
BURN_IN_SHARES: dict[Start, float] = {"scratch": 0.25, "other classes": 0.5, "same classes": 0.0}
"""What training starts from -> share of the optimiser steps that learn from labelled images alone."""
STARTS: dict[Start, str] = {
    "scratch": "from random weights",
    "other classes": "from weights for other classes",
    "same classes": "from weights that know these classes",
}
"""What training starts from, in words."""


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


def burn_in_steps(share: float | None, start: Start, steps: int, steps_per_epoch: int) -> int:
    """The same in whole epochs, where these leave the pool some steps.

    Args:
        share: Of the steps; None takes the default.
        start: What training starts from.
        steps: Of the whole run.
        steps_per_epoch: Those of an epoch.
    """
    wanted = default_burn_in(steps, start) if share is None else share * steps
    whole = math.ceil(wanted / steps_per_epoch - 1e-9) * steps_per_epoch
    return whole if whole < steps else math.ceil(wanted - 1e-9)


def burn_in_key(share: float | None, start: Start) -> str:
    """What ``semi.burn_in`` says, with the reason for a default.

    Args:
        share: Its value.
        start: What training starts from.
    """
    if share is not None:
        return f"semi.burn_in={share:g}"
    return f"semi.burn_in=null: {BURN_IN_SHARES[start]:g} of the steps {STARTS[start]}"


def pool_in_words(share: float | None, start: Start, steps: int, steps_per_epoch: int, noun: str) -> str:
    """When a pool is used, and why then, as the end of a sentence.

    Args:
        share: As for :func:`burn_in_steps`.
        start: What training starts from.
        steps: Of the whole run.
        steps_per_epoch: Those of an epoch.
        noun: What the samples are, in the plural.
    """
    burn_in, why = burn_in_steps(share, start, steps, steps_per_epoch), burn_in_key(share, start)
    if burn_in >= steps:
        return f"never used, for all {steps:,} steps are on labelled {noun} alone ({why}); lower semi.burn_in"
    if not burn_in:
        return f"used from the first step ({why})"
    epoch, within = burn_in // steps_per_epoch + 1, " within" if burn_in % steps_per_epoch else ""
    return f"used from{within} epoch {epoch} on, after {burn_in:,} of {steps:,} steps on labelled {noun} alone ({why})"


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
