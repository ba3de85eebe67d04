"""From a list of samples to batches, and what happens to a sample that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from augment.geometry import View
from vision_train.data.decode import decode
from vision_train.data.sampler import Position, TrainingSampler
from vision_train.errors import BadSampleError, UserError
from vision_train.seeds import derive_seed

Pixels = NDArray[np.uint8]
Batch = dict[str, Any]
Transform = Callable[[View[Pixels], int], View[torch.Tensor]]
"""(view of H W 3 pixels, seed of this image in this epoch) -> view of 3 H W float32."""
OnBad = Literal["error", "skip"]
"""What a sample that cannot be read does."""

BAD = "bad"
"""Travels with an item and a batch from the workers; the loader takes it out."""


class Divisible(Protocol):
    """A sample, or what stands for several that stay together."""

    @property
    def id(self) -> str:
        """Unique in its split."""

    @property
    def label(self) -> str | None:
        """Name of the class; None where unknown."""

    @property
    def split(self) -> str | None:
        """`train`, `val` or `test`; None where the source does not say."""


class Sample(Divisible, Protocol):
    """One image or bag and what is known about it."""

    @property
    def place(self) -> str:
        """Where it lies, for messages and records; empty for what is in memory."""

    @property
    def identity(self) -> str:
        """The same for the same thing, whatever list names it."""


@dataclass(frozen=True, slots=True)
class ImageSample:
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
    def place(self) -> str:
        """Path of the file; empty for pixels in memory."""
        return self.image if isinstance(self.image, str) else ""

    @property
    def identity(self) -> str:
        """The same for the same image, whatever list names it: the file that its path leads to, or its id."""
        return file_identity(Path(self.image)) if isinstance(self.image, str) else self.id


def file_identity(path: Path) -> str:
    """The same for all paths that lead to one file; the path itself where there is none."""
    try:
        file = path.stat()  # much cheaper than resolving the path
    except OSError:
        return str(path)
    return f"{file.st_dev}:{file.st_ino}"


class SampleDataset(Dataset[dict[str, Any]]):
    """Reads one sample at a time; a child says how, and how items become a batch.

    A sample that cannot be read is not an exception here, since it would reach the user as the traceback of a worker.
    It becomes a note in the item, which :class:`SampleLoader` raises or counts in the training process. Under the
    policy ``skip`` the next readable sample of the data set takes its place.

    Args:
        samples: In their fixed order.
        classes: Names of the classes; a label is a place in this list.
        on_bad: The policy.
        skip_with: What the user does to choose ``skip``, for the message.

    Attributes:
        skipped: What could not be read so far and why, filled in the training process.
    """

    noun: str
    """What the samples are, in the plural."""

    def __init__(self, samples: Sequence[Sample], classes: list[str], on_bad: OnBad, skip_with: str) -> None:
        self.samples = samples
        self.on_bad = on_bad
        self.skip_with = skip_with
        self.skipped: dict[str, str] = {}
        self._class_index = {name: index for index, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        bad: dict[str, str] = {}
        attempts = len(self.samples) if self.on_bad == "skip" else 1
        for offset in range(attempts):
            sample = self.samples[(position[0] + offset) % len(self.samples)]
            try:
                item = {"id": sample.id, **self.read(sample, position), BAD: bad}
            except BadSampleError as error:
                bad[self.named(sample)] = str(error)
                continue
            if sample.label is not None:
                item["label"] = self._class_index[sample.label]
            return item
        return {BAD: bad}

    def named(self, sample: Any) -> str:
        """What messages call a sample."""
        return str(sample.id)

    def read(self, sample: Any, position: Position) -> dict[str, Any]:
        """The contents of one sample.

        Args:
            sample: One of ``samples``.
            position: The place that was asked for, which decides what is random; the sample may stand in for another.

        Raises:
            BadSampleError: It cannot be read.
        """
        raise NotImplementedError

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Items that could be read -> batch, without ``id`` and ``label``."""
        raise NotImplementedError

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about samples that cannot be read, with the reasons; ``shared`` if every process raises it."""
        raise NotImplementedError

    def to_batch(self, items: list[dict[str, Any]]) -> Batch:
        """Items -> batch of ``id``, contents and, where known, ``label`` (B); only the note where one is unreadable."""
        bad = {name: reason for item in items for name, reason in item[BAD].items()}
        if any("id" not in item for item in items):
            return {BAD: bad}
        batch = {"id": [item["id"] for item in items], **self.collate(items), BAD: bad}
        if "label" in items[0]:
            batch["label"] = torch.tensor([item["label"] for item in items], dtype=torch.int64)
        return batch

    def note_bad(self, bad: dict[str, str]) -> None:
        """Raise or count, by the policy, what the workers could not read.

        Raises:
            UserError: The policy is ``error``.
        """
        if bad and self.on_bad == "error":
            raise self.refusal(bad)
        self.skipped.update(bad)


SKIP_BAD_IMAGES = "set data.on_bad_image=skip"
"""How a recipe lets unreadable images be skipped; a verb with a flag for it says so instead."""


class ImageDataset(SampleDataset):
    """Decodes and transforms one image at a time.

    Args:
        samples: In their fixed order.
        classes: Names of the classes; a label is a place in this list.
        transform: Applied to the decoded pixels.
        seed: Of the run.
        on_bad: The policy.
        skip_with: What the user does to choose ``skip``, for the message.
    """

    noun = "images"

    def __init__(
        self,
        samples: list[ImageSample],
        classes: list[str],
        transform: Transform,
        seed: int,
        on_bad: OnBad,
        skip_with: str = SKIP_BAD_IMAGES,
    ) -> None:
        super().__init__(samples, classes, on_bad, skip_with)
        self.transform = transform
        self.seed = seed

    def named(self, sample: ImageSample) -> str:
        """The path of its file."""
        return sample.place or sample.id

    def read(self, sample: ImageSample, position: Position) -> dict[str, Any]:
        """Decode and transform one image."""
        index, epoch = position
        pixels = decode(sample.image) if isinstance(sample.image, str) else sample.image
        seed = derive_seed(self.seed, "augmentation", epoch, index)
        return {"image": self.transform(View.whole(pixels), seed).image, "size": pixels.shape[:2]}

    def collate(self, items: list[dict[str, Any]]) -> Batch:
        """Items -> ``image`` (B 3 H W) and ``size``."""
        return {"image": torch.stack([item["image"] for item in items]), "size": [item["size"] for item in items]}

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about the first of them."""
        path, reason = next(iter(bad.items()))
        remedy = f"Repair or remove it, or {self.skip_with} to go on without it"
        return UserError(f"unreadable image {path}: {reason}. {remedy}", shared=shared)


