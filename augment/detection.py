"""Per-sample pipelines for images with boxes: short and long side, random scale, random crop, flip, colours, blur.

An image is resampled once, whatever is done to it: the part that a crop takes and the size that it ends in are known
before a pixel moves. An image of 20,000 pixels width that is cropped is never enlarged as a whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch.nn.functional import interpolate

from augment.geometry import (
    Boxes,
    Pixels,
    View,
    clip_boxes,
    horizontal_flip,
    map_boxes,
    moved,
    scale,
    scale_to,
    translation,
)

AFFORDABLE = 2**24
"""So many pixels are resized as floats; of more, such as panoramas, that would take gigabytes."""
BLUR = (0.1, 2.0)
"""Smallest and largest standard deviation of a blur, in pixels."""
ERASED_RECTANGLES, ERASED_AREA, ERASED_ASPECT = 3, (0.02, 0.2), (0.3, 3.3)
"""How many rectangles are erased at most, as in Unbiased Teacher; their area as a share of the image's, and their width
over height."""
PATCHES, LARGEST_PATCH = 19, 0.1
"""How many small rectangles are erased at most, as in MixPL, and their largest sides as a share of the image's."""
Channels = tuple[float, float, float]
Rectangle = tuple[float, float, float, float]
"""left, top, right, bottom in pixels."""


class RandomPart(NamedTuple):
    """A random part of an image that was resized before.

    Attributes:
        probability: Share of the images of which a part is taken.
        short_sides: Short sides of the whole image, of which one is drawn.
        smallest: Smallest width and height of the part.
        largest: Largest ones.
    """

    probability: float
    short_sides: Sequence[int]
    smallest: int
    largest: int


@dataclass(frozen=True)
class DetectionTraining:
    """One training image; the same view and seed give the same result in any process.

    Attributes:
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations for pixels in [0, 1].
        scales: Short sides, of which one is drawn.
        longest: Largest long side.
        part: What is cropped; None for nothing.
        flip: Probability of mirroring left and right.
        color_jitter: Brightness, contrast and saturation are each multiplied by up to 1 ± this.
        blur: Probability of blurring.
    """

    mean: Channels
    std: Channels
    scales: Sequence[int]
    longest: int
    part: RandomPart | None = None
    flip: float = 0.0
    color_jitter: float = 0.0
    blur: float = 0.0

    def __call__(self, view: View[Pixels], seed: int) -> View[torch.Tensor]:
        """H W 3 pixels with boxes -> normalised image, 3 H W float32, with the boxes in its pixels."""
        random = np.random.default_rng(seed)
        size = view.image.shape[:2]
        rectangle: Rectangle = (0, 0, size[1], size[0])
        if self.part is not None and random.random() < self.part.probability:
            rectangle, size = random_part(size, self.part, random)
        side = self.scales[int(random.integers(len(self.scales)))]
        view = resize_part(view, rectangle, shortest_side(size, side, self.longest))
        if random.random() < self.flip:
            view = horizontal_flip(view)
        image = view.image
        if self.color_jitter:
            image = jittered(image, random.uniform(1 - self.color_jitter, 1 + self.color_jitter, 3))
        if self.blur and random.random() < self.blur:
            image = blurred(image, random.uniform(*BLUR))
        return View(normalised(image, self.mean, self.std), view.affine, view.boxes, view.text)


@dataclass(frozen=True)
class DetectionEvaluation:
    """One evaluation image, resized as the published results were measured.

    Attributes:
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations for pixels in [0, 1].
        short_side: Short side of the result.
        longest: Largest long side.
    """

    mean: Channels
    std: Channels
    short_side: int
    longest: int

    def __call__(self, view: View[Pixels], seed: int = 0) -> View[torch.Tensor]:
        """H W 3 pixels, bare or with boxes -> normalised image, 3 H W float32; ``seed`` is not used."""
        rows, columns = view.image.shape[:2]
        size = published_size((rows, columns), self.short_side, self.longest)
        if rows * columns > AFFORDABLE:
            view = resize_part(view, (0, 0, columns, rows), size)
            return View(normalised(view.image, self.mean, self.std), view.affine, view.boxes, view.text)
        pixels = normalised(view.image, self.mean, self.std)
        if size != (rows, columns):
            # Not in 8 bits: the published model resizes floats.
            pixels = interpolate(pixels[None], size, mode="bilinear", antialias=True)[0]
        return moved(view, pixels, scale_to(view.image, size), size)


def published_size(size: tuple[int, int], short_side: int, longest: int) -> tuple[int, int]:
    """Height and width in which an image is evaluated.

    As torchvision's detectors compute them: the scale is a float32 number that is multiplied by a reciprocal, and
    products are truncated, so that a short side of 799 pixels may come out where 800 were asked for.

    Args:
        size: Height and width of the image.
        short_side: Of the result, unless the long side becomes too long.
        longest: Largest long side.
    """
    one = np.float32(1)
    by = min(
        np.float32(short_side) * (one / np.float32(min(size))), np.float32(longest) * (one / np.float32(max(size)))
    )
    height, width = (max(1, int(np.float32(side) * by)) for side in size)
    return height, width


def shortest_side(size: tuple[int, int], side: int, longest: int) -> tuple[int, int]:
    """Height and width of an image that is resized to a short side, or to the longest side; truncated."""
    by = min(side / min(size), longest / max(size))
    height, width = (max(1, int(each * by)) for each in size)
    return height, width


