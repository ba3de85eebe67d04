"""Colour jitter and RandAugment behind a random crop, beside the same of torchvision v2 on tensors.

    pytest tests/benchmarks/test_augmentation.py --benchmark-enable -s

Both take turns, and the time of the processor is taken. timm's RandAugment applies each of its two operations with a
probability of one half, so v2 applies one; `-p1` applies all. v2 has no bicubic operations on tensors: its are always
bilinear, ours are bilinear where the case says so.
"""

import statistics
import time
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.transforms import InterpolationMode, v2

from augment.pipeline import train_pipeline
from vision_train.data.toy.folder import natural_image

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE, SCALE, IMAGES, ROUNDS = 224, (0.25, 1.0), 60, 5
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
BILINEAR = InterpolationMode.BILINEAR
CASES = {
    "crop": ({}, []),
    "jitter": ({"color_jitter": 0.4}, [v2.ColorJitter(0.4, 0.4, 0.4)]),
    "rand-m9-mstd0.5-inc1": ({"rand_augment": "rand-m9-mstd0.5-inc1"}, [v2.RandAugment(1, 9, interpolation=BILINEAR)]),
    "rand-m9-mstd0.5-inc1-p1": (
        {"rand_augment": "rand-m9-mstd0.5-inc1-p1"},
        [v2.RandAugment(2, 9, interpolation=BILINEAR)],
    ),
    "bilinear": ({"interpolation": "bilinear"}, []),
    "rand-m9-mstd0.5-inc1, bilinear": (
        {"rand_augment": "rand-m9-mstd0.5-inc1", "interpolation": "bilinear"},
        [v2.RandAugment(1, 9, interpolation=BILINEAR)],
    ),
    "rand-m9-mstd0.5-inc1-p1, bilinear": (
        {"rand_augment": "rand-m9-mstd0.5-inc1-p1", "interpolation": "bilinear"},
        [v2.RandAugment(2, 9, interpolation=BILINEAR)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_beside_torchvision(benchmark: Any, case: str) -> None:
    options, steps = CASES[case]
    image = np.array(natural_image((500, 375), np.random.default_rng(0)))
    tensor = torch.from_numpy(image).permute(2, 0, 1)
    mode = InterpolationMode(options.get("interpolation", "bicubic"))
    crop = v2.RandomResizedCrop(SIZE, SCALE, interpolation=mode, antialias=True)
    end = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(MEAN, STD)]
    theirs = v2.Compose([crop, v2.RandomHorizontalFlip(), *steps, *end])
    ours = train_pipeline(SIZE, MEAN, STD, crop_scale=SCALE, horizontal_flip=0.5, **options)  # type: ignore[arg-type]
    seconds: list[tuple[float, float]] = []

    def both() -> None:
        times = [time.process_time()]
        for seed in range(IMAGES):
            ours(image, len(seconds) * IMAGES + seed)
        times.append(time.process_time())
        torch.manual_seed(len(seconds))
        for _ in range(IMAGES):
            theirs(tensor)
        times.append(time.process_time())
        seconds.append((times[1] - times[0], times[2] - times[1]))

    benchmark.pedantic(both, rounds=ROUNDS, warmup_rounds=1)
    warm = seconds[1:] or seconds  # a single round, of pytest without benchmarks, has nothing before it
    own, other = (statistics.median(column) / IMAGES * 1e3 for column in zip(*warm, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in warm)
    benchmark.extra_info |= {"case": case, "speed_beside_v2": round(ratio, 2)}
    print(f"\n{case}: ours {own:.2f} ms of the processor an image, torchvision v2 {other:.2f}; {ratio:.2f} x as fast")
