"""Images for detection that are made of several: mosaics of four, blends of two, and of views those of MixPL.

A composed image takes the place of an original one: it has the height and width of the first image, and is augmented
as that would be. Each image in it keeps an exact affine and the rectangle that shows it, so that its boxes, and regions
of any other kind, can be followed.

Sources: mosaics are those of Bochkovskiy et al., "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020,
section 3.3: parts of four images fill the quadrants around a random centre. YOLOX and Ultralytics place whole images on
a canvas of twice the sides, partly grey, and cut from that. Blends are those of Zhang et al., "mixup: Beyond Empirical
Risk Minimization", ICLR 2018, as detectors use it: both images' boxes count fully, as in the code of YOLOX (which takes
the mean) and of Ultralytics (which draws the share from Beta(32, 32), as here). GluonCV, the code of "Bag of Freebies
for Training Object Detection Neural Networks" (Zhang et al., 2019), gives each box the share of its image as a weight.

Views that were augmented before are put together as Chen et al., "Mixed Pseudo Labels for Semi-Supervised Object
Detection" (MixPL), 2023, do: half-sums of two, and grids of four. How small a view of a half-sum may become is our
choice, and so is that the first one keeps its pixels where the other does not lie.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.functional import interpolate

from augment.detection import resize_part
from augment.geometry import (
    IDENTITY,
    Affine,
    Boxes,
    Content,
    Pixels,
    View,
    clip_boxes,
    map_boxes,
    mirror,
    scale,
    translation,
)

CENTRE = (0.25, 0.75)
"""Where the centre of a mosaic lies, in sides of the image."""
CLOSER = 2.0
"""A part is enlarged by up to this much beyond what makes its image cover it."""
BLEND = 32.0
"""Both parameters of the Beta distribution of a blend: nine in ten of the shares lie between 0.4 and 0.6."""
SMALLER = (0.5, 1.0)
"""Size of the second view of a half-sum, as a share of the largest at which it lies within the first one."""


@dataclass(frozen=True, eq=False, slots=True)
class Composed(Generic[Content]):
    """An image made of several.

    Attributes:
        image: H W 3, or of views, which are normalised, 3 H W.
        affines: Of each image in it, from its own pixels to those of ``image``.
        windows: The rectangle of ``image`` that shows each: left, top, right, bottom in whole pixels.
    """

    image: Content
    affines: tuple[Affine, ...]
    windows: tuple[tuple[int, int, int, int], ...]

    @staticmethod
    def whole(image: Pixels) -> Composed[Pixels]:
        """An image that is made of itself."""
        return Composed(image, (IDENTITY,), ((0, 0, image.shape[1], image.shape[0]),))

    def place(self, number: int, boxes: Boxes) -> tuple[Boxes, NDArray[np.float64]]:
        """Boxes in pixels of an image in it -> those of ``image``, clipped to what is shown.

        Args:
            number: Which image.
            boxes: n x 4, left, top, right, bottom.

        Returns:
            The boxes in their order, and the share of its area that each keeps (n), as :func:`geometry.clip_boxes`.
        """
        left, top, right, bottom = self.windows[number]
        in_window = translation(-left, -top) @ self.affines[number]
        clipped, share = clip_boxes(map_boxes(boxes, in_window), (bottom - top, right - left))
        return clipped + np.array([left, top, left, top]), share


def mosaic(images: Sequence[Pixels], random: np.random.Generator) -> Composed[Pixels]:
    """Fill the quadrants around a random centre with random parts of four images, which keep their aspect.

    Args:
        images: Four, H W 3; the result has the height and width of the first one, which may lie in any quadrant.
        random: Where draws come from.

    Raises:
        ValueError: There are not four, or the first one has a side of a single pixel.
    """
    height, width = images[0].shape[:2]
    if len(images) != 4 or min(height, width) < 2:
        raise ValueError(f"a mosaic needs four images and two pixels, not {len(images)} and {width} x {height}")
    x, y = (min(max(1, round(random.uniform(*CENTRE) * side)), side - 1) for side in (width, height))
    quadrants = [(0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height)]
    canvas = np.empty_like(images[0])
    affines: list[Affine] = []
    windows: list[tuple[int, int, int, int]] = []
    for image, place in zip(images, random.permutation(4), strict=True):
        left, top, right, bottom = quadrants[place]
        part = _random_part(image, (bottom - top, right - left), random)
        canvas[top:bottom, left:right] = part.image
        assert part.affine is not None, "resizing a part is tracked"
        affines.append(translation(left, top) @ part.affine)
        windows.append((left, top, right, bottom))
    return Composed(canvas, tuple(affines), tuple(windows))


def blend(first: Composed[Pixels], image: Pixels, random: np.random.Generator) -> Composed[Pixels]:
    """Blend an image with a random part of another one, about half and half (MixUp).

    Args:
        first: An image, which may be made of several.
        image: The other one, H W 3.
        random: Where draws come from.
    """
    share = float(random.beta(BLEND, BLEND))
    part = _random_part(image, first.image.shape[:2], random)
    assert part.affine is not None, "resizing a part is tracked"
    mixed = share * first.image.astype(np.float32) + (1 - share) * part.image.astype(np.float32)
    window = (0, 0, first.image.shape[1], first.image.shape[0])
    return Composed(np.rint(mixed).astype(np.uint8), (*first.affines, part.affine), (*first.windows, window))


def half_sum(first: torch.Tensor, other: torch.Tensor, random: np.random.Generator) -> Composed[torch.Tensor]:
    """Lay another view, made smaller and perhaps mirrored, somewhere on the first, and take the mean of both there.

    Args:
        first: 3 H W, as the result.
        other: 3 h w; all of it lies within the first one.
        random: Where draws come from.
    """
    (height, width), size = first.shape[1:], (other.shape[1], other.shape[2])
    by = min(height / size[0], width / size[1]) * random.uniform(*SMALLER)
    part, step = _scaled(other, by, (height, width))
    rows, columns = part.shape[1:]
    if random.random() < 0.5:
        part, step = part.flip(2), mirror(columns) @ step
    top, left = (int(random.integers(of - taken, endpoint=True)) for of, taken in ((height, rows), (width, columns)))
    image = first.clone()
    image[:, top : top + rows, left : left + columns].add_(part).mul_(0.5)
    windows = ((0, 0, width, height), (left, top, left + columns, top + rows))
    return Composed(image, (IDENTITY, translation(left, top) @ step), windows)


def grid(views: Sequence[torch.Tensor], cell: tuple[int, int]) -> Composed[torch.Tensor]:
    """Put four views two by two, each as large as fits into a cell, at its left and top; what is left over is 0.

    Args:
        views: Four, 3 h w each.
        cell: Height and width.

    Raises:
        ValueError: There are not four.
    """
    if len(views) != 4:
        raise ValueError(f"a grid needs four views, not {len(views)}")
    height, width = cell
    image = views[0].new_zeros(3, 2 * height, 2 * width)
    affines: list[Affine] = []
    windows: list[tuple[int, int, int, int]] = []
    for place, view in enumerate(views):
        top, left = place // 2 * height, place % 2 * width
        part, step = _scaled(view, min(height / view.shape[1], width / view.shape[2]), cell)
        rows, columns = part.shape[1:]
        image[:, top : top + rows, left : left + columns] = part
        affines.append(translation(left, top) @ step)
        windows.append((left, top, left + columns, top + rows))
    return Composed(image, tuple(affines), tuple(windows))


def _scaled(view: torch.Tensor, by: float, most: tuple[int, int]) -> tuple[torch.Tensor, Affine]:
    """A view in another size, of at least a pixel and at most so many, and the affine to it."""
    size = view.shape[1], view.shape[2]
    rows, columns = (min(max(1, round(side * by)), limit) for side, limit in zip(size, most, strict=True))
    resized = interpolate(view[None], (rows, columns), mode="bilinear", antialias=True)[0]
    return resized, scale(columns / size[1], rows / size[0])


def _random_part(image: Pixels, size: tuple[int, int], random: np.random.Generator) -> View[Pixels]:
    """A part of the aspect of ``size`` (height, width), as large as the image allows or up to twice as close."""
    rows, columns = image.shape[:2]
    by = max(size[0] / rows, size[1] / columns) * random.uniform(1, CLOSER)
    height, width = size[0] / by, size[1] / by
    top, left = random.uniform(0, 1) * max(0.0, rows - height), random.uniform(0, 1) * max(0.0, columns - width)
    rectangle = (left, top, min(left + width, columns), min(top + height, rows))
    return resize_part(View.whole(image), rectangle, size)
