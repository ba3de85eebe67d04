"""Per-sample pipelines for images with an expression and the box that it means.

The steps are TransVG's: small letters, random scale or crop, colours, blur, flip, and a square with padding around the
image. Three things are mended that its code does otherwise: a crop keeps at least half of the box, left and right
change places as whole words, and boxes follow the true ratio of sizes, on each axis by itself. An image is resampled
once, crop and scale together.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageEnhance

from augment.detection import BLUR, Channels, RandomPart, Rectangle, blurred, normalised, random_part, resize_part
from augment.geometry import Boxes, Pixels, View, clip_boxes, horizontal_flip, map_boxes, moved, translation

DIRECTIONS = re.compile(r"\b(?:(?:left|right)(?:most|hand)?|(?:top|bottom)(?:most)?|middle)\b", re.IGNORECASE)
"""Words that a crop would make wrong."""
LEAST_KEPT = 0.5
"""Smallest intersection over union of what a crop keeps of the box and the whole box (VLTVG's rule)."""
TRIES = 20
"""So many crops are drawn before the image is taken whole."""
COLOURED = 0.8
"""Share of the images whose colours change."""
_COLOURS = (ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color)


class Square(NamedTuple):
    """An image somewhere in a square."""

    view: View[torch.Tensor]
    """Normalised, 3 S S float32, 0 on padding; affine and boxes are those of the square."""
    padding_mask: torch.Tensor
    """S S, True on padding."""


@dataclass(frozen=True)
class GroundingTraining:
    """One training image; the same view and seed give the same result in any process.

    Attributes:
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations for pixels in [0, 1].
        side: Of the square, in pixels.
        scales: Long sides of the image, of which one is drawn; none is longer than ``side``.
        part: What is cropped, of images with a box whose text names no direction; None for nothing.
        flip: Probability of mirroring left and right.
        color_jitter: Brightness, contrast and saturation are each multiplied by up to 1 ± this, in a random order.
        blur: Probability of blurring.
        shift: Whether the image lies at a random place of the square; else in the middle.
    """

    mean: Channels
    std: Channels
    side: int
    scales: Sequence[int]
    part: RandomPart | None = None
    flip: float = 0.0
    color_jitter: float = 0.0
    blur: float = 0.0
    shift: bool = False

    def __call__(self, view: View[Pixels], seed: int) -> Square:
        """H W 3 pixels, with a box and a text where there are any -> a square."""
        random = np.random.default_rng(seed)
        view = in_small_letters(view)
        size = view.image.shape[:2]
        rectangle: Rectangle = (0, 0, size[1], size[0])
        if self.part is not None and _may_be_cropped(view) and random.random() < self.part.probability:
            rectangle, size = part_with(view.boxes, size, self.part, random)
        view = resize_part(view, rectangle, longest_side(size, self.scales[int(random.integers(len(self.scales)))]))
        image = view.image
        if self.color_jitter and random.random() < COLOURED:
            order = random.permutation(len(_COLOURS)).tolist()
            image = recoloured(image, order, random.uniform(1 - self.color_jitter, 1 + self.color_jitter, 3).tolist())
        if self.blur and random.random() < self.blur:
            image = blurred(image, random.uniform(*BLUR))
        view = View(image, view.affine, view.boxes, view.text)
        if random.random() < self.flip:
            view = horizontal_flip(view)
        gaps = [self.side - each for each in view.image.shape[:2]]
        top, left = (int(random.integers(gap, endpoint=True)) if self.shift else centred(gap) for gap in gaps)
        return squared(view, self.side, left, top, self.mean, self.std)


@dataclass(frozen=True)
class GroundingEvaluation:
    """One evaluation image: as large as the square allows, and in the middle of it.

    Attributes:
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations for pixels in [0, 1].
        side: Of the square, in pixels.
    """

    mean: Channels
    std: Channels
    side: int

    def __call__(self, view: View[Pixels], seed: int = 0) -> Square:
        """H W 3 pixels, with a box and a text where there are any -> a square; ``seed`` is not used."""
        view = in_small_letters(view)
        rows, columns = view.image.shape[:2]
        view = resize_part(view, (0, 0, columns, rows), longest_side((rows, columns), self.side))
        top, left = (centred(self.side - each) for each in view.image.shape[:2])
        return squared(view, self.side, left, top, self.mean, self.std)


def in_small_letters(view: View[Pixels]) -> View[Pixels]:
    """The view with its text in small letters, as texts are read."""
    return View(view.image, view.affine, view.boxes, None if view.text is None else view.text.lower())


def names_direction(text: str) -> bool:
    """Whether a text says where in the image something is, in a word that a crop would make wrong."""
    return DIRECTIONS.search(text) is not None


def longest_side(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Height and width of an image that is resized to a long side; rounded."""
    height, width = (max(1, round(each * side / max(size))) for each in size)
    return height, width


def part_with(
    boxes: Boxes | None, size: tuple[int, int], part: RandomPart, random: np.random.Generator
) -> tuple[Rectangle, tuple[int, int]]:
    """Draw a part of an image that keeps at least :data:`LEAST_KEPT` of each box; the whole image where none does.

    Returns:
        As :func:`augment.detection.random_part`.
    """
    assert boxes is not None, "without a box nobody knows what a crop may leave out"
    for _ in range(TRIES):
        rectangle, taken = random_part(size, part, random)
        if kept_shares(boxes, rectangle).min() >= LEAST_KEPT:
            return rectangle, taken
    return (0, 0, size[1], size[0]), size


def kept_shares(boxes: Boxes, rectangle: Rectangle) -> NDArray[np.float64]:
    """The share of its area that each box (n 4) has inside a rectangle of the image (n)."""
    left, top, right, bottom = rectangle
    inside = map_boxes(boxes, translation(-left, -top))
    return clip_boxes(inside, (bottom - top, right - left))[1]


def recoloured(image: Pixels, order: Sequence[int], factors: Sequence[float]) -> Pixels:
    """Multiply brightness (0), contrast (1) and saturation (2), one after the other, by Pillow's rules.

    Args:
        image: H W 3.
        order: What is changed first, second and third.
        factors: By how much, in that order.
    """
    picture = Image.fromarray(image)
    for place, factor in zip(order, factors, strict=True):
        picture = _COLOURS[place](picture).enhance(factor)
    return np.array(picture)


def centred(gap: int) -> int:
    """Where an image begins in the middle of a square that is longer by ``gap``; of an odd gap the smaller half."""
    return round(gap / 2 - 0.1)


def squared(view: View[Pixels], side: int, left: int, top: int, mean: Channels, std: Channels) -> Square:
    """Normalise an image and put it into a square of zeros, with its upper left corner at (left, top)."""
    rows, columns = view.image.shape[:2]
    image = torch.zeros(3, side, side)
    padding_mask = torch.ones(side, side, dtype=torch.bool)
    image[:, top : top + rows, left : left + columns] = normalised(view.image, mean, std)
    padding_mask[top : top + rows, left : left + columns] = False
    return Square(moved(view, image, translation(left, top), (side, side)), padding_mask)


def _may_be_cropped(view: View[Pixels]) -> bool:
    has_box = view.boxes is not None and len(view.boxes) > 0
    return has_box and not (view.text is not None and names_direction(view.text))
