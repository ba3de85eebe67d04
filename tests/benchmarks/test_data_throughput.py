"""Images per second on one core: decode, random resized crop, flip, normalise, collate; beside torchvision and timm.

    pytest tests/benchmarks/test_data_throughput.py --benchmark-enable -s

The loaders take turns, so that other load on the machine falls on all of them alike. Photographs of 3000 x 2000 pixels
are decoded exactly and reduced, and the time of the processor is taken, since nothing but it is compared.
"""

import statistics
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from timm.data import create_dataset, create_loader
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from vision_train.data.toy.folder import natural_image
from vision_train.recipe import load_recipe

IMAGES, BATCH, ROUNDS = 500, 32, 5
LARGE = 16
SIZE, SCALE = 224, (0.08, 1.0)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """500 training JPEGs of about 500 x 375, quality 90, in two classes."""
    folder = tmp_path_factory.mktemp("photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", IMAGES), ("val", 2), ("test", 2)):
        for index in range(count):
            path = folder / split / f"class_{index % 2}" / f"{index:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            width, height = 500 + int(generator.integers(-40, 41)), 375 + int(generator.integers(-40, 41))
            natural_image((width, height), generator).save(path, quality=90)
    return folder


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterable[None]:
    threads = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    yield
    torch.set_num_threads(threads[0])
    cv2.setNumThreads(threads[1])


def our_loader(root: Path) -> Iterable[dict[str, Any]]:
    of_data = [f"data.root={root}", f"data.image_size={SIZE}", f"data.batch_size={BATCH}", "data.workers=0"]
    of_pixels = [f"augment.train.crop_scale={[*SCALE]}", "augment.train.horizontal_flip=0.5"]
    normalised = [f"augment.mean={[*MEAN]}", f"augment.std={[*STD]}"]
    recipe = load_recipe("classification/vit_small", [*of_data, *of_pixels, *normalised])
    return recipe.kind.load().build(recipe).train_dataloader()


def torchvision_loader(root: Path) -> Iterable[list[torch.Tensor]]:
    steps = [
        transforms.RandomResizedCrop(SIZE, SCALE, interpolation=transforms.InterpolationMode.BICUBIC, antialias=True),
        transforms.RandomHorizontalFlip(),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    folder = ImageFolder(str(root / "train"), transforms.Compose(steps))
    return DataLoader(folder, batch_size=BATCH, shuffle=True, drop_last=True, num_workers=0)


def timm_loader(root: Path) -> Iterable[list[torch.Tensor]]:
    return create_loader(
        create_dataset("", str(root / "train")),
        (3, SIZE, SIZE),
        BATCH,
        is_training=True,
        use_prefetcher=False,
        no_aug=False,
        scale=SCALE,
        hflip=0.5,
        color_jitter=None,
        interpolation="bicubic",
        mean=MEAN,
        std=STD,
        num_workers=0,
        device=torch.device("cpu"),
    )


def images_per_second(loader: Iterable[Any]) -> float:
    """One pass over the loader."""
    start, images = time.perf_counter(), 0
    for batch in loader:
        image = batch["image"] if isinstance(batch, dict) else batch[0]
        assert image.shape[1:] == (3, SIZE, SIZE)
        images += len(image)
    assert images == IMAGES // BATCH * BATCH
    return images / (time.perf_counter() - start)


def test_images_per_second_on_one_core(benchmark: Any, root: Path) -> None:
    peers: dict[str, Callable[[Path], Iterable[Any]]] = {"torchvision": torchvision_loader, "timm": timm_loader}
    loaders = {name: make(root) for name, make in peers.items()}
    ours = our_loader(root)
    speeds: dict[str, list[float]] = {name: [] for name in ("ours", *peers)}

    def peers_take_their_turn() -> None:
        for name, loader in loaders.items():
            speeds[name].append(images_per_second(loader))

    benchmark.pedantic(
        lambda: speeds["ours"].append(images_per_second(ours)), setup=peers_take_their_turn, rounds=ROUNDS
    )
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    for name, speed in medians.items():
        benchmark.extra_info[f"{name}_images_per_second"] = round(speed, 1)
    print()
    for name, speed in medians.items():
        print(f"{name:12} {speed:7.1f} images/s on one core, {medians['ours'] / speed:.2f} x as fast with ours")


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs of 3000 x 2000, quality 90, about 1.3 MB each."""
    folder = tmp_path_factory.mktemp("large_photographs")
    generator = np.random.default_rng(0)
    for split, count in (("train", LARGE), ("val", 2), ("test", 2)):
        for index in range(count):
            path = folder / split / f"class_{index % 2}" / f"{index:04d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            natural_image((3000, 2000), generator).save(path, quality=90)
    return folder


@pytest.mark.parametrize("crop_scale", ["[0.25,1.0]", "[0.08,1.0]", "null"])
def test_large_photographs_exact_and_reduced(benchmark: Any, large: Path, crop_scale: str) -> None:
    of_data = [f"data.root={large}", f"data.image_size={SIZE}", f"data.batch_size={LARGE}", "data.workers=0"]
    of_pixels = [f"augment.train.crop_scale={crop_scale}", "augment.train.rand_augment=null", "augment.train.erasing=0"]
    loaders = {}
    for decode in ("exact", "reduced"):
        recipe = load_recipe("classification/vit_small", [*of_data, *of_pixels, f"data.decode={decode}"])
        loaders[decode] = recipe.kind.load().build(recipe).train_dataloader()
    seconds: dict[str, list[float]] = {decode: [] for decode in loaders}

    def both() -> None:
        epoch = len(seconds["exact"])
        for decode, loader in loaders.items():
            loader.batch_sampler.set_epoch(epoch)
            start = time.process_time()
            assert sum(len(batch["image"]) for batch in loader) == LARGE
            seconds[decode].append(time.process_time() - start)

    benchmark.pedantic(both, rounds=ROUNDS)
    ratios = [exact / reduced for exact, reduced in zip(*seconds.values(), strict=True)]
    speeds = {decode: LARGE / statistics.median(values) for decode, values in seconds.items()}
    benchmark.extra_info |= {"crop_scale": crop_scale, "ratios": [round(ratio, 2) for ratio in ratios]}
    print(
        f"\ncrop_scale={crop_scale}: exact {speeds['exact']:.1f} images a second of the processor, reduced "
        f"{speeds['reduced']:.1f}; {statistics.median(ratios):.2f} x ({min(ratios):.2f} to {max(ratios):.2f})"
    )
