"""Images to learn from without their labels, from a recipe to batches."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vision_train.data.dataset import Sample
from vision_train.data.images import PROBE_SPLITS, ImageDataModule
from vision_train.data.sources import read_samples, read_unlabelled
from vision_train.data.splits import (
    DEFAULT_SHARE,
    Splits,
    cut_shares,
    divide,
    draw_labels_per_class,
    label_map,
    whole_split,
)
from vision_train.errors import UserError
from vision_train.recipe.sections import Augment, Data


def unlabelled_images(data: Data, augment: Augment, seed: int, only: str | None = None) -> ImageDataModule:
    """Images without labels, as a recipe names them, and the labelled ones of its probe.

    Where no split ``val`` is named, a share of the images is cut for it, by their ids alone. Test images are left
    alone.

    Args:
        data: What to read.
        augment: What to do to it.
        seed: Of the run.
        only: Evaluate this one split of other data than the run's own: nothing is cut from it.

    Raises:
        UserError: The data cannot be used as it is; one message names what is wrong.
    """
    samples = read_unlabelled(data)
    splits = whole_split(samples, only) if only else _divide(samples, data)
    del splits["test"]
    probe, classes = _probe(samples, data, seed)
    unlabelled = {name: [replace(sample, label=None) for sample in members] for name, members in splits.items()}
    return ImageDataModule(data, augment, seed, unlabelled | probe, classes)


def _divide(samples: list[Sample], data: Data) -> Splits:
    splits: Splits = {"train": [], "val": [], "test": []}
    for sample in samples:
        splits[sample.split or "train"].append(sample)
    if splits["val"]:
        return splits
    if len(splits["train"]) < 2:
        raise UserError(f"{data.root or data.labels}: one image is too few; pre-training validates on another")
    return splits | cut_shares(splits["train"], {"val": (data.splits or {}).get("val", DEFAULT_SHARE)})


def labelled_samples(pool: list[Sample], data: Data) -> list[Sample]:
    """The images of the probe: those that ``data.probe`` names, or else those of the pool that have a label.

    Raises:
        UserError: ``data.probe`` names nothing that could be read.
    """
    if data.probe is None:
        return [sample for sample in pool if sample.label is not None]
    place = Path(data.probe)
    if not place.exists():
        raise UserError(f"data.probe {place}: no such folder or csv file; name labelled images, or leave it null")
    root, table = (data.probe, None) if place.is_dir() else (None, data.probe)
    return read_samples(replace(data, source="images", root=root, labels=table))


def _probe(pool: list[Sample], data: Data, seed: int) -> tuple[Splits, list[str]]:
    """What the probe learns from and is measured on, with the label map; nothing where no image has a label."""
    labelled = labelled_samples(pool, data)
    if not labelled:
        return {}, []
    splits = divide(labelled, data.splits)
    probe = dict(zip(PROBE_SPLITS, (splits["train"], splits["val"]), strict=True))
    classes = label_map(probe)
    if data.labels_per_class is not None:
        probe["probe_train"] = draw_labels_per_class(probe["probe_train"], data.labels_per_class, seed)
    return probe, classes
