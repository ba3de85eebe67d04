"""Pixel pipelines for single images: random ones for training, exact ones for evaluation.

The only module that imports albumentations, so that it can be replaced.
"""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from timm.data.auto_augment import RandAugment
from timm.data.random_erasing import RandomErasing
from torchvision.transforms import Compose, Normalize, ToTensor

from augment.geometry import (
    IDENTITY,
    Affine,
    Interpolation,
    Pixels,
    Size,
    View,
    height_and_width,
    moved,
    resize_pixels,
    whole_of,
)
from augment.published import crop_as_published, resize_as_published
from augment.reduced import factor_for, resize_original_part
from augment.timm_operations import Channels, seeded_globals, timm_rand_augment

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # it would ask the network for a newer release when imported
import albumentations
import cv2

_OPENCV_FLAG: dict[Interpolation, int] = {"bilinear": cv2.INTER_LINEAR, "bicubic": cv2.INTER_CUBIC}
_MODE = {flag: mode for mode, flag in _OPENCV_FLAG.items()}
_MOVES_PIXELS = ("Rotate", "Shear", "Translate")
"""How the names of timm's geometric operations begin."""


def train_pipeline(
    image_size: Size,
    mean: Channels,
    std: Channels,
    *,
    crop_scale: tuple[float, float] | None = None,
    crop_ratio: tuple[float, float] = (3 / 4, 4 / 3),
    horizontal_flip: float = 0.0,
    rand_augment: str | None = None,
    color_jitter: float = 0.0,
    erasing: float = 0.0,
    interpolation: Interpolation = "bicubic",
) -> TrainPipeline:
    """Random crop, flip, RandAugment, colour jitter, normalisation and random erasing, in this order.

    Args:
        image_size: Height and width of the result in pixels, or the side of a square one.
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations for pixels in [0, 1].
        crop_scale: Smallest and largest share of the image area to crop; None resizes the whole image.
        crop_ratio: Narrowest and widest crop, width over height.
        horizontal_flip: Probability of mirroring left and right.
        rand_augment: timm's configuration string, such as ``rand-m9-mstd0.5-inc1``; None for none.
        color_jitter: Brightness, contrast and saturation are each multiplied by up to 1 ± this.
        erasing: Probability of filling a rectangle with normal noise (timm's ``pixel`` mode).
        interpolation: How pixels are resampled; shrinking is antialiased.

    Raises:
        ValueError: timm does not understand ``rand_augment``.
    """
    flag, size = _OPENCV_FLAG[interpolation], height_and_width(image_size)
    crop = (
        _WholeImage(*size, interpolation=flag)
        if crop_scale is None
        else _RandomCrop(size, crop_scale, crop_ratio, interpolation=flag)
    )
    flip = albumentations.HorizontalFlip(p=horizontal_flip) if horizontal_flip else None
    steps: list[albumentations.BasicTransform] = [crop, flip] if flip else [crop]
    moves = False
    if rand_augment is not None:
        augment = timm_rand_augment(rand_augment, min(size), mean, interpolation)
        moves = any(operation.name.startswith(_MOVES_PIXELS) for operation in augment.ops)
        steps.append(_RandAugment(augment))
    if color_jitter:
        strength = (max(0.0, 1 - color_jitter), 1 + color_jitter)
        steps.append(albumentations.ColorJitter(strength, strength, strength, hue=(0, 0), p=1))
    return TrainPipeline(
        pixels=albumentations.Compose(steps, is_check_shapes=False),
        crop=crop,
        flip=flip,
        # (x / 255 - mean) / std, as one product and one difference.
        scale=1 / (255 * torch.tensor(std).view(3, 1, 1)),
        shift=(torch.tensor(mean) / torch.tensor(std)).view(3, 1, 1),
        erase=RandomErasing(erasing, mode="pixel", device="cpu") if erasing else None,
        tracked=not moves,
    )


