"""Mixing a batch of 64 x 3 x 224 x 224 float32 on the CPU, beside a copy of it and other ways to mix.

    pytest tests/benchmarks/test_mixing.py --benchmark-enable -s

All take turns, so that other load on the machine falls on them alike; each round divides by its own copy.
"""

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from timm.data import Mixup
from torch import Tensor

from augment.mixing import Mix, Mixer, mix_images

BATCH, SIZE, MASK_PATCH, ROUNDS = 64, 224, 56, 25


def draw(kind: str, seed: int = 0) -> Mix:
    """The first mix of about equal parts; other shares would favour one or the other way to apply it."""
    weights = {name: float(name == kind) for name in ("maskmix", "mixup", "cutmix")}
    alphas = {"maskmix_alpha": 1.0, "mixup_alpha": 0.8, "cutmix_alpha": 1.0}
    mixer = Mixer(**weights, **alphas, mask_patch=MASK_PATCH, partner="permutation", seed=seed)
    while True:
        mix = mixer.draw(BATCH, SIZE, SIZE)
        assert mix is not None
        if 0.4 < mix.share[0] < 0.6:
            return mix


def pixel_mask(mix: Mix) -> Tensor:
    """B 1 H W, bool."""
    assert mix.cells is not None
    return mix.cells.repeat_interleave(MASK_PATCH, 1).repeat_interleave(MASK_PATCH, 2).unsqueeze(1)


def gather_and_where(images: Tensor, mix: Mix) -> Tensor:
    return torch.where(pixel_mask(mix), images, images[mix.partner])


def integer_masks(images: Tensor, mix: Mix) -> Tensor:
    """The arithmetic of the official code: a mask of whole numbers for each channel, and its complement."""
    mask = pixel_mask(mix).long().repeat(1, images.shape[1], 1, 1)
    return mask * images + (1 - mask) * images[mix.partner]


def seconds(way: Callable[[Tensor], Any], images: Tensor) -> float:
    start = time.perf_counter()
    way(images)
    return time.perf_counter() - start


def test_mixing(benchmark: Any, threads: int) -> None:
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    maskmix, mixup, cutmix = map(draw, ("maskmix", "mixup", "cutmix"))
    assert torch.equal(mix_images(images, maskmix), integer_masks(images, maskmix))
    labels, mixed_in_place = torch.zeros(BATCH, dtype=torch.long), images.clone()
    timm_cutmix, timm_mixup = (Mixup(*alphas, num_classes=10) for alphas in ((0.0, 1.0), (0.8, 0.0)))
    others: dict[str, Callable[[Tensor], Any]] = {
        "clone": torch.clone,
        "MaskMix, gather + where": lambda images: gather_and_where(images, maskmix),
        "MaskMix, integer masks": lambda images: integer_masks(images, maskmix),
        "CutMix": lambda images: mix_images(images, cutmix),
        "CutMix, timm, in place": lambda images: timm_cutmix(mixed_in_place, labels),
        "MixUp": lambda images: mix_images(images, mixup),
        "MixUp, timm, in place": lambda images: timm_mixup(mixed_in_place, labels),
    }
    taken: dict[str, list[float]] = {name: [] for name in ("clone", "MaskMix", *others)}

    def others_take_their_turn() -> None:
        for name, way in others.items():
            taken[name].append(seconds(way, images))

    benchmark.pedantic(
        lambda: taken["MaskMix"].append(seconds(lambda images: mix_images(images, maskmix), images)),
        setup=others_take_their_turn,
        rounds=ROUNDS,
        warmup_rounds=2,
    )
    print(f"\n{threads} threads, median of {ROUNDS} rounds")
    for name, values in taken.items():
        ratio = statistics.median(mine / copy for mine, copy in zip(values, taken["clone"], strict=True))
        benchmark.extra_info[name] = round(ratio, 3)
        print(f"{name:24} {1000 * statistics.median(values):8.1f} ms, {ratio:6.2f} x clone")
