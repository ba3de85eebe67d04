"""From a list of samples to batches, and what happens to an image that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from vision_train.data.decode import BadImageError, decode
from vision_train.data.sampler import Position, TrainingSampler
from vision_train.errors import UserError
from vision_train.seeds import derive_seed

Pixels = NDArray[np.uint8]
Batch = dict[str, Any]
Transform = Callable[[Pixels, int], torch.Tensor]
"""(H W 3 pixels, seed of this image in this epoch) -> 3 H W float32."""

_BAD = "bad_images"  # travels with a batch from the workers; the loader takes it out


@dataclass(frozen=True, slots=True)
class Sample:
    """One image and what is known about it."""

    id: str
    """Unique in the data set; for files the path below the root, or as the user gave it."""
    image: str | Pixels
    """Path of the file, or the pixels themselves (H W 3)."""
    label: str | None = None
    """Name of the class; None where unknown."""
    split: str | None = None
    """`train`, `val` or `test`; None where the source does not say."""

    @property
    def identity(self) -> str:
        """The same for the same image, whatever list names it: the file that its path leads to, or its id."""
        if not isinstance(self.image, str):
            return self.id
        try:
            file = Path(self.image).stat()  # much cheaper than resolving the path
        except OSError:
            return self.image
        return f"{file.st_dev}:{file.st_ino}"


SKIP_BY_RECIPE = "set data.on_bad_image=skip"
"""How a recipe lets unreadable images be skipped; a verb with a flag for it says so instead."""


class ImageDataset(Dataset[dict[str, Any]]):
    """Decodes and transforms one sample at a time.

    An unreadable image is not an exception here, since it would reach the user as the traceback of a worker. It becomes
    a note in the item, which :class:`ImageLoader` raises or counts in the training process. Under the policy ``skip``
    the next readable image of the data set takes its place.

    Args:
        samples: In their fixed order.
        classes: Names of the classes; a label is a place in this list.
        transform: Applied to the decoded pixels.
        seed: Of the run.
        on_bad_image: The policy.
        skip_with: What the user does to choose ``skip``, for the message.

    Attributes:
        skipped: Unreadable files met so far and why, filled in the training process.
    """

    def __init__(
        self,
        samples: list[Sample],
        classes: list[str],
        transform: Transform,
        seed: int,
        on_bad_image: Literal["error", "skip"],
        skip_with: str = SKIP_BY_RECIPE,
    ) -> None:
        self.samples = samples
        self.transform = transform
        self.seed = seed
        self.on_bad_image = on_bad_image
        self.skip_with = skip_with
        self.skipped: dict[str, str] = {}
        self._class_index = {name: index for index, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        index, epoch = position
        bad: dict[str, str] = {}
        attempts = len(self.samples) if self.on_bad_image == "skip" else 1
        for offset in range(attempts):
            sample = self.samples[(index + offset) % len(self.samples)]
            try:
                pixels = decode(sample.image) if isinstance(sample.image, str) else sample.image
            except BadImageError as error:
                bad[str(sample.image)] = str(error)
                continue
            seed = derive_seed(self.seed, "augmentation", epoch, index)
            item: dict[str, Any] = {
                "id": sample.id,
                "image": self.transform(pixels, seed),
                "size": pixels.shape[:2],
                _BAD: bad,
            }
            if sample.label is not None:
                item["label"] = self._class_index[sample.label]
            return item
        return {_BAD: bad}

    def note_bad_images(self, bad: dict[str, str]) -> None:
        """Raise or count, by the policy, what the workers could not read.

        Raises:
            UserError: The policy is ``error``; the message names the first file.
        """
        if bad and self.on_bad_image == "error":
            path, reason = next(iter(bad.items()))
            raise unreadable_image(f"{path}: {reason}", self.skip_with)
        self.skipped.update(bad)


def unreadable_image(described: str, skip_with: str = SKIP_BY_RECIPE, *, shared: bool = False) -> UserError:
    """The error about an image, given as ``path: reason``; ``shared`` where every process raises it."""
    remedy = f"Repair or remove it, or {skip_with} to go on without it"
    return UserError(f"unreadable image {described}. {remedy}", shared=shared)


def collate(items: list[dict[str, Any]]) -> Batch:
    """Items -> batch of `id`, `image` (B 3 H W), `size` and, where known, `label` (B)."""
    bad = {path: reason for item in items for path, reason in item[_BAD].items()}
    if any("image" not in item for item in items):
        return {_BAD: bad}
    batch: Batch = {
        "id": [item["id"] for item in items],
        "image": torch.stack([item["image"] for item in items]),
        "size": [item["size"] for item in items],
        _BAD: bad,
    }
    if "label" in items[0]:
        batch["label"] = torch.tensor([item["label"] for item in items], dtype=torch.int64)
    return batch


class ImageLoader(DataLoader[Batch]):
    """A loader whose batches hold the contract's keys alone; bad images are dealt with in this process."""

    dataset: ImageDataset

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator serves where torch names its own type
        for batch in super().__iter__():
            self.dataset.note_bad_images(batch.pop(_BAD))
            if "image" not in batch:
                some = ", ".join(list(self.dataset.skipped)[:3])
                raise UserError(
                    f"none of the {len(self.dataset)} images of a split can be read, among them {some}; mend them, or "
                    "divide the images otherwise"
                )
            batch["size"] = [tuple(size) for size in batch["size"]]  # pinning memory turns tuples into lists
            if isinstance(self.sampler, TrainingSampler):
                self.sampler.cursor += 1
            yield batch


def image_loader(
    dataset: ImageDataset, sampler: TorchSampler[Position], batch_size: int, workers: int, keep_workers: bool = False
) -> ImageLoader:
    """Load ``dataset`` in the sampler's order.

    Args:
        dataset: Where items come from.
        sampler: Yields (index, epoch).
        batch_size: Images per batch; the last one may be smaller.
        workers: Loader processes, 0 for none; at most as many are started as there are processors to run them.
        keep_workers: Keep them between passes, for a loader that is run every epoch.
    """
    workers = min(workers, _usable_processors())
    return ImageLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=keep_workers and workers > 0,
        # Of its own, or every pass would draw from torch's global generator.
        generator=torch.Generator().manual_seed(dataset.seed),
    )


def _usable_processors() -> int:
    """Processors that this process may use; a container or scheduler often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
