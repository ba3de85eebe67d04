"""Images to learn from without their labels, and labelled ones that show how good the features are."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Self

from vision_train.data.image_section import ImageFolderSection
from vision_train.data.kind import IDENTITY, PLACE, DataSection, KindOfData


@dataclass(frozen=True, kw_only=True)
class Section(ImageFolderSection):
    """Images without labels."""

    root: str | None = field(default=None, metadata=PLACE)
    """Folder of the images: every image below it is taken, or below its folders of splits, whatever other
    folders are called."""
    labels: str | None = field(default=None, metadata=PLACE)
    """Csv file with the column `path` and, if you like, `label` and `split`; paths are relative to `root`, or to the
    csv without one. Labels serve the probe alone."""
    splits: dict[str, float] | None = field(default=None, metadata=IDENTITY)
    """Share of `val` cut from the training images, by their paths alone, where nothing names such a split. Without it
    `val` gets 0.1."""
    probe: str | None = field(default=None, metadata={"path": True})
    """Labelled images, as a folder of class folders or a csv, on which a linear classifier shows at each validation how
    good the features are. Null takes the images that have a label themselves (`digits`, a csv), if there are enough. No
    label reaches the network, unless `run.select` chooses the epoch by `val/probe_accuracy`."""
    labels_per_class: int | None = None
    """The linear probe learns from at most so many images of each class, drawn with the seed; null takes all."""

    def with_samples_of(self, asked: DataSection) -> Self:
        """Those of a pool that a later phase has in a folder of its own, else those that it has labels for."""
        folder = getattr(asked, "unlabelled", None)
        if folder is None or not Path(folder).is_absolute() or not Path(folder).is_dir():
            return super().with_samples_of(asked)
        return replace(self, source="images", root=folder)


POOL = KindOfData(
    section=Section,
    noun="images",
    given="images without labels",
    implementation="vision_train.data.pool.build",
    look="vision_train.data.pool.look:look",
    judged="val",
    renamed={"on_bad_image": "on_bad"},
    report="vision_train.report.images",
)
