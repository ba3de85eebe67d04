"""Images with boxes: COCO json, YOLO folders, Pascal VOC xml, or drawn scenes that come with the installation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.crop_section import Crop
from vision_train.data.kind import (
    IDENTITY,
    PLACE,
    SPLITS,
    UNLABELLED,
    DataSection,
    KindOfData,
    Problems,
    share_problems,
)

FILES = "boxes"
"""The source that the user's own files are."""


@dataclass(frozen=True, kw_only=True)
class Mixing:
    """Training images that are made of several, with the boxes of all. They are drawn for each image and epoch."""

    mosaic: float = 0.0
    """Share of the images that are put together from random parts of four."""
    mixup: float = 0.0
    """Share of the images, mosaics included, that are blended with a random part of another one, about half and half;
    the boxes of both count fully."""
    epochs: int | None = None
    """Mix in so many first epochs, and train on plain images in the rest, as YOLOX does in its last fifteen; null mixes
    in all."""

    def problems(self) -> Problems:
        """Yield values outside their range."""
        for key in ("mosaic", "mixup"):
            if not 0 <= getattr(self, key) <= 1:
                yield key, f"is {getattr(self, key)}; must lie between 0 and 1"
        if self.epochs is not None and self.epochs < 0:
            yield "epochs", f"is {self.epochs}; must be 0 or more"


