"""Images to learn from without their labels, from a recipe to batches."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

from vision_train.data.dataset import ImageSample
from vision_train.data.images import ImageDataModule
from vision_train.data.module import PROBE_SPLITS
from vision_train.data.sources import read_samples
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
from vision_train.recipe.data_section import Data
from vision_train.recipe.sections import Augment


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
    samples = read_samples(data, divided=only is None, labelled=False)
    splits = whole_split(samples, only) if only else _divide(samples, data)
    del splits["test"]
    probe, classes, note = _probe(samples if only is None else [], data, seed)
    unlabelled = {name: [replace(sample, label=None) for sample in members] for name, members in splits.items()}
    module = ImageDataModule(data, augment, seed, unlabelled | probe, classes)
    module.notes += [note] if note else []
    return module


def _divide(samples: list[ImageSample], data: Data) -> Splits:
    splits: Splits = {"train": [], "val": [], "test": []}
    for sample in samples:
        splits[sample.split or "train"].append(sample)
    if not splits["train"]:
        raise UserError(f"{data.labels or data.root}: no image to learn from; all of them are val or test")
    if splits["val"]:
        return splits
    if len(splits["train"]) == 1:
        raise UserError(f"{data.labels or data.root}: one image is too few; pre-training validates on another")
    return splits | cut_shares(splits["train"], {"val": (data.shares or {}).get("val", DEFAULT_SHARE)})


def labelled_samples(pool: list[ImageSample], data: Data) -> list[ImageSample]:
    """The images of the probe: those that ``data.probe`` names, or else those of the pool that have a label.

    Raises:
        UserError: ``data.probe`` names nothing that could be read.
    """
    if data.probe is None:
        return [sample for sample in pool if sample.label is not None]
    place = Path(data.probe)
    if not place.exists():
        raise UserError("no such folder or csv file; name labelled images, or leave it null")
    root, table = (data.probe, None) if place.is_dir() else (None, data.probe)
    return read_samples(replace(data, source="images", root=root, labels=table))


def _probe(pool: list[ImageSample], data: Data, seed: int) -> tuple[Splits, list[str], str]:
    """What the probe learns from and is measured on, with the label map; nothing, and why, where labels do not suffice.

    Raises:
        UserError: They do not, though ``data.probe`` names them.
    """
    try:
        labelled = labelled_samples(pool, data)
        if not any(sample.split != "test" for sample in labelled):
            return {}, [], ""
        divided = divide(labelled, data.shares)
        splits = dict(zip(PROBE_SPLITS, (divided["train"], divided["val"]), strict=True))
        classes = label_map(splits)
    except UserError as error:
        if data.probe is not None:
            raise UserError(f"data.probe {data.probe}: {error}") from error
        return {}, [], f"no linear probe of the features: {error}"
    if data.labels_per_class is not None:
        learnt_from = PROBE_SPLITS[0]
        splits[learnt_from] = _at_most(splits[learnt_from], data.labels_per_class, seed)
    return splits, classes, ""


def _at_most(members: list[ImageSample], count: int, seed: int) -> list[ImageSample]:
    """So many images of each class, drawn with the seed; all of a class that has fewer."""
    sizes = Counter(sample.label for sample in members)
    many = [sample for sample in members if sizes[sample.label] > count]
    few = [sample for sample in members if sizes[sample.label] <= count]
    return few + draw_labels_per_class(many, count, seed)
