"""timm's random operations: made of a configuration, and seeded where they draw from global generators."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from PIL import Image
from timm.data.auto_augment import RandAugment, posterize, rand_augment_transform
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as torchvision_functional

from augment.geometry import Interpolation

Channels = tuple[float, float, float]
"""Red, green, blue."""


def timm_rand_augment(config: str, shorter_side: int, mean: Channels, interpolation: Interpolation) -> RandAugment:
    """Timm's RandAugment as its own training transform has it.

    Args:
        config: Such as ``rand-m9-mstd0.5-inc1``.
        shorter_side: Of the image, in pixels.
        mean: Of the pixels, in [0, 1]; what is laid bare has this colour.
        interpolation: Of the operations that move pixels.

    Raises:
        ValueError: timm knows no such configuration.
    """
    hparams = {
        "translate_const": int(shorter_side * 0.45),
        "img_mean": tuple(min(255, round(255 * channel)) for channel in mean),
        "interpolation": torchvision_functional.pil_modes_mapping[InterpolationMode(interpolation)],
    }
    try:
        augment = rand_augment_transform(config, hparams)
    except (AssertionError, ValueError, LookupError) as error:
        raise ValueError(
            f"rand_augment `{config}` is not one of timm's configurations, such as rand-m9-mstd0.5-inc1"
        ) from error
    for operation in augment.ops:
        if operation.aug_fn is posterize:
            operation.aug_fn = _posterize
    return augment


def _posterize(image: Image.Image, bits_to_keep: int, **fill: Any) -> Image.Image:
    """Posterise as timm does, which may keep no bits: that makes black, and an error since Pillow 13."""
    return posterize(image, bits_to_keep, **fill) if bits_to_keep > 0 else Image.new(image.mode, image.size)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and torch (CPU), which timm draws from, and put back their states."""
    states = random.getstate(), torch.get_rng_state()
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        torch.set_rng_state(states[1])