@dataclass(frozen=True, kw_only=True)
class Section(DataSection):
    """Images with any number of boxes each. Images of one batch are padded to the largest."""

    source: Literal["boxes", "shapes", "digit_scenes", "things"] = field(default="boxes", metadata=IDENTITY)
    """`boxes`: files on disk. `shapes`: drawn circles, squares and triangles that overlap. `digit_scenes`: scans of
    digits on one canvas. `things`: drawn things that lie apart, each of a size, a colour and a shape."""
    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the data set. Annotations are looked for in it as COCO, YOLO and Pascal VOC (and Roboflow, CVAT and
    Label Studio) lay them out, unless `labels` names them."""
    labels: str | dict[str, str] | None = field(default=None, metadata=PLACE)
    """Annotations: a COCO json, the `data.yaml` of a YOLO data set, or a folder of Pascal VOC xml; or a mapping of
    splits to such, as in `{train: a.json, val: b.json}`."""
    images: str | dict[str, str] | None = field(default=None, metadata=PLACE)
    """Folder that the paths of images are below, or a mapping of splits to folders. Null looks beside the annotations
    and in `root`. An image that is not at its path is found by its name where there is only one of it."""
    splits: dict[str, float] | None = field(default=None, metadata=IDENTITY)
    """Shares of `val` and `test` cut from the training images, by their paths alone, where nothing names such a split.
    Without it each of them gets 0.1; where a `val` is named and no `test`, `test` is `val` again, unless this cuts one.
    """
    short_side: int = 800
    """Short side of an image that enters the network, in pixels."""
    long_side: int = 1333
    """Largest long side; an image whose long side would be longer is made smaller."""
    scales: list[int] | None = None
    """Short sides of training images, of which one is drawn for each; null takes `short_side`."""
    crop: Crop | None = None
    """Crop some of the training images; null crops none."""
    mixing: Mixing | None = None
    """Make some of the training images of several; null makes none."""
    min_side: float = 1.0
    """Boxes of training images that are narrower or lower than this after augmentation, in pixels, are dropped."""
    background: Literal["keep", "drop"] = "keep"
    """`keep` trains on images without boxes as background; `drop` leaves them out of training."""
    labels_per_class: int | None = None
    """Train on so few images that each class is on this many of them, or more, drawn with the seed; null takes all."""
    share: float = 1.0
    """Share of the training images to train on, drawn with the seed."""
    eval_batch_size: int = 1
    """Images per process and step where nothing is learned. Padding changes scores a little; published results are
    measured one by one."""
    unlabelled: str | None = field(default=None, metadata=UNLABELLED)
    """Images to learn from without annotations (`semi.method`): a folder, whose images are taken however deep they lie,
    or a csv or text file with one path a line. `rest` takes the training images that `share` and `labels_per_class`
    leave, `labelled` the labelled ones again. Whatever annotations there are of them are not read."""
    mix_unlabelled: bool = False
    """Let the network learn unlabelled images two by two and four by four, with what the teacher found in each, as
    MixPL does: half-sums with earlier ones, and beside them one mosaic a step, which counts half. Small rectangles of
    the result are erased, and not those of `augment.strong`. The last 8 images are kept for it, and stand in
    checkpoints; a run that goes on with another number of processes gathers them anew."""
    pseudo_labels: str | None = field(default=None, metadata={"path": True})
    """Csv file with boxes of images of `unlabelled`, as `semi.method` writes it between phases: a row for each box, or
    an empty one for an image without any. Each batch has as many such images beside the labelled ones as `semi.ratio`
    says."""
    category_ids: list[int] | None = None
    """The number of each class in the annotations, which predictions carry. Filled in from the data."""

    @property
    def left_to_weights(self) -> tuple[str, ...]:
        """Mean and deviation; sizes are the recipe's, and images are always resized bilinearly."""
        return ("mean", "std")

    @property
    def evaluation_batch_size(self) -> int:
        """Samples per process and step where nothing is learned."""
        return self.eval_batch_size

    def problems(self) -> Problems:
        """Yield values outside their range and keys that exclude one another."""
        yield from super().problems()
        bundled = self.source != FILES
        for key in ("root", "labels", "images", "splits"):
            if bundled and getattr(self, key) is not None:
                yield key, f"is given, but `{self.source}` comes with the installation; set data.source={FILES}"
        for key in ("labels", "images"):
            yield from _split_problems(key, getattr(self, key))
        yield from share_problems(self.splits or {})
        for key in ("short_side", "long_side", "labels_per_class", "eval_batch_size"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield key, f"is {value}; must be at least 1"
        if self.long_side < self.short_side:
            yield "long_side", f"is {self.long_side}, shorter than data.short_side={self.short_side}"
        if self.scales is not None and (not self.scales or min(self.scales) < 1):
            yield "scales", f"is {self.scales}; name at least one side of 1 pixel or more"
        if self.min_side < 0:
            yield "min_side", f"is {self.min_side}; must be 0 or more"
        if not 0 < self.share <= 1:
            yield "share", f"is {self.share}; must lie above 0 and not above 1"

    def unset(self) -> Problems:
        """Yield annotations that are not named."""
        if self.source == FILES and self.root is None and self.labels is None:
            yield "root", "no boxes named; set data.root=FOLDER, or data.labels=FILE"

    def differing(self, other: DataSection) -> list[str]:
        """Keys by which this section names other samples than another one, mappings of files included."""
        theirs = other.identity()
        mapped = [key for key in ("labels", "images") if isinstance(getattr(self, key), dict)]
        return [*super().differing(other), *(key for key in mapped if getattr(self, key) != theirs.get(key))]

    def paths(self) -> list[str]:
        """The files and folders that hold the images and their annotations."""
        mapped = (value for value in (self.labels, self.images) if isinstance(value, dict))
        return [*super().paths(), *(path for value in mapped for path in value.values())]

    def named(self) -> str:
        """The key that names the images, with its value."""
        return super().named() if self.labels is None else f"data.labels={self.labels}"


def _split_problems(key: str, value: str | dict[str, str] | None) -> Iterator[tuple[str, str]]:
    if not isinstance(value, dict):
        return
    for name in value:
        if name not in SPLITS:
            yield f"{key}.{name}", f"unknown split; there are {', '.join(SPLITS)}"
    if not value:
        yield key, "names no split; name train at least"


BOXES = KindOfData(
    section=Section,
    noun="images",
    given="images with boxes",
    implementation="vision_train.data.boxes.build",
    look="vision_train.data.boxes.look:look",
    report="vision_train.report.boxes",
    results="vision_train.data.boxes.results",
    verbs="vision_train.data.boxes.verbs",
)
