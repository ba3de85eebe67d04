"""Images with numbers that were measured of what they show, listed in a csv or drawn."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.fold_section import Fold
from vision_train.data.image_section import ImageSection
from vision_train.data.kind import IDENTITY, PLACE, KindOfData, Problems, share_problems

TABLE = "table"
"""The source that is the user's own."""


@dataclass(frozen=True, kw_only=True)
class Section(ImageSection):
    """Images with one number each, or several."""

    source: Literal["table", "discs"] = field(default="table", metadata=IDENTITY)
    """`table`: images that a csv lists with their numbers. `discs`: 900 drawn discs with their diameters."""
    root: str | None = field(default=None, metadata=PLACE)
    """Folder that the paths of `labels` are relative to; null takes the folder of the csv."""
    labels: str | None = field(default=None, metadata=PLACE)
    """Csv file with the columns `path`, those of `targets` and, if you like, `split`."""
    fold: Fold | None = field(default=None, metadata=IDENTITY)
    """Test on one of several folds, drawn with the seed, and train on the others, as `compare --folds` does; null takes
    the test split."""
    targets: list[str] | None = field(default=None, metadata=IDENTITY)
    """Columns of the numbers to predict; null takes the only column beside `path` and `split`."""
    splits: dict[str, float] | None = field(default=None, metadata=IDENTITY)
    """Shares of `val` and `test` cut from the training images, by their paths alone, where the csv names no such split.
    Without it each of them gets 0.1."""

    def problems(self) -> Problems:
        """Yield values outside their range and keys that exclude one another."""
        yield from super().problems()
        if self.source != TABLE and (self.root or self.labels or self.targets):
            yield "source", f"`{self.source}` takes no root, labels or targets; set data.source={TABLE} to use yours"
        if self.targets is not None and (not self.targets or len(set(self.targets)) < len(self.targets)):
            yield "targets", f"is {self.targets}; name each column once, and at least one"
        yield from share_problems(self.splits or {})

    def unset(self) -> Problems:
        """Yield the table, where nobody names it."""
        if self.source == TABLE and self.labels is None:
            yield "labels", "no images named; set data.labels=FILE.csv, with the columns path and that of the number"

    def named(self) -> str:
        """The key that names the images, with its value."""
        return super().named() if self.labels is None else f"data.labels={self.labels}"


MEASUREMENTS = KindOfData(
    section=Section,
    noun="images",
    given="images with a number each",
    implementation="vision_train.data.measurements.build",
    look="vision_train.data.measurements.look:look",
    takes_shares=True,
    report="vision_train.report.images",
    verbs="vision_train.data.measurements.verbs",
)