@dataclass(frozen=True)
class TrainPipeline:
    """One training image. Called with a view and a seed; the same two give the same result in any process.

    Attributes:
        pixels: What happens to the pixels before they are normalised.
        crop: The step of ``pixels`` that crops and resizes.
        flip: The step of ``pixels`` that mirrors.
        scale: 3 1 1, by which pixels are multiplied.
        shift: 3 1 1, which is subtracted then.
        erase: Random erasing of the normalised image.
        tracked: Whether the affine is known; the geometric operations of RandAugment are not tracked.
    """

    pixels: albumentations.Compose
    crop: _WholeImage | _RandomCrop
    flip: albumentations.HorizontalFlip | None
    scale: torch.Tensor
    shift: torch.Tensor
    erase: RandomErasing | None
    tracked: bool

    def __call__(self, view: View[Pixels] | Pixels, seed: int) -> View[torch.Tensor]:
        """H W 3 pixels -> normalised image, 3 H W float32, a function of ``view`` and ``seed`` (32 bits) alone.

        Bare pixels are an image without boxes and text.

        Raises:
            ValueError: The view has boxes and RandAugment would move pixels in ways that boxes cannot follow.
        """
        view = view if isinstance(view, View) else View.whole(view)
        reduced = view.original_size is not None
        if view.boxes is not None and reduced:
            raise ValueError("boxes are those of an image with all of its pixels; decode it exactly")
        if view.boxes is not None and not self.tracked:
            raise ValueError(
                "boxes cannot follow the geometric operations of rand_augment; leave it out, or take a set of "
                "operations that change colours alone, such as rand-m9-t3a"
            )
        self._seed(seed)
        self.crop.reduced = _Reduced(view.whole_size, view.affine) if reduced and view.affine is not None else None
        image = self.pixels(image=view.image)["image"]
        # Moving bytes to channels first is cheaper than moving floats.
        channels_first = np.ascontiguousarray(image.transpose(2, 0, 1))
        tensor = torch.from_numpy(channels_first).float().mul_(self.scale).sub_(self.shift)
        if self.erase is not None:
            with seeded_globals(self.pixels.py_random.getrandbits(32)):
                tensor = self.erase(tensor)
        if not self.tracked:
            return View(tensor, None, None, view.text)
        # Of an image that is not flipped, the flip has no parameters.
        mirrored = self.flip is not None and bool(self.flip.get_applied_params())
        size = image.shape[:2]
        if reduced:  # the rectangle is one of the original image
            view = View(view.image, IDENTITY, None, view.text)
        return moved(view, tensor, whole_of(self.crop.last_rectangle(), size, mirrored=mirrored), size)

    def factor(self, size: tuple[int, int], seed: int) -> int:
        """By how much an image of this height and width may be divided before it is called with this seed.

        What is cropped keeps at least as many pixels as it is resized to (:func:`augment.reduced.factor_for`).
        """
        self._seed(seed)
        self.pixels.py_random.random()  # which decides whether anything is done at all: always
        return factor_for(self.crop.rectangle_of(size), self.crop.result_size)

    def _seed(self, seed: int) -> None:
        # One stream for all steps: set_random_seed would give each step the same one, and correlate their draws.
        self.pixels.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311


def eval_pipeline(
    image_size: Size,
    mean: Channels,
    std: Channels,
    *,
    resize: Size | None = None,
    interpolation: Interpolation = "bicubic",
) -> EvalPipeline:
    """Torchvision's resize (antialiased, on a PIL image), centre crop and normalisation, as results are published.

    Args:
        image_size: Height and width of the result in pixels, or the side of a square one.
        mean: Channel means for pixels in [0, 1].
        std: Channel standard deviations for pixels in [0, 1].
        resize: Length of the shorter side before the centre crop, or the height and width that the resized image just
            covers; None resizes the whole image to ``image_size``.
        interpolation: How pixels are resampled.
    """
    return EvalPipeline(image_size, resize, interpolation, Compose([ToTensor(), Normalize(mean, std)]))


