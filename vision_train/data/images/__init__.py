"""Labelled images: class folders, csv files, scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.image_section import ImageFolderSection
from vision_train.data.kind import PLACE, KindOfData


@dataclass(frozen=True, kw_only=True)
class Section(ImageFolderSection):
    """Images with one label each."""

    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the images. Holds one folder per class, or one per split (`train`, `val`, `test` by any usual name)
    with one folder per class each."""
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
    implementation="vision_train.data.images.build",
    renamed={"on_bad_image": "on_bad"},
    report="vision_train.report.images",
    verbs="vision_train.data.images.verbs",
)
