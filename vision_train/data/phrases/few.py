"""Splits of expressions, and drawing few of the images that they are about."""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random

from vision_train.data.divide import divide_images, drawn_order
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.splits import Splits, whole_split

PARTS = {"testA": "A", "testB": "B"}
"""Parts of the test, and the letters by which expressions belong to them."""


def divide_phrases(samples: Sequence[PhraseSample], section: Section) -> tuple[Splits, list[str]]:
    """Sort expressions into splits, and say what was cut; all expressions of an image stay together.

    Raises:
        UserError: There are too few images.
    """
    splits, notes = divide_images(samples, section)
    return splits | _parts(splits["test"]), notes


def one_split(samples: Sequence[PhraseSample], split: str) -> Splits:
    """Take one split as it is, cutting nothing; as :func:`vision_train.data.splits.whole_split`.

    Raises:
        UserError: The samples name splits, but not this one.
    """
    if split not in PARTS:
        return whole_split([*samples], split)
    inside = [sample for sample in samples if PARTS[split] in sample.letters]
    return {"train": [], "val": [], "test": [], split: inside or whole_split([*samples], split)[split]}


def _parts(test: Sequence[PhraseSample]) -> Splits:
    held = {part: [each for each in test if letter in each.letters] for part, letter in PARTS.items()}
    return {part: members for part, members in held.items() if members}


def few(train: Sequence[PhraseSample], section: Section, seed: int) -> list[PhraseSample]:
    """The expressions of the training images that ``share`` leaves: so many images, rounded down, at least one.

    More images with the same seed contain fewer, on every machine and in whatever order the expressions stand. As
    RefTeacher's code draws, with a seed of 0 and from the images in the order in which they come first, they do not.
    """
    if section.share == 1:
        return list(train)
    images = list(dict.fromkeys(sample.group or sample.id for sample in train))
    count = max(1, math.floor(section.share * len(images) + 1e-9))  # 0.1 of 30 is 3
    if section.drawn_as == "refteacher":
        kept = {*Random(0).sample(images, count)}  # noqa: S311  # nothing is secret; it is what that code draws
    else:
        images.sort()
        kept = {images[place] for place in drawn_order(len(images), seed, "share of images")[:count]}
    return [sample for sample in train if (sample.group or sample.id) in kept]