@dataclass(frozen=True)
class EvalPipeline:
    """One evaluation image; nothing about it is random."""

    image_size: Size
    resize: Size | None
    interpolation: Interpolation
    normalise: Compose

    def __call__(self, view: View[Pixels] | Pixels, seed: int = 0) -> View[torch.Tensor]:
        """H W 3 pixels, bare or with boxes and text -> normalised image, 3 H W float32.

        ``seed`` is taken, and not used, so that both pipelines are called alike.
        """
        view = view if isinstance(view, View) else View.whole(view)
        if self.resize is None:
            view = resize_as_published(view, height_and_width(self.image_size), self.interpolation)
        else:
            view = crop_as_published(view, self.resize, self.image_size, self.interpolation)
        return View(self.normalise(view.image), view.affine, view.boxes, view.text)


class _Reduced(NamedTuple):
    """What a crop has to know of an image that was decoded at a fraction of its size."""

    size: tuple[int, int]
    """Height and width of the original image, in whose pixels crops are drawn."""
    affine: Affine
    """From its pixels to those that were decoded."""


class _RandomCrop(albumentations.RandomResizedCrop):
    """Random resized crop whose downscaling is antialiased; OpenCV's bicubic is not."""

    reduced: _Reduced | None = None

    @property
    def result_size(self) -> tuple[int, int]:
        """Height and width that crops are resized to."""
        return self.size

    def rectangle_of(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Draw left, top, right and bottom of a crop of an image of this height and width."""
        return super().get_params_dependent_on_data({"shape": size}, {})["crop_coords"]

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        shape = params["shape"] if self.reduced is None else self.reduced.size
        return {"crop_coords": self.rectangle_of(shape)}

    def apply(self, img: Pixels, crop_coords: tuple[int, int, int, int], **params: Any) -> Pixels:
        return _resized_part(img, crop_coords, self.size, self.interpolation, self.reduced)

    def last_rectangle(self) -> tuple[int, int, int, int]:
        """Left, top, right and bottom of the last crop, in pixels of the original image."""
        return self.get_applied_params()["crop_coords"]


class _WholeImage(albumentations.Resize):
    """Antialiased resize of the whole image."""

    reduced: _Reduced | None = None

    @property
    def result_size(self) -> tuple[int, int]:
        """Height and width that images are resized to."""
        return self.height, self.width

    def rectangle_of(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """All of an image of this height and width."""
        return 0, 0, size[1], size[0]

    def apply(self, img: Pixels, **params: Any) -> Pixels:
        whole = self.rectangle_of(img.shape[:2] if self.reduced is None else self.reduced.size)
        return _resized_part(img, whole, self.result_size, self.interpolation, self.reduced)

    def last_rectangle(self) -> tuple[int, int, int, int]:
        """All of the last image, in pixels of the original one."""
        shape = self.get_applied_params()["shape"] if self.reduced is None else self.reduced.size
        return self.rectangle_of(shape[:2])


def _resized_part(
    image: Pixels, rectangle: tuple[int, int, int, int], size: tuple[int, int], flag: int, reduced: _Reduced | None
) -> Pixels:
    if reduced is not None:
        return resize_original_part(image, reduced.affine, rectangle, size, _MODE[flag])
    left, top, right, bottom = rectangle
    return resize_pixels(image[top:bottom, left:right], size, _MODE[flag])


class _RandAugment(albumentations.ImageOnlyTransform):
    """timm's RandAugment: which operations is drawn here, how strong they are from Python's global generator.

    timm draws the operations from NumPy's global generator; to seed that one takes as long as three operations on a
    small image.
    """

    def __init__(self, augment: RandAugment) -> None:
        super().__init__(p=1)
        self.augment = augment

    def get_params(self) -> dict[str, Any]:
        augment, with_replacement = self.augment, self.augment.choice_weights is None
        places = self.random_generator.choice(
            len(augment.ops), augment.num_layers, replace=with_replacement, p=augment.choice_weights
        )
        return {"seed": self.py_random.getrandbits(32), "places": places}

    def apply(self, img: Pixels, seed: int, places: NDArray[np.int64], **params: Any) -> Pixels:
        image = Image.fromarray(img)
        state = random.getstate()
        random.seed(seed)
        try:
            for place in places:
                image = self.augment.ops[place](image)
        finally:
            random.setstate(state)
        return np.asarray(image)
