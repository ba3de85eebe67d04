"""Samples of a recipe, split by split, as batches: what all kinds of data have in common."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pytorch_lightning import LightningDataModule
from pytorch_lightning.utilities.combined_loader import CombinedLoader

from vision_train.data.dataset import SampleDataset, SampleLoader, sample_loader
from vision_train.data.kind import DataSection
from vision_train.data.labels import listed_classes, name_doubts
from vision_train.data.sample import Sample
from vision_train.data.sampler import EvaluationSampler, TrainingBatches
from vision_train.errors import UserError

POOL_SPLIT = "unlabelled"
"""The split of the samples that are learnt from without labels, and the stream that draws two views of each."""
PSEUDO_SPLIT = "pseudo-labelled"
"""Those of them that have got a label from a network, and the stream that draws them beside labelled samples."""


@dataclass(frozen=True)
class Stream:
    """Samples that a training step draws from."""

    split: str
    """The split that holds them."""
    batch_size: int
    """Samples per process and step."""


class SampleDataModule(LightningDataModule):
    """Samples of one recipe, split by split, as batches; a child says what reads them.

    Everything is listed and checked at construction, before any process is launched. Loaders follow the attached
    trainer's rank and world size; the trainer must be told ``use_distributed_sampler=False``, since the samplers here
    share out the samples themselves.

    A training step draws from one stream, whose batches it gets as they are, or from several: then it gets a mapping
    from their names to their batches. An epoch is as long as ``data.epoch_batches`` says, or one pass over the split
    ``epoch_of``, or over the first stream; streams that do not decide it themselves go on across epochs.

    Args:
        section: The recipe's ``data``, with what the samples themselves say filled in.
        seed: Seed of the run.
        splits: The samples, by split. ``train`` is trained on, ``val`` chooses the best epoch, ``test`` judges it where
            there is one.
        classes: The label map; empty where nothing has a label.
        streams: What a training step draws from, by name; None for ``train`` alone.
        epoch_of: The split of which an epoch is one pass, and the samples that are taken of it for each batch; None for
            the first stream.

    Attributes:
        classes: The label map: a label is a place in this list.
        notes: What the user should know about the samples.
        warnings: What is likely to be wrong about them, or about how they are prepared.
        preparation: Who says how they are prepared, and what is assumed, in sentences.
        left_out: Samples that were taken out by :meth:`leave_out`.
        drawn_from: Split -> all of its samples, where ``data.labels_per_class`` drew some of them.
        pool_copies: Unlabelled samples that are copies of labelled ones that are trained on.
        after_views: What is done to the views of unlabelled samples before they are learnt, in words.
    """

    noun: str
    """What the samples are, in the plural."""
    repeats: ClassVar[str] = "are copies of"
    """What samples are to those of another split that have the same file, before these are named."""
    listed: ClassVar[str] = "classes"
    """What :meth:`class_lines` lists."""
    companions: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """Split -> splits that are evaluated along with it, in loaders of their own."""

    def __init__(
        self,
        section: DataSection,
        seed: int,
        splits: Mapping[str, Sequence[Sample]],
        classes: list[str],
        streams: Mapping[str, Stream] | None = None,
        epoch_of: Stream | None = None,
    ) -> None:
        super().__init__()
        self.section = section
        self.seed = seed
        self.classes = classes
        self.streams = dict(streams or {"train": Stream("train", section.batch_size)})
        self.epoch_of = epoch_of
        self.notes: list[str] = []
        self.warnings: list[str] = []
        self.preparation: list[str] = []
        self.left_out: list[Sample] = []
        self.drawn_from: dict[str, Sequence[Sample]] = {}
        self.pool_copies = 0
        self.after_views = ""
        self._samples = dict(splits)
        self._datasets: list[SampleDataset] = []
        self._states: dict[str, dict[str, int]] = {}
        self._orders: dict[str, TrainingBatches] = {}

    def make_dataset(self, samples: Sequence[Any], *, stream: str | None, alone: bool) -> SampleDataset:
        """A data set of some of the samples.

        Args:
            samples: In their fixed order.
            stream: The stream that they are trained on in, which augments them where that is wanted; None where they
                are evaluated.
            alone: Whether this process is the only one. A process that stopped alone would leave others waiting, so
                with several of them bad samples are skipped, and they agree on it between steps.
        """
        raise NotImplementedError

    def batch_groups(self, samples: Sequence[Any]) -> Sequence[int] | None:
        """The group of each sample where a training batch draws from one group alone; None where any go together."""
        return None

    def described(self) -> str:
        """How many samples there are, in words."""
        raise NotImplementedError

    @property
    def class_counts(self) -> dict[str, dict[str, int]]:
        """Samples of each class in each split that has samples with a class; empty where nothing has one."""
        held = {
            split: Counter(sample.truth for sample in samples if isinstance(sample.truth, str))
            for split, samples in self._samples.items()
        }
        labelled = {split: counts for split, counts in held.items() if counts}
        return {name: {split: counts[name] for split, counts in labelled.items()} for name in self.classes}

    def class_lines(self) -> list[str]:
        """The classes with their counts; none without any."""
        return [listed_classes(self.class_counts)] if self.classes else []

    def class_doubts(self) -> list[str]:
        """Warnings of names that are rarely those of classes."""
        return name_doubts(self.classes, getattr(self.section, "classes", None) or (), self.section.named())

    @property
    def counts(self) -> dict[str, int]:
        """Samples in each split."""
        return {name: len(samples) for name, samples in self._samples.items()}

    def samples(self, split: str) -> Sequence[Sample]:
        """Samples of a split, in their fixed order.

        Raises:
            UserError: There is no such split.
        """
        if split not in self._samples:
            beside = {name for names in self.companions.values() for name in names}
            known = [name for name in self._samples if name not in beside]
            raise UserError(f"unknown split `{split}`; there are {', '.join(known)}")
        return self._samples[split]

    def leave_out(self, split: str, identities: Collection[str]) -> None:
        """Take samples out of a split, given by :attr:`Sample.identity`, that a later phase is measured on.

        Raises:
            UserError: None would be left.
        """
        if not identities:
            return
        if all(sample.identity in identities for sample in self._samples[split]):
            raise UserError(
                f"{self.section.named()}: all {self.noun} of its {split} split are among those that a later phase is "
                "measured on; name others"
            )
        self.left_out += self.take_out(split, identities)

    def take_out(self, split: str, identities: Collection[str]) -> list[Sample]:
        """Take samples out of a split, given by :attr:`Sample.identity`, and return them."""
        members = self._samples[split]
        self._samples[split] = [sample for sample in members if sample.identity not in identities]
        if split in self.drawn_from:
            self.drawn_from[split] = [each for each in self.drawn_from[split] if each.identity not in identities]
        return [sample for sample in members if sample.identity in identities]

    @property
    def skipped(self) -> dict[str, str]:
        """Unreadable samples that this process has skipped so far, with the reasons."""
        return {name: reason for dataset in self._datasets for name, reason in dataset.skipped.items()}

    def refusal(self, bad: Mapping[str, str]) -> UserError:
        """The error about unreadable samples of all processes, which all of them raise."""
        return self._datasets[0].refusal(bad, shared=True)

    def smallest_batch(self, processes: int) -> int:
        """Samples of the first stream, which alone is mixed, in a batch of each of so many processes.

        Raises:
            UserError: Some process would have nothing to train on.
        """
        for stream in self.streams.values():
            samples = self.counts[stream.split]
            if processes > samples:
                raise UserError(
                    f"{processes} processes for {samples} training {self.noun}; lower trainer.devices (or "
                    "trainer.num_nodes) so that each process has one"
                )
        return self._first_order(processes).step_size // processes

    def batches_per_epoch(self, processes: int) -> int:
        """Training batches that each of so many processes sees in an epoch."""
        return len(self._first_order(processes))

    def step_sizes(self, processes: int) -> dict[str, int]:
        """Samples that so many processes together draw for each batch, by stream."""
        return {name: self._order(name, 0, processes).step_size for name in self.streams}

    def never_drawn(self, processes: int, epochs: int, batches: int, last: int) -> int:
        """How many samples of the first stream no step sees; as :meth:`TrainingBatches.never_drawn`."""
        return self._first_order(processes).never_drawn(epochs, batches, last)

    def _first_order(self, processes: int) -> TrainingBatches:
        return self._order(next(iter(self.streams)), 0, processes)

    def evaluation_batches(self, split: str, processes: int) -> int:
        """Batches that each of so many processes evaluates for a split, its companions included."""
        lengths = [len(EvaluationSampler(self.counts[name], 0, processes)) for name in self._with_companions(split)]
        return sum(-(-length // self.section.evaluation_batch_size) for length in lengths)

    def train_dataloader(self) -> SampleLoader | CombinedLoader:
        """Shuffled, augmented batches of the only stream, or of all of them by name."""
        loaders = {name: self.stream_loader(name) for name in self.streams}
        return next(iter(loaders.values())) if len(loaders) == 1 else CombinedLoader(loaders, "min_size")

    def stream_loader(self, name: str) -> SampleLoader:
        """Shuffled, augmented batches of one stream."""
        stream = self.streams[name]
        order = self._order(name, *self._rank_and_world_size())
        if name in self._states:
            order.load_state_dict(self._states[name])
        self._orders[name] = order
        dataset = self._dataset(self._samples[stream.split], stream=name)
        return sample_loader(dataset, order, stream.batch_size, self.section.workers, seed=self.seed, keep_workers=True)

    def _order(self, name: str, rank: int, world_size: int) -> TrainingBatches:
        first, stream = next(iter(self.streams)), self.streams[name]
        samples = self._samples[stream.split]
        options: dict[str, Any] = {"groups": self.batch_groups(samples)}
        batches = self._given_batches(world_size)
        if name == first:
            options["classes"] = [str(sample.truth) for sample in samples] if self.section.balanced else None
        else:
            batches = batches or len(self._order(first, rank, world_size))
            options["purpose"] = f"shuffling of {name}"
        return TrainingBatches(len(samples), stream.batch_size, self.seed, rank, world_size, batches=batches, **options)

    def _given_batches(self, world_size: int) -> int | None:
        """Batches of an epoch, where the first stream does not decide them."""
        if self.section.epoch_batches is not None or self.epoch_of is None:
            return self.section.epoch_batches
        return -(-self.counts[self.epoch_of.split] // (self.epoch_of.batch_size * world_size))

    def val_dataloader(self) -> list[SampleLoader]:
        """Validation samples in order, then their companions."""
        names = self._with_companions("val")
        return [self._eval_loader(self._samples[name], keep_workers=name == "val") for name in names]

    def evaluation_loaders(self, split: str) -> list[SampleLoader]:
        """Samples of a split in order, without random augmentation, then their companions.

        Raises:
            UserError: There is no such split.
        """
        return [self.split_loader(name) for name in self._with_companions(split)]

    def views_loader(self, samples: Sequence[Sample], views: int, rank: int, world_size: int) -> SampleLoader:
        """Samples in order under several views (:meth:`make_views`), this process's share of them.

        Args:
            samples: In their fixed order. Of their truth, if they have one, nothing is in the batches.
            views: Weak and as many strong views of each sample, beside that of validation.
            rank: Number of this process.
            world_size: Number of processes.
        """
        dataset = self.make_views(samples, views, alone=world_size == 1)
        order = EvaluationSampler(len(samples), rank, world_size)
        return sample_loader(dataset, order, self.section.evaluation_batch_size, self.section.workers, seed=self.seed)

    def make_views(self, samples: Sequence[Any], views: int, *, alone: bool) -> SampleDataset:
        """A data set whose batches hold ``views``, a list of batches of the same samples, that of validation first.

        Args:
            samples: In their fixed order.
            views: Weak and as many strong views beside that one.
            alone: As for :meth:`make_dataset`.
        """
        raise NotImplementedError

    def split_loader(self, split: str) -> SampleLoader:
        """Samples of one split in order, without random augmentation.

        Raises:
            UserError: There is no such split.
        """
        return self._eval_loader(self.samples(split))

    def _with_companions(self, split: str) -> list[str]:
        return [split, *(name for name in self.companions.get(split, ()) if name in self._samples)]

    def state_dict(self) -> dict[str, Any]:
        """Position of each stream: seed, epoch and batches handed out (cursor)."""
        return {"streams": {**self._states, **{name: order.state_dict() for name, order in self._orders.items()}}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at positions saved by :meth:`state_dict`.

        Raises:
            UserError: The checkpoint knows other streams.
        """
        # Earlier versions had one stream, and its state alone.
        states = state_dict.get("streams") or {next(iter(self.streams)): state_dict}
        if states.keys() != self.streams.keys():
            raise UserError(
                f"the last checkpoint knows the streams {', '.join(states)}, and not {', '.join(self.streams)}"
            )
        self._states = states
        for name, order in self._orders.items():
            order.load_state_dict(states[name])

    def _eval_loader(self, samples: Sequence[Sample], keep_workers: bool = False) -> SampleLoader:
        dataset = self._dataset(samples, stream=None)
        order = EvaluationSampler(len(dataset), *self._rank_and_world_size())
        batch_size, workers = self.section.evaluation_batch_size, self.section.workers
        return sample_loader(dataset, order, batch_size, workers, seed=self.seed, keep_workers=keep_workers)

    def _dataset(self, samples: Sequence[Sample], *, stream: str | None) -> SampleDataset:
        dataset = self.make_dataset(samples, stream=stream, alone=self._rank_and_world_size()[1] == 1)
        self._datasets.append(dataset)
        return dataset

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