class SampleLoader(DataLoader[Batch]):
    """A loader whose batches hold the contract's keys alone; bad samples are dealt with in this process."""

    dataset: SampleDataset

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator serves where torch names its own type
        for batch in super().__iter__():
            self.dataset.note_bad(batch.pop(BAD))
            if not batch:
                some = ", ".join(list(self.dataset.skipped)[:3])
                noun = self.dataset.noun
                raise UserError(
                    f"none of the {len(self.dataset)} {noun} of a split can be read, among them {some}; mend them, or "
                    f"divide the {noun} otherwise"
                )
            if "size" in batch:
                batch["size"] = [tuple(size) for size in batch["size"]]  # pinning memory turns tuples into lists
            if isinstance(self.sampler, TrainingSampler):
                self.sampler.cursor += 1
            yield batch


def sample_loader(
    dataset: SampleDataset,
    sampler: TorchSampler[Position],
    batch_size: int,
    workers: int,
    *,
    seed: int = 0,
    keep_workers: bool = False,
) -> SampleLoader:
    """Load ``dataset`` in the sampler's order.

    Args:
        dataset: Where items come from.
        sampler: Yields (index, epoch).
        batch_size: Samples per batch; the last one may be smaller.
        workers: Loader processes, 0 for none; at most as many are started as there are processors to run them.
        seed: Of the run.
        keep_workers: Keep them between passes, for a loader that is run every epoch.
    """
    workers = min(workers, _usable_processors())
    return SampleLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        collate_fn=dataset.to_batch,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=keep_workers and workers > 0,
        # Of its own, or every pass would draw from torch's global generator.
        generator=torch.Generator().manual_seed(seed),
    )


def _usable_processors() -> int:
    """Processors that this process may use; a container or scheduler often grants fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
