"""Labelled images: class folders, csv files, scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.image_section import ImageFolderSection
from vision_train.data.kind import PLACE, UNLABELLED, KindOfData


@dataclass(frozen=True, kw_only=True)
class Section(ImageFolderSection):
    """Images with one label each."""

    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the images. Holds one folder per class, or one per split (`train`, `val`, `test` by any usual name)
    with one folder per class each."""
    unlabelled: str | None = field(default=None, metadata=UNLABELLED)
    """Images to learn from without labels (`semi.method`): a folder, whose images are taken however deep they lie, or a
    csv or text file with one path a line. `rest` takes the training images that `labels_per_class` leaves, `labelled`
    the labelled ones again; write `./rest` for a folder of that name. Whatever labels the files carry are not read."""
    pseudo_labels: str | None = field(default=None, metadata={"path": True})
    """Csv file with labels of images of `unlabelled`, as `semi.method` writes it between phases: `path,label`, and how
    many voted for which class. Each batch has as many such images beside the labelled ones as `semi.ratio` says."""
    balance: Literal["none", "classes"] = "none"
    """`classes` draws equally many training images of every class, those of rare classes several times an epoch, each
    time augmented anew; `none` draws every one equally often."""

    @property
    def balanced(self) -> bool:
        """Whether training draws equally many images of every class."""
        return self.balance == "classes"


IMAGES = KindOfData(
    section=Section,
    noun="images",
    given="images with a class each",
    implementation="vision_train.data.images.build",
    look="vision_train.data.images.look:look",
    renamed={"on_bad_image": "on_bad"},
    report="vision_train.report.images",
    verbs="vision_train.data.images.verbs",
)
