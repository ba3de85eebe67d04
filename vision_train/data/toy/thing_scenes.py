"""The things of the scenes with expressions, with their boxes and without a word: what a visual network warms up on.

Such a network names the things of a picture before it is asked about them, as one does that was trained to detect. The
pictures are of the kind of :mod:`vision_train.data.toy.referring`, drawn from seeds of their own.
"""

from __future__ import annotations

from functools import cache
from itertools import product

from numpy.random import RandomState

from vision_train.data.toy.referring import draw_things
from vision_train.data.toy.scenes import Scene
from vision_train.data.toy.things import COLOURS, SHAPES, SIZES, Thing

COUNTS = {"train": 3000, "val": 200, "test": 200}
"""Pictures of each split."""
LABELS = tuple(" ".join(words) for words in product(SIZES, COLOURS, SHAPES))
"""The classes, such as `small red circle`."""
_FIRST_SEED, _SEEDS = 1_000_000, 100_000
"""Behind those of the pictures with expressions; how far those of two splits lie apart."""


@cache
def thing_scenes() -> tuple[Scene, ...]:
    """Draw all pictures, once in a process: it takes seconds."""
    return tuple(
        _scene(split, number, RandomState(_FIRST_SEED + _SEEDS * place + number))
        for place, (split, count) in enumerate(COUNTS.items())
        for number in range(count)
    )


def label_of(thing: Thing) -> str:
    """The class of a thing: its size, colour and shape."""
    return f"{thing.size} {thing.colour} {thing.shape}"


def _scene(split: str, number: int, random: RandomState) -> Scene:
    pixels, things = draw_things(random)
    boxes, labels = tuple(thing.box for thing in things), tuple(label_of(thing) for thing in things)
    return Scene(f"{split}_{number:04d}", split, pixels, boxes, labels)
