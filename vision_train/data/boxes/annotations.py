"""What annotations say of an image, whatever their format, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from vision_train.data.dataset import SKIP_BAD, OnBad
from vision_train.data.sample import ImageSample
from vision_train.errors import UserError
from vision_train.files import first_named

Corners = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels of the original image."""
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


@dataclass
class Findings:
    """What is wrong with annotations, counted, with the first examples of each kind.

    Attributes:
        wrong: What has to be mended or left out.
        handled: What was put right, which the user should know.
    """

    wrong: dict[str, list[str]] = field(default_factory=dict)
    handled: dict[str, list[str]] = field(default_factory=dict)

    def mend(self, kind: str, example: str) -> None:
        """Count one of a kind that has to be mended."""
        self.wrong.setdefault(kind, []).append(example)

    def note(self, kind: str, example: str) -> None:
        """Count one of a kind that was put right."""
        self.handled.setdefault(kind, []).append(example)

    def settle(self, on_bad: OnBad) -> list[str]:
        """What was put right and left out, in sentences.

        Raises:
            UserError: Something has to be mended and the policy is ``error``.
        """
        if self.wrong and on_bad == "error":
            kinds = "; ".join(f"{kind}: {first_named(examples)}" for kind, examples in self.wrong.items())
            raise UserError(f"{kinds}. Mend them, or {SKIP_BAD.replace('samples', 'boxes and images')}")
        left_out = [f"left out, {kind}: {first_named(examples)}" for kind, examples in self.wrong.items()]
        return [*left_out, *(f"{kind}: {first_named(examples)}" for kind, examples in self.handled.items())]
