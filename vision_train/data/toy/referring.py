"""Drawn scenes whose things are described in words: a grounding benchmark that a processor learns in minutes.

A picture of 48 x 48 pixels holds three or four circles, squares and triangles in four colours and two sizes, which do
not touch. Two expressions a picture mean one thing each, by its attributes (`the small red circle`) or by its place
among those that have them (`leftmost square`). In testA all are of the first kind, in testB of the second. All is drawn
from fixed seeds, and every expression is read again by :mod:`vision_train.data.toy.resolver`, which has to find the
same thing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np
from numpy.random import RandomState
from numpy.typing import NDArray

from vision_train.data.toy.resolver import LEAST_GAP, resolve
from vision_train.data.toy.scenes import Box, Scene
from vision_train.data.toy.shapes import shape_mask
from vision_train.data.toy.things import COLOURS, SHAPES, SIZES, Thing, attributes

COUNTS = {"train": 1500, "val": 250, "testA": 250, "testB": 250}
"""Pictures of each split."""
SIDE = 48
FEWEST, MOST = 3, 4
"""Things of a picture."""
PAINT = {"red": (205, 55, 55), "green": (60, 160, 70), "blue": (60, 85, 205), "yellow": (225, 190, 45)}
SIDES = {"small": (8, 11), "large": (14, 19)}
"""Smallest and largest width and height of a thing, in pixels."""
APART = 2
"""Pixels between things, at least."""
COLOUR_JITTER = 12
"""Each channel of a thing's colour is moved by up to so many grey levels."""
GRAIN = 6
"""Deviation of single pixels of the background, in grey levels."""
EXPRESSIONS = 2
"""Each picture has so many expressions."""
MOST_WORDS = 4
"""An expression has so many words at most: six tokens hold it with its start and end."""
TRIES = 100
"""So many places are drawn for a thing before the picture is begun anew."""


@dataclass(frozen=True, slots=True)
class Expression:
    """Words that mean one thing of a picture."""

    number: int
    """Counted over all pictures."""
    text: str
    thing: int
    """Place of what it means among the things."""


@dataclass(frozen=True, eq=False, slots=True)
class DescribedScene:
    """A picture, what is on it, and what is said about it."""

    scene: Scene
    things: tuple[Thing, ...]
    expressions: tuple[Expression, ...]

    @property
    def part(self) -> tuple[str, str]:
        """Its split, and the letters of the parts of the test that it belongs to."""
        split = self.scene.split
        return ("test", split.removeprefix("test")) if split.startswith("test") else (split, "")


@cache
def referring() -> tuple[DescribedScene, ...]:
    """Draw all pictures, once in a process: it takes seconds."""
    described: list[DescribedScene] = []
    for offset, (split, count) in enumerate(COUNTS.items(), start=1):
        for number in range(count):
            first = EXPRESSIONS * len(described) + 1
            described.append(_described(split, number, first, RandomState(40_000 * offset + number)))
    return tuple(described)


def draw_things(random: RandomState) -> tuple[NDArray[np.uint8], tuple[Thing, ...]]:
    """A picture (48 48 3) and what is on it."""
    while (placed := _places(random)) is None:
        pass
    level = random.uniform(205, 240)
    pixels = np.repeat(level + GRAIN * random.standard_normal((SIDE, SIDE, 1)), 3, axis=2)
    things = []
    for left, top, side, size in placed:
        colour, shape = COLOURS[random.randint(len(COLOURS))], SHAPES[random.randint(len(SHAPES))]
        mask = shape_mask(shape, left, top, side, SIDE)
        pixels[mask] = np.array(PAINT[colour]) + random.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3)
        things.append(Thing(colour, shape, size, _extent(mask)))
    return np.rint(pixels.clip(0, 255)).astype(np.uint8), tuple(things)


def _places(random: RandomState) -> list[tuple[int, int, int, str]] | None:
    """Left, top, side and size of things that lie apart; None where they found no room."""
    placed: list[tuple[int, int, int, str]] = []
    for _ in range(random.randint(FEWEST, MOST + 1)):
        size = SIZES[random.randint(len(SIZES))]
        smallest, largest = SIDES[size]
        side = random.randint(smallest, largest + 1)
        for _ in range(TRIES):
            left, top = random.randint(0, SIDE - side + 1, 2).tolist()
            if all(_are_apart((left, top, side), other[:3]) for other in placed):
                placed.append((left, top, side, size))
                break
        else:
            return None
    return placed


def _are_apart(one: tuple[int, int, int], other: tuple[int, int, int]) -> bool:
    left, top, side = one
    other_left, other_top, other_side = other
    across = max(left - other_left - other_side, other_left - left - side)
    down = max(top - other_top - other_side, other_top - top - side)
    return max(across, down) >= APART


def _extent(mask: NDArray[np.bool_]) -> Box:
    """Around the pixels that are drawn; the tip of a triangle may leave a row of its square empty."""
    rows, columns = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def _described(split: str, number: int, first: int, random: RandomState) -> DescribedScene:
    while True:
        pixels, things = draw_things(random)
        chosen = _choose(things, split, random)
        if chosen is not None:
            break
    boxes, labels = tuple(thing.box for thing in things), tuple(thing.shape for thing in things)
    scene = Scene(f"{split}_{number:04d}", split, pixels, boxes, labels)
    expressions = tuple(Expression(first + place, text, thing) for place, (text, thing) in enumerate(chosen))
    return DescribedScene(scene, things, expressions)


def _choose(things: Sequence[Thing], split: str, random: RandomState) -> list[tuple[str, int]] | None:
    """Two expressions with what they mean, of two things; None where there are not so many."""
    kinds = {"attributes": [*_by_attributes(things)], "place": [*_by_place(things)]}
    possible = {"testA": ("attributes",), "testB": ("place",)}.get(split, ("attributes", "place"))
    chosen: list[tuple[str, int]] = []
    for _ in range(EXPRESSIONS):
        kind = kinds[possible[random.randint(len(possible))]]
        left = [each for each in kind if each[1] not in {thing for _, thing in chosen}]
        if not left:
            return None
        words, thing = left[random.randint(len(left))]
        article = random.randint(2) and len(words.split()) < MOST_WORDS
        text = f"the {words}" if article else words
        if resolve(text, things) != [thing]:
            return None
        chosen.append((text, thing))
    return chosen


def _by_attributes(things: Sequence[Thing]) -> Iterator[tuple[str, int]]:
    """Words that one thing alone is described by, for each thing."""
    for place, thing in enumerate(things):
        for words in attributes(thing):
            if sum(words in attributes(other) for other in things) == 1:
                yield " ".join(words), place


def _by_place(things: Sequence[Thing]) -> Iterator[tuple[str, int]]:
    """Words for the first from the left or right of several things that are described alike."""
    described = dict.fromkeys(words for thing in things for words in attributes(thing))
    for words, side in product(described, ("leftmost", "rightmost")):
        alike = [place for place, thing in enumerate(things) if words in attributes(thing)]
        alike.sort(key=lambda place: things[place].centre[0], reverse=side == "rightmost")
        if len(alike) > 1 and abs(things[alike[0]].centre[0] - things[alike[1]].centre[0]) >= LEAST_GAP:
            yield " ".join((side, *words)), alike[0]