def random_part(
    size: tuple[int, int], part: RandomPart, random: np.random.Generator
) -> tuple[Rectangle, tuple[int, int]]:
    """Draw a part of an image as if it was resized to a short side first.

    Returns:
        The rectangle in pixels of the image itself, and the height and width that it has in the resized one.
    """
    side = part.short_sides[int(random.integers(len(part.short_sides)))]
    by = side / min(size)
    whole = [max(1, int(each * by)) for each in size]
    # Both sides are at least as long as the smallest part, or taken whole.
    height, width = (
        each if each <= part.smallest else int(random.integers(part.smallest, min(each, part.largest), endpoint=True))
        for each in whole
    )
    top, left = (
        int(random.integers(of - taken, endpoint=True)) for of, taken in zip(whole, (height, width), strict=True)
    )
    y, x = size[0] / whole[0], size[1] / whole[1]
    return (left * x, top * y, (left + width) * x, (top + height) * y), (height, width)


def resize_part(view: View[Pixels], rectangle: Rectangle, size: tuple[int, int]) -> View[Pixels]:
    """Make a rectangle an image of this height and width (bilinear, antialiased); it may cut through pixels."""
    left, top, right, bottom = rectangle
    height, width = size
    image = Image.fromarray(view.image)
    if rectangle != (0, 0, *image.size) or (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling.BILINEAR, box=rectangle)
    step = scale(width / (right - left), height / (bottom - top)) @ translation(-left, -top)
    return moved(view, np.array(image), step, size)


def jittered(image: Pixels, factors: NDArray[np.float64]) -> Pixels:
    """Multiply brightness, contrast and saturation by the three factors."""
    brightness, contrast, saturation = (float(each) for each in factors)
    pixels = image.astype(np.float32) * brightness
    grey = pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    pixels = (pixels - grey.mean()) * contrast + grey.mean()
    grey = (pixels @ np.array([0.299, 0.587, 0.114], dtype=np.float32))[..., None]
    return ((pixels - grey) * saturation + grey).clip(0, 255).astype(np.uint8)


def blurred(image: Pixels, sigma: float) -> Pixels:
    """Blur with a Gaussian of this standard deviation, in pixels."""
    return np.array(Image.fromarray(image).filter(ImageFilter.GaussianBlur(sigma)))


def erase(image: torch.Tensor, random: np.random.Generator, probability: float) -> Boxes:
    """Fill random rectangles of a normalised image (3 H W) with normal noise, in place.

    Each of three is filled with the same probability. Its area is drawn from :data:`ERASED_AREA`, its width over height
    from :data:`ERASED_ASPECT`.

    Returns:
        The rectangles, k x 4: left, top, right, bottom in pixels of the image.
    """
    height, width = image.shape[1:]
    filled = []
    for _ in range(ERASED_RECTANGLES):
        if random.random() >= probability:
            continue
        area, aspect = random.uniform(*ERASED_AREA) * height * width, np.exp(random.uniform(*np.log(ERASED_ASPECT)))
        columns, rows = (
            min(max(1, round(side)), of)
            for side, of in ((np.sqrt(area * aspect), width), (np.sqrt(area / aspect), height))
        )
        left, top = (
            int(random.integers(of - taken, endpoint=True)) for of, taken in ((width, columns), (height, rows))
        )
        filled.append(_filled_with_noise(image, (left, top, left + columns, top + rows), random))
    return np.array(filled, dtype=np.float64).reshape(-1, 4)


def erase_patches(image: torch.Tensor, random: np.random.Generator) -> Boxes:
    """Fill 1 to 19 small rectangles of a normalised image (3 H W) with normal noise, in place, as MixPL does.

    Returns:
        The rectangles, as :func:`erase`.
    """
    height, width = image.shape[1:]
    filled = []
    for _ in range(int(random.integers(1, PATCHES, endpoint=True))):
        rows, columns = (max(1, round(random.uniform(0, LARGEST_PATCH) * side)) for side in (height, width))
        left, top = (int(random.integers(of - part, endpoint=True)) for of, part in ((width, columns), (height, rows)))
        filled.append(_filled_with_noise(image, (left, top, left + columns, top + rows), random))
    return np.array(filled, dtype=np.float64)


def _filled_with_noise(
    image: torch.Tensor, rectangle: tuple[int, int, int, int], random: np.random.Generator
) -> tuple[int, int, int, int]:
    left, top, right, bottom = rectangle
    noise = random.standard_normal((3, bottom - top, right - left), dtype=np.float32)
    image[:, top:bottom, left:right] = torch.from_numpy(noise)
    return rectangle


def normalised(image: Pixels, mean: Channels, std: Channels) -> torch.Tensor:
    """H W 3 in 0..255 -> (x / 255 - mean) / std, 3 H W float32."""
    pixels = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1))).float()
    factor, offset = _factor_and_offset(*mean, *std)
    return pixels.mul_(factor).sub_(offset)


@lru_cache(maxsize=8)
def _factor_and_offset(*mean_and_std: float) -> tuple[torch.Tensor, torch.Tensor]:
    """What levels are multiplied with, and what is taken off then, 3 1 1 each.

    They are made once, since for a small image it takes longer to make them than to use them.
    """
    mean, std = torch.tensor(mean_and_std).view(2, 3, 1, 1)
    return 1 / (255 * std), mean / std


def place_boxes(boxes: Boxes, affine: NDArray[np.float64], size: tuple[int, int]) -> Boxes:
    """Boxes in pixels of the original image -> clipped boxes in pixels of a view of this height and width."""
    return clip_boxes(map_boxes(boxes, affine), size)[0]


def relative_boxes(boxes: Boxes, size: tuple[int, int]) -> Boxes:
    """Corners in pixels -> centre x, centre y, width, height as shares of an image of this height and width."""
    height, width = size
    x1, y1, x2, y2 = boxes.T
    return np.stack([(x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height], axis=1)
