"""Reads an expression about a drawn scene and finds what it means, without knowing how it was made.

Expressions come from :mod:`vision_train.data.toy.referring`; two programs that agree on every one of them are less
likely to be wrong than one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from vision_train.data.toy.things import COLOURS, SHAPES, SIZES, Thing

LEAST_GAP = 5.0
"""The first thing from the left or right is so many pixels before the next one, from centre to centre, or nobody can
tell which of them is meant."""
_GRAMMAR = re.compile(
    r"(?:the )?(?:(?P<side>left|right)most )?"
    rf"(?:(?P<size>{'|'.join(SIZES)}) )?(?:(?P<colour>{'|'.join(COLOURS)}) )?(?P<shape>{'|'.join(SHAPES)})"
)


def resolve(text: str, things: Sequence[Thing]) -> list[int]:
    """The places of the things that an expression may mean: one where it is clear, none where it is no expression."""
    said = _GRAMMAR.fullmatch(text)
    if said is None:
        return []
    fitting = [
        place
        for place, thing in enumerate(things)
        if all(said[key] in (None, getattr(thing, key)) for key in ("size", "colour", "shape"))
    ]
    if said["side"] is None or not fitting:
        return fitting
    sign = 1 if said["side"] == "left" else -1
    order = {place: sign * (things[place].box[0] + things[place].box[2]) / 2 for place in fitting}
    return [place for place in fitting if order[place] - min(order.values()) < LEAST_GAP]
