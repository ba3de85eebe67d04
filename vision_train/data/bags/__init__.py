"""Bags of instances: features of slide patches, or of anything else that comes in sets with one label."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field, replace
from typing import Literal, Self

from vision_train.data.kind import IDENTITY, PLACE, DataSection, KindOfData, Problems, class_problems, share_problems

BUNDLED = "digit_bags"
"""The source that comes with the installation."""


@dataclass(frozen=True, kw_only=True)
class Section(DataSection):
    """Bags with one label each. Bags of one batch are padded to the largest."""

    source: Literal["bags", "digit_bags"] = field(default="bags", metadata=IDENTITY)
    """`bags`: files of features, a bag of instances each. `digit_bags`: bags of scikit-learn's scans, drawn with the
    seed."""
    root: str | None = field(default=None, metadata=PLACE)
    """Folder of features as CLAM or TRIDENT write it, folder of .h5, .pt, .npy, .npz or .safetensors files, or one file
    of many bags."""
    labels: str | None = field(default=None, metadata=PLACE)
    """Csv file with the columns `slide_id,label[,case_id,split]`, or json; null takes the labels that the files of
    features hold."""
    splits: dict[str, float] | str | None = field(default=None, metadata=PLACE)
    """Shares of `val` and `test` cut from the training bags, class by class and by cases, where nothing names such a
    split (0.1 each by default); or a file of splits, as CLAM or ACMIL write it."""
    label_map: dict[str, str] | None = None
    """The class that each label of the table counts as, such as `{"0": benign, "1": benign, "2": tumour}`, with numbers
    in quotes; null takes the labels as they are."""
    classes: list[str] | None = None
    """Names of all classes, in the order of their labels, once `label_map` is applied; null takes those found. A name
    that is listed is that of a class, though it be `none` or `a|b`; one that is not listed is refused."""
    variant: Literal["rare", "patterns"] | None = field(default=None, metadata=IDENTITY)
    """`digit_bags`: `rare` hides a few nines in each positive bag; `patterns` shows three kinds of digits in training,
    of which a test bag holds one. Null is `rare`."""
    feature_width: int | None = None
    """Numbers that describe an instance. Filled in from the bags; where it is given, others are refused."""
    encoder: str | None = None
    """Name of the network that computed the features. Filled in where the files say; where it is given, features of
    another are refused."""
    labels_per_class: int | None = None
    """Train on this many bags of each class, drawn with the seed; null takes all."""
    balance: Literal["none", "classes"] = "none"
    """`classes` draws equally many training bags of every class, those of rare classes several times an epoch; `none`
    draws every one equally often."""

    @property
    def balanced(self) -> bool:
        """Whether training draws equally many bags of every class."""
        return self.balance == "classes"

    @property
    def shares(self) -> dict[str, float] | None:
        """Shares that ``splits`` gives; None where it names a file, or nothing."""
        return self.splits if isinstance(self.splits, dict) else None

    def for_other_data(self, own: Self, changed: Collection[str]) -> tuple[Self, list[str]]:
        """Leave out the file that divides the run's own bags, unless it is named again."""
        elsewhere = "root" in changed and ("labels" in changed or self.labels is None)
        if not isinstance(self.splits, str) or self.splits != own.splits or "splits" in changed or not elsewhere:
            return self, []
        note = f"{self.splits} divides the run's own bags; give data.splits={self.splits} if it divides these too"
        return replace(self, splits=None), [note]

    def problems(self) -> Problems:
        """Yield values outside their range and keys that exclude one another."""
        yield from super().problems()
        if self.source == BUNDLED and (self.root is not None or self.labels is not None):
            yield "source", f"`{BUNDLED}` is bundled and takes no root or labels; set data.source=bags to use yours"
        for key in ("labels_per_class", "feature_width"):
            value = getattr(self, key)
            if value is not None and value < 1:
                yield key, f"is {value}; must be at least 1"
        yield from share_problems(self.shares or {})
        yield from class_problems(self.classes)
        if self.source != BUNDLED and self.variant is not None:
            yield "variant", f"belongs to data.source={BUNDLED}; leave it null"
        if self.source == BUNDLED and self.splits is not None:
            yield "splits", f"is given, but `{BUNDLED}` come divided; leave it null"

    def unset(self) -> Problems:
        """Yield features that are not named."""
        if self.source != BUNDLED and self.root is None:
            yield "root", "no features named; set data.root=FOLDER"


BAGS = KindOfData(
    section=Section,
    noun="bags",
    given="bags of features with a class each",
    implementation="vision_train.data.bags.build",
    look="vision_train.data.bags.look:look",
    id_column="slide_id",
    renamed={"on_bad_bag": "on_bad"},
    report="vision_train.report.bags",
    verbs="vision_train.data.bags.verbs",
)
