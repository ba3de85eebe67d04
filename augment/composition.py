"""Images for detection that are made of several: mosaics of four, and blends of two.

A composed image takes the place of an original one: it has the height and width of the first image, and is augmented
as that would be. Each image in it keeps an exact affine and the rectangle that shows it, so that its boxes, and regions
of any other kind, can be followed.

Sources: mosaics are those of Bochkovskiy et al., "YOLOv4: Optimal Speed and Accuracy of Object Detection", 2020,
section 3.3: parts of four images fill the quadrants around a random centre. YOLOX and Ultralytics place whole images on
a canvas of twice the sides, partly grey, and cut from that. Blends are those of Zhang et al., "mixup: Beyond Empirical
Risk Minimization", ICLR 2018, as detectors use it: both images' boxes count fully, as in the code of YOLOX (which takes
the mean) and of Ultralytics (which draws the share from Beta(32, 32), as here). GluonCV, the code of "Bag of Freebies
for Training Object Detection Neural Networks" (Zhang et al., 2019), gives each box the share of its image as a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from augment.detection import resize_part
from augment.geometry import IDENTITY, Affine, Boxes, Pixels, View, clip_boxes, map_boxes, translation

CENTRE = (0.25, 0.75)
"""Where the centre of a mosaic lies, in sides of the image."""
CLOSER = 2.0
"""A part is enlarged by up to this much beyond what makes its image cover it."""
BLEND = 32.0
"""Both parameters of the Beta distribution of a blend: nine in ten of the shares lie between 0.4 and 0.6."""


@dataclass(frozen=True, eq=False, slots=True)
class Composed:
    """An image made of several.

    Attributes:
        image: H W 3.
        affines: Of each image in it, from its own pixels to those of ``image``.
        windows: The rectangle of ``image`` that shows each: left, top, right, bottom in whole pixels.
    """

    image: Pixels
    affines: tuple[Affine, ...]
    windows: tuple[tuple[int, int, int, int], ...]

    @staticmethod
    def whole(image: Pixels) -> Composed:
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


def mosaic(images: Sequence[Pixels], random: np.random.Generator) -> Composed:
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


def blend(first: Composed, image: Pixels, random: np.random.Generator) -> Composed:
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


def _random_part(image: Pixels, size: tuple[int, int], random: np.random.Generator) -> View[Pixels]:
    """A part of the aspect of ``size`` (height, width), as large as the image allows or up to twice as close."""
    rows, columns = image.shape[:2]
    by = max(size[0] / rows, size[1] / columns) * random.uniform(1, CLOSER)
    height, width = size[0] / by, size[1] / by
    top, left = random.uniform(0, 1) * max(0.0, rows - height), random.uniform(0, 1) * max(0.0, columns - width)
    rectangle = (left, top, min(left + width, columns), min(top + height, rows))
    return resize_part(View.whole(image), rectangle, size)
