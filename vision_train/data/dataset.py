"""From a list of samples to batches, and what happens to a sample that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import Sampler as TorchSampler

from vision_train.data.kind import OnBad
from vision_train.data.sample import Sample
from vision_train.data.sampler import Position, TrainingBatches
from vision_train.errors import BadSampleError, UserError
from vision_train.threads import processors

Batch = dict[str, Any]
BAD = "bad"
"""Travels with an item and a batch from the workers; the loader takes it out."""
REFUSED = "refused"
"""Travels in their place where something ends the run whatever the policy; it is the message of a UserError."""


class SampleDataset(Dataset[dict[str, Any]]):
    """Reads one sample at a time; a child says how, and how items become a batch.

    A sample that cannot be read is not an exception here, since it would reach the user as the traceback of a worker.
    It becomes a note in the item, which :class:`SampleLoader` raises or counts in the training process. Under the
    policy ``skip`` the next readable sample of the data set takes its place. A UserError becomes a note too, which is
    raised under both policies.

    Args:
        samples: In their fixed order; either all of them have a truth or none has.
        on_bad: The policy.

    Attributes:
        skipped: Samples that could not be read so far, with the reasons; filled in the training process.
        notes: What the user should know about how the samples were found.
    """

    noun: str
    """What the samples are, in the plural."""

    def __init__(self, samples: Sequence[Sample], on_bad: OnBad) -> None:
        with_truth = [sample for sample in samples if sample.truth is not None]
        if with_truth and len(with_truth) < len(samples):
            raise ValueError(
                f"{len(with_truth)} of {len(samples)} samples have a truth; give the others a stream of theirs"
            )
        self.samples = samples
        self.has_truth = bool(with_truth)
        self.on_bad = on_bad
        self.skipped: dict[str, str] = {}
        self.notes: list[str] = []

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, position: Position) -> dict[str, Any]:
        bad: dict[str, str] = {}
        attempts = len(self.samples) if self.on_bad == "skip" else 1
        for offset in range(attempts):
            sample = self.samples[(position[0] + offset) % len(self.samples)]
            try:
                return {"id": sample.id, "sample": sample, **self.read(sample, position), BAD: bad}
            except BadSampleError as error:
                bad[self.named(sample)] = str(error)
            except UserError as error:
                return {BAD: bad, REFUSED: str(error)}
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
        """Items that could be read -> batch, without ``id`` and truth."""
        raise NotImplementedError

    def collate_truth(self, truths: list[Any]) -> Batch:
        """Truths of the samples of a batch -> their part of the batch."""
        raise NotImplementedError

    def refusal(self, bad: Mapping[str, str], *, shared: bool = False) -> UserError:
        """The error about samples that cannot be read, with the reasons; ``shared`` if every process raises it."""
        raise NotImplementedError

    def to_batch(self, items: list[dict[str, Any]]) -> Batch:
        """Items -> batch of ``id``, contents and truth; only the note where one is unreadable.

        Samples of known groups add ``group`` (list of str).
        """
        bad = {name: reason for item in items for name, reason in item[BAD].items()}
        if refused := next((item[REFUSED] for item in items if REFUSED in item), None):
            return {BAD: bad, REFUSED: refused}
        if any("id" not in item for item in items):
            return {BAD: bad}
        samples = [item["sample"] for item in items]
        batch = {"id": [item["id"] for item in items], **self.collate(items), BAD: bad}
        if any(sample.group is not None for sample in samples):
            batch["group"] = [sample.group or sample.id for sample in samples]
        if self.has_truth:
            batch |= self.collate_truth([sample.truth for sample in samples])
        return batch

    def note_bad(self, bad: dict[str, str]) -> None:
        """Raise or count, by the policy, what the workers could not read.

        Raises:
            UserError: The policy is ``error``.
        """
        if bad and self.on_bad == "error":
            raise self.refusal(bad)
        self.skipped.update(bad)


class ClassLabels:
    """Truths that are names of classes -> ``label`` (B, int64).

    Args:
        classes: Names of the classes; a label is a place in this list.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self._index = {name: index for index, name in enumerate(classes)}

    def __call__(self, truths: list[str]) -> Batch:
        """The labels of a batch."""
        return {"label": torch.tensor([self._index[name] for name in truths], dtype=torch.int64)}


class SampleLoader(DataLoader[Batch]):
    """A loader whose batches hold the contract's keys alone; bad samples are dealt with in this process."""

    dataset: SampleDataset

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # a generator serves where torch names its own type
        for batch in super().__iter__():
            if REFUSED in batch:
                raise UserError(batch[REFUSED])
            self.dataset.note_bad(batch.pop(BAD))
            if not batch:
                some = ", ".join(list(self.dataset.skipped)[:3])
                noun = self.dataset.noun
                raise UserError(
                    f"none of the {len(self.dataset)} {noun} can be read, among them {some}; mend them, or name others"
                )
            if "size" in batch:
                batch["size"] = [tuple(size) for size in batch["size"]]  # pinning memory turns tuples into lists
            if isinstance(self.batch_sampler, TrainingBatches):
                self.batch_sampler.cursor += 1
            yield batch


def sample_loader(
    dataset: SampleDataset,
    order: TrainingBatches | TorchSampler[Position],
    batch_size: int,
    workers: int,
    *,
    seed: int = 0,
    keep_workers: bool = False,
) -> SampleLoader:
    """Load ``dataset`` in a given order.

    Args:
        dataset: Where items come from.
        order: Yields whole batches of (index, epoch), or single pairs.
        batch_size: Samples per batch where ``order`` yields single pairs; the last one may be smaller.
        workers: Loader processes, 0 for none; at most as many are started as there are processors to run them.
        seed: Seed of the run.
        keep_workers: Keep them between passes, for a loader that is run every epoch.
    """
    workers = min(workers, processors().count)
    whole = isinstance(order, TrainingBatches)
    batches: dict[str, Any] = {"batch_sampler": order} if whole else {"batch_size": batch_size, "sampler": order}
    return SampleLoader(
        dataset,
        **batches,
        num_workers=workers,
        collate_fn=dataset.to_batch,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=keep_workers and workers > 0,
        worker_init_fn=_compute_alone,
        # A generator of the loader's own: without it every pass would draw from torch's global one.
        generator=torch.Generator().manual_seed(seed),
    )


def _compute_alone(worker: int) -> None:
    """Let a worker compute with one thread: torch sees to that for itself alone, and OpenCV takes every processor."""
    import cv2

    cv2.setNumThreads(1)
