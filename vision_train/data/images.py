"""Images as batches, and labelled ones from a recipe to these."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import asdict
from typing import Any

from pytorch_lightning import LightningDataModule

from augment.pipeline import eval_pipeline, train_pipeline
from vision_train.data.dataset import SKIP_BY_RECIPE, ImageDataset, ImageLoader, Sample, Transform, image_loader
from vision_train.data.sampler import EvaluationSampler, TrainingSampler
from vision_train.data.sources import read_samples
from vision_train.data.splits import Splits, divide, draw_labels_per_class, label_map, whole_split
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment, Data

PROBE_SPLITS = ("probe_train", "probe_val")
"""Labelled images that measure features: what a probe learns from, and what it is measured on."""


class ImageDataModule(LightningDataModule):
    """Images of one recipe, split by split, as batches.

    Everything is listed and checked at construction, before any process is launched. Loaders follow the attached
    trainer's rank and world size; the trainer must be told ``use_distributed_sampler=False``, since the samplers here
    share out the images themselves.

    Args:
        data: Batch size, workers, image size and policy for bad images.
        augment: What to do to the images.
        seed: Of the run.
        splits: The images, by split. ``train`` is trained on, ``val`` chooses the best epoch, ``test`` judges it where
            there is one; ``probe_train`` and ``probe_val``, where there are any, accompany ``val``.
        classes: The label map; empty where nothing has a label.

    Attributes:
        classes: The label map: a label is a place in this list.
        notes: What whoever starts a run should know about its images.
        left_out: Images that were taken out by :meth:`leave_out`.

    Raises:
        UserError: The augmentation cannot be built.
    """

    def __init__(self, data: Data, augment: Augment, seed: int, splits: Splits, classes: list[str]) -> None:
        super().__init__()
        self.data = data
        self.augment = augment
        self.seed = seed
        self.classes = classes
        self.notes: list[str] = []
        self.left_out: list[Sample] = []
        self._samples = splits
        self._datasets: list[ImageDataset] = []
        self._sampler_state: dict[str, int] = {"seed": seed, "epoch": 0, "cursor": 0}
        self._train_sampler: TrainingSampler | None = None
        self._train_transform = _train_transform(data, augment)
        self._eval_transform = _eval_transform(data, augment)

    @property
    def counts(self) -> dict[str, int]:
        """Images in each split."""
        return {name: len(samples) for name, samples in self._samples.items()}

    def described(self) -> str:
        """How many images there are, in words."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items() if split not in PROBE_SPLITS)
        if "test" in self.counts:
            return f"{counts} images of {len(self.classes)} classes"
        if not self.classes:
            return f"{counts} images without labels"
        learnt, measured = (self.counts[split] for split in PROBE_SPLITS)
        return (
            f"{counts} images without labels; {learnt:,} of {len(self.classes)} classes for the linear probe, which is "
            f"measured on {measured:,}"
        )

    def samples(self, split: str) -> list[Sample]:
        """Images of a split, in their fixed order.

        Raises:
            UserError: There is no such split.
        """
        if split not in self._samples:
            known = [name for name in self._samples if name not in PROBE_SPLITS]
            raise UserError(f"unknown split `{split}`; there are {', '.join(known)}")
        return self._samples[split]

    def leave_out(self, split: str, images: Collection[str]) -> None:
        """Take images out of a split, given by their identities; see :attr:`Sample.identity`.

        Raises:
            UserError: None would be left.
        """
        if not images:
            return
        kept: list[Sample] = []
        for sample in self._samples[split]:
            (self.left_out if sample.identity in images else kept).append(sample)
        if not kept:
            key = "labels" if self.data.labels else "root" if self.data.root else "source"
            raise UserError(
                f"data.{key} {getattr(self.data, key)}: every image of its {split} split is one that a later phase is "
                "measured on; name other images"
            )
        self._samples[split] = kept

    @property
    def skipped(self) -> list[str]:
        """Unreadable images that this process has skipped so far, each once, as ``path: reason``."""
        reasons = {path: reason for dataset in self._datasets for path, reason in dataset.skipped.items()}
        return [f"{path}: {reason}" for path, reason in reasons.items()]

    def check_processes(self, processes: int) -> None:
        """Refuse more training processes than training images, or so many that their batches cannot be mixed.

        Raises:
            UserError: Some process would have nothing to train on, or no partner to mix it with.
        """
        images = self.counts["train"]
        if processes > images:
            raise UserError(
                f"{processes} processes for {images} training images; "
                "lower trainer.devices (or trainer.num_nodes) to at most one process per image"
            )
        mixing, batch = self.augment.mixing, min(self.data.batch_size, -(-images // processes))
        shared_out = f"{images} training images make batches of {batch} for each of {processes} process(es)"
        if batch == 1 and mixing.maskmix + mixing.mixup + mixing.cutmix > 0:
            raise UserError(f"{shared_out}, which leaves none to mix with; lower trainer.devices or add images")
        if batch % 2 and mixing.partner == "flip":
            raise UserError(
                f"{shared_out}, but augment.mixing.partner=flip pairs images two by two; "
                f"set data.batch_size={batch - 1} or partner=permutation"
            )

    def batches_per_epoch(self, processes: int) -> int:
        """Training batches that each of so many processes sees in an epoch."""
        images = len(TrainingSampler(self.counts["train"], self.data.batch_size, self.seed, 0, processes))
        return -(-images // self.data.batch_size)

    def train_dataloader(self) -> ImageLoader:
        """Shuffled, augmented batches."""
        rank, world_size = self._rank_and_world_size()
        dataset = self._dataset(self._samples["train"], self._train_transform)
        sampler = TrainingSampler(len(dataset), self.data.batch_size, self.seed, rank, world_size)
        sampler.load_state_dict(self._sampler_state)
        self._train_sampler = sampler
        return image_loader(dataset, sampler, self.data.batch_size, self.data.workers, keep_workers=True)

    def val_dataloader(self) -> list[ImageLoader]:
        """Validation images in order; then those that a probe learns from, and those that it is measured on."""
        return [self._eval_loader(self._samples[name], keep_workers=name == "val") for name in self._with_probe("val")]

    def evaluation_loaders(self, split: str) -> list[ImageLoader]:
        """Images of a split in order, without random augmentation; those of the probe go with ``val``.

        Raises:
            UserError: There is no such split.
        """
        return [self.split_loader(name) for name in self._with_probe(split)]

    def split_loader(self, split: str) -> ImageLoader:
        """Images of one split in order, without random augmentation.

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

    def _eval_loader(self, samples: list[Sample], keep_workers: bool = False) -> ImageLoader:
        dataset = self._dataset(samples, self._eval_transform)
        sampler = EvaluationSampler(len(dataset), *self._rank_and_world_size())
        return image_loader(dataset, sampler, self.data.batch_size, self.data.workers, keep_workers)

    def _dataset(self, samples: list[Sample], transform: Transform) -> ImageDataset:
        # A process that stopped alone would leave the others waiting; they agree on it between steps.
        alone = self._rank_and_world_size()[1] == 1
        policy = self.data.on_bad_image if alone else "skip"
        dataset = ImageDataset(samples, self.classes, transform, self.seed, policy)
        self._datasets.append(dataset)
        return dataset

    def _rank_and_world_size(self) -> tuple[int, int]:
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)


def labelled_images(
    data: Data, augment: Augment, seed: int, classes: list[str] | None = None, only: str | None = None
) -> ImageDataModule:
    """Images with a label each, as a recipe names them.

    Args:
        data: What to read.
        augment: What to do to it.
        seed: Of the run.
        classes: Label map of an earlier run, to evaluate or predict with; None takes the sorted names found.
        only: Evaluate this one split of other data than the run's own: nothing is cut from it or drawn.

    Raises:
        UserError: The data cannot be used as it is; one message names what is wrong.
    """
    samples = read_samples(data, divided=only is None)
    splits = whole_split(samples, only) if only else divide(samples, data.splits)
    label_names = label_map(splits, classes)
    if data.labels_per_class is not None and not only:
        splits["train"] = draw_labels_per_class(splits["train"], data.labels_per_class, seed)
    return ImageDataModule(data, augment, seed, splits, label_names)


def loose_images(data: Data, augment: Augment, paths: list[str], *, skip_with: str = SKIP_BY_RECIPE) -> ImageLoader:
    """Load image files with the evaluation transforms, without the data set that the recipe trained on.

    Args:
        data: Batch size, workers, image size and policy for bad images.
        augment: Evaluation transforms and normalisation.
        paths: Files; a path given twice is read once.
        skip_with: What the user does to have unreadable images skipped, for the message.

    Returns:
        Loader of batches without labels; an image's id is its path as given. ``loader.dataset.skipped`` maps the
        unreadable files met to the reasons.

    Raises:
        UserError: ``paths`` is empty.
    """
    samples = [Sample(path, path) for path in dict.fromkeys(paths)]
    if not samples:
        raise UserError("no images to predict")
    dataset = ImageDataset(samples, [], _eval_transform(data, augment), 0, data.on_bad_image, skip_with)
    return image_loader(dataset, EvaluationSampler(len(dataset)), data.batch_size, data.workers)


def _eval_transform(data: Data, augment: Augment) -> Transform:
    share = augment.eval.crop_share
    resize = None if share is None else math.floor(data.image_size / share)  # rounded as timm does
    return eval_pipeline(
        data.image_size, augment.mean, augment.std, resize=resize, interpolation=augment.eval.interpolation
    )


def _train_transform(data: Data, augment: Augment) -> Transform:
    try:
        return train_pipeline(data.image_size, augment.mean, augment.std, **asdict(augment.train))
    except ValueError as error:
        raise UserError(f"augment.train: {error}") from error
