"""Samples of a recipe, split by split, as batches: what images and bags have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from pytorch_lightning import LightningDataModule

from vision_train.data.dataset import OnBad, Sample, SampleDataset, SampleLoader, sample_loader
from vision_train.data.sampler import EvaluationSampler, TrainingSampler
from vision_train.errors import UserError
from vision_train.recipe.data_section import Data

PROBE_SPLITS = ("probe_train", "probe_val")
"""Labelled samples that measure features: what a probe learns from, and what it is measured on."""


class SampleDataModule(LightningDataModule):
    """Samples of one recipe, split by split, as batches; a child says what reads them.

    Everything is listed and checked at construction, before any process is launched. Loaders follow the attached
    trainer's rank and world size; the trainer must be told ``use_distributed_sampler=False``, since the samplers here
    share out the samples themselves.

    Args:
        data: Batch size, workers and policy for bad samples; of bags also what their features are.
        seed: Of the run.
        splits: The samples, by split. ``train`` is trained on, ``val`` chooses the best epoch, ``test`` judges it where
            there is one; ``probe_train`` and ``probe_val``, where there are any, accompany ``val``.
        classes: The label map; empty where nothing has a label.

    Attributes:
        classes: The label map: a label is a place in this list.
        notes: What whoever starts a run should know about its samples.
        left_out: Samples that were taken out by :meth:`leave_out`.
    """

    noun: str
    """What the samples are, in the plural."""

    def __init__(self, data: Data, seed: int, splits: Mapping[str, Sequence[Sample]], classes: list[str]) -> None:
        super().__init__()
        self.data = data
        self.seed = seed
        self.classes = classes
        self.notes: list[str] = []
        self.left_out: list[Sample] = []
        self._samples = dict(splits)
        self._datasets: list[SampleDataset] = []
        self._sampler_state: dict[str, int] = {"seed": seed, "epoch": 0, "cursor": 0}
        self._train_sampler: TrainingSampler | None = None

    def make_dataset(self, samples: Sequence[Any], *, training: bool, alone: bool) -> SampleDataset:
        """A data set of some of the samples.

        Args:
            samples: In their fixed order.
            training: Whether they are trained on, and augmented where that is wanted.
            alone: Whether this process is the only one. A process that stopped alone would leave others waiting, so
                with several of them bad samples are skipped, and they agree on it between steps.
        """
        raise NotImplementedError

    def described(self) -> str:
        """How many samples there are, in words."""
        raise NotImplementedError

    @property
    def on_bad(self) -> OnBad:
        """The policy for bad samples."""
        raise NotImplementedError

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
            known = [name for name in self._samples if name not in PROBE_SPLITS]
            raise UserError(f"unknown split `{split}`; there are {', '.join(known)}")
        return self._samples[split]

    def leave_out(self, split: str, identities: Collection[str]) -> None:
        """Take samples out of a split, given by :attr:`Sample.identity`.

        Raises:
            UserError: None would be left.
        """
        if not identities:
            return
        kept: list[Sample] = []
        for sample in self._samples[split]:
            (self.left_out if sample.identity in identities else kept).append(sample)
        if not kept:
            key = "labels" if self.data.labels else "root" if self.data.root else "source"
            raise UserError(
                f"data.{key} {getattr(self.data, key)}: all {self.noun} of its {split} split are among those that a "
                f"later phase is measured on; name others"
            )
        self._samples[split] = kept

    @property
    def skipped(self) -> dict[str, str]:
        """Unreadable samples that this process has skipped so far, with the reasons."""
        return {name: reason for dataset in self._datasets for name, reason in dataset.skipped.items()}

    def refusal(self, bad: Mapping[str, str]) -> UserError:
        """The error about unreadable samples of all processes, which all of them raise."""
        return self._datasets[0].refusal(bad, shared=True)

    def check_processes(self, processes: int) -> None:
        """Refuse more training processes than training samples.

        Raises:
            UserError: Some process would have nothing to train on.
        """
        samples = self.counts["train"]
        if processes > samples:
            raise UserError(
                f"{processes} processes for {samples} training {self.noun}; lower trainer.devices (or "
                f"trainer.num_nodes) so that each process has one"
            )

    def batches_per_epoch(self, processes: int) -> int:
        """Training batches that each of so many processes sees in an epoch."""
        samples = len(TrainingSampler(self.counts["train"], self.data.batch_size, self.seed, 0, processes))
        return -(-samples // self.data.batch_size)

    def train_dataloader(self) -> SampleLoader:
        """Shuffled, augmented batches."""
        rank, world_size = self._rank_and_world_size()
        dataset = self._dataset(self._samples["train"], training=True)
        sampler = TrainingSampler(len(dataset), self.data.batch_size, self.seed, rank, world_size)
        sampler.load_state_dict(self._sampler_state)
        self._train_sampler = sampler
        return sample_loader(
            dataset, sampler, self.data.batch_size, self.data.workers, seed=self.seed, keep_workers=True
        )

    def val_dataloader(self) -> list[SampleLoader]:
        """Validation samples in order; then those that a probe learns from, and those that it is measured on."""
        return [self._eval_loader(self._samples[name], keep_workers=name == "val") for name in self._with_probe("val")]

    def evaluation_loaders(self, split: str) -> list[SampleLoader]:
        """Samples of a split in order, without random augmentation; those of the probe go with ``val``.

        Raises:
            UserError: There is no such split.
        """
        return [self.split_loader(name) for name in self._with_probe(split)]

    def split_loader(self, split: str) -> SampleLoader:
        """Samples of one split in order, without random augmentation.

        Raises:
            UserError: There is no such split.
        """
        return self._eval_loader(self.samples(split))

    def _with_probe(self, split: str) -> list[str]:
        probe = [name for name in PROBE_SPLITS if name in self._samples]
        return [split, *probe] if split == "val" else [split]

    def state_dict(self) -> dict[str, Any]:
        """Position of the training sampler: seed, epoch and batches handed out (cursor)."""
        return self._sampler_state if self._train_sampler is None else self._train_sampler.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue at a position saved by :meth:`state_dict`."""
        self._sampler_state = state_dict
        if self._train_sampler is not None:
            self._train_sampler.load_state_dict(state_dict)

    def _eval_loader(self, samples: Sequence[Sample], keep_workers: bool = False) -> SampleLoader:
        dataset = self._dataset(samples, training=False)
        sampler = EvaluationSampler(len(dataset), *self._rank_and_world_size())
        return sample_loader(
            dataset, sampler, self.data.batch_size, self.data.workers, seed=self.seed, keep_workers=keep_workers
        )

    def _dataset(self, samples: Sequence[Sample], *, training: bool) -> SampleDataset:
        dataset = self.make_dataset(samples, training=training, alone=self._rank_and_world_size()[1] == 1)
        self._datasets.append(dataset)
        return dataset

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)
