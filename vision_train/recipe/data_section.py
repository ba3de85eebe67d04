"""The section of a recipe that says what to train on; as all sections, see :mod:`vision_train.recipe.sections`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

Problems = Iterator[tuple[str, str]]
"""Pairs of a key inside the section and what is wrong with its value."""

BAG_SOURCES = ("bags", "digit_bags")
"""Sources of bags; the others are of images."""
BUNDLED = ("digits", "digit_bags")
"""Sources that come with the installation."""


@dataclass(frozen=True)
class Data:
    """What to train on."""

    source: Literal["images", "digits", "bags", "digit_bags"] = "images"
    """`images`: files on disk, as class folders or listed in a csv. `digits`: scikit-learn's 1,797 bundled scans.
    `bags`: files of features, a bag of instances each. `digit_bags`: bags of those scans, drawn with the seed."""
    root: str | None = None
    """Folder of the images. Holds one folder per class, or `train`/`val`/`test` with one folder per class each.
    Pre-training takes every image below it, or below its `train` and `val`, whatever the folders are called. Bags: a
    folder as CLAM or TRIDENT write it, of .h5, .pt, .npy, .npz or .safetensors files, or one file of many bags."""
    labels: str | None = None
    """Csv file with the columns `path,label[,split]`; paths are relative to `root`, or to the csv without one.
    Pre-training needs no labels. Bags: a csv with the columns `slide_id,label[,case_id,split]`, or json; null takes
    the labels that the files of features hold."""
    probe: str | None = None
    """Pre-training: labelled images, as a folder of class folders or a csv, on which a linear classifier shows at each
    validation how good the features are. Null takes the images that have a label themselves (`digits`, a csv), if
    there are enough. No label reaches the network, unless `run.select` chooses the epoch by `val/probe_accuracy`."""
    splits: dict[str, float] | str | None = None
    """Shares of `val` and `test` cut from the training images, class by class and by the images' paths alone, where
    folders or the csv name no such split. Without it `val` gets 0.1 and `test` gets 0.1. Pre-training cuts `val`
    alone. Bags are cut by cases; for them it may also be a file of splits, as CLAM or ACMIL write it."""
    label_map: dict[str, str] | None = None
    """Bags: the class that each label of the table counts as, such as `{"0": benign, "1": benign, "2": tumour}`, with
    numbers in quotes; null takes the labels as they are."""
    variant: Literal["rare", "patterns"] | None = None
    """`digit_bags`: `rare` hides a few nines in each positive bag; `patterns` shows three kinds of digits in
    training, of which a test bag holds one. Null is `rare`."""
    feature_width: int | None = None
    """Bags: numbers that describe an instance. Filled in from the bags; where it is given, others are refused."""
    encoder: str | None = None
    """Bags: what computed the features. Filled in where the files say; where it is given, features of another are
    refused."""
    labels_per_class: int | None = None
    """Train on this many images of each class, drawn with the seed; null takes all. Pre-training trains on all images;
    its linear probe learns from at most so many a class."""
    image_size: int = 224
    """Side of the square image that enters the network, in pixels."""
    batch_size: int = 64
    """Images or bags per process and step. The effective batch also counts processes and accumulated batches. Images
    that do not fill a last batch wait for another epoch's shuffle: each epoch leaves out others. Only where all of them
    are fewer than one batch do they make a smaller one. Bags of one batch are padded to the largest."""
    workers: int = 2
    """Loader processes for each training process, at most one for each processor that it may use; 0 loads in the
    training process itself."""
    on_bad_image: Literal["error", "skip"] = "error"
    """What an unreadable image does: stop with its name, or be skipped and counted at the end."""
    on_bad_bag: Literal["error", "skip"] = "error"
    """What a bag does that has no label or no features, or whose features cannot be used: stop with its name and the
    reason, or be skipped and counted."""

    @property
    def shares(self) -> dict[str, float] | None:
        """Shares that ``splits`` gives; None where it names a file, or nothing."""
        return self.splits if isinstance(self.splits, dict) else None

    def problems(self) -> Problems:
        """Yield values outside their range and keys that exclude one another."""
        if self.source in BUNDLED and (self.root is not None or self.labels is not None):
            own = "bags" if self.source in BAG_SOURCES else "images"
            yield (
                "source",
                f"`{self.source}` is bundled and takes no root or labels; set data.source={own} to use yours",
            )
        for key in ("image_size", "batch_size", "labels_per_class", "feature_width"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield key, f"is {value}; must be at least 1"
        if self.workers < 0:
            yield "workers", f"is {self.workers}; must be 0 or more"
        if self.shares is not None:
            yield from self._share_problems(self.shares)
        yield from self._of_other_sources()

    def unset(self) -> Problems:
        """Yield what no recipe can know and whoever runs it has to give."""
        if self.source == "images" and self.root is None and self.labels is None:
            yield "root", "no images named; set data.root=FOLDER, or data.labels=FILE.csv"
        if self.source == "bags" and self.root is None:
            yield "root", "no features named; set data.root=FOLDER"

    def _of_other_sources(self) -> Problems:
        """Keys that the source has no use for."""
        if self.source != "digit_bags" and self.variant is not None:
            yield "variant", "is of data.source=digit_bags alone; leave it null"
        if self.source == "digit_bags" and self.splits is not None:
            yield "splits", "is given, but `digit_bags` come divided; leave it null"
        if self.source in BAG_SOURCES:
            return
        if isinstance(self.splits, str):
            yield "splits", f"is `{self.splits}`; images take shares, such as '{{val: 0.1, test: 0.2}}'"
        for key in ("label_map", "feature_width", "encoder"):
            if getattr(self, key) is not None:
                yield key, "is for bags alone; leave it null"
        if self.on_bad_bag != type(self).on_bad_bag:
            yield "on_bad_bag", "is for bags alone; of images on_bad_image says it"

    @staticmethod
    def _share_problems(shares: dict[str, float]) -> Problems:
        for name, share in shares.items():
            if name not in ("val", "test"):
                yield f"splits.{name}", "unknown split; `val` and `test` can be cut from what is trained on"
            elif not 0 < share < 1:
                yield f"splits.{name}", f"is {share}; a share lies strictly between 0 and 1"
        if sum(shares.values()) >= 1:
            yield "splits", f"sum to {sum(shares.values()):g}; nothing would be left to train on"
