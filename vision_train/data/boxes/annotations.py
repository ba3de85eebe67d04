"""What annotations say of an image, whatever their format, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vision_train.data.corners import Corners
from vision_train.data.sample import ImageSample

CategoryId = int
"""The number of a class in annotations and results."""


@dataclass(frozen=True, slots=True)
class Annotated:
    """The truth of an image: what is on it and where."""

    boxes: tuple[Corners, ...]
    labels: tuple[str, ...]
    """Name of the class of each box."""
    ignored: tuple[Corners, ...] = ()
    """Regions in which nothing counts for or against a detector: crowds, and what is marked difficult."""
    width: int = 0
    """Width of the original image in pixels."""
    height: int = 0
    """Height of the original image in pixels."""
    areas: tuple[float, ...] = ()
    """Area of the object in each box in pixels, as of its outline; empty where it is that of the box."""
    crowds: tuple[str, ...] = ()
    """Class of each ignored region that is a crowd of one, "" of those that hold any class; empty where all do."""

    @property
    def object_areas(self) -> list[float]:
        """Area of the object in each box, in pixels."""
        return [*self.areas] or [(right - left) * (bottom - top) for left, top, right, bottom in self.boxes]

    @property
    def ignored_classes(self) -> list[str]:
        """Class of each ignored region, "" for every class."""
        return [*self.crowds] or [""] * len(self.ignored)


@dataclass(frozen=True, slots=True)
class BoxSample(ImageSample):
    """One image with its boxes."""

    image_id: int | str | None = None
    """Its id in the annotations; None where they have none."""


class ListedBox(NamedTuple):
    """A box as a file gives it, in pixels."""

    corners: Corners
    label: str
    ignored: bool
    place: str
    """Where it stands in its file, for messages."""
    area: float | None = None
    """Area of the object in pixels, where the file says it."""
    crowd: bool = False
    """Whether it is ignored for its own class alone, as COCO measures crowds."""


@dataclass(slots=True)
class ListedImage:
    """An image as a file of annotations names it."""

    name: str
    """Path as written, perhaps of another machine."""
    place: str
    """The file of annotations, and where in it, for messages."""
    boxes: list[ListedBox] = field(default_factory=list)
    size: tuple[int, int] | None = None
    """Width and height that the annotations say."""
    image_id: int | str | None = None
    split: str | None = None
    group: str | None = None
    path: Path | None = None
    """Where it lies, once it is found."""


@dataclass
class Listed:
    """All images of the annotations of a data set."""

    images: list[ListedImage] = field(default_factory=list)
    categories: Mapping[str, CategoryId | None] = field(default_factory=dict)
    """Classes in the order of their numbers; None in formats that number none."""
