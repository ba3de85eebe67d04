"""What annotations say of expressions, whatever their format."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from vision_train.data.corners import Corners
from vision_train.data.sample import ImageSample, file_identity
from vision_train.data.splits import split_called

_TEST = re.compile(r"test(?P<letters>[A-Z]*)")
"""The split of a test expression, with the letters of the parts of the test that it belongs to."""


@dataclass(frozen=True, slots=True)
class Referred:
    """The truth of an expression: what it means."""

    text: str
    box: Corners
    width: int
    """Width of the original image in pixels."""
    height: int
    """Height of the original image in pixels."""
    category: str = ""
    """What kind of thing it is, such as `person`, for tables of results; empty where annotations do not say it."""


@dataclass(frozen=True, slots=True)
class GivenBox:
    """The box that networks have given to an expression of a pool."""

    box: Corners
    weight: float
    """How much it counts in the loss."""


@dataclass(frozen=True, slots=True)
class PhraseSample(ImageSample):
    """One expression about one image; ``group`` is the image."""

    text: str = ""
    """The expression, also where nobody says what it means."""
    letters: str = ""
    """Parts of the test that it belongs to: `A` for testA, `AB` for testA and testB."""

    @property
    def identity(self) -> str:
        """That of its image: expressions about one image are never learned and measured."""
        return file_identity(Path(self.image)) if isinstance(self.image, str) else self.group or self.id


@dataclass(frozen=True, slots=True)
class Part:
    """What annotations say of the split of an expression."""

    split: str | None
    """`train`, `val` or `test`; None where they say nothing."""
    letters: str = ""
    """As in :class:`PhraseSample`."""


@dataclass(slots=True)
class Listed:
    """An expression as a file names it."""

    image: str
    """Path of the image as written, perhaps of another machine."""
    text: str
    corners: Corners
    part: Part
    place: str
    """The file, and where in it, for messages."""
    number: int | str | None = None
    """Its number in the file; None where expressions have none."""
    size: tuple[int, int] | None = None
    """Width and height of the image that the file says."""
    category: str = ""
    """As in :class:`Referred`."""


@dataclass(slots=True)
class ListedFile:
    """All expressions of a source of annotations."""

    path: Path
    """For messages."""
    order: str
    """What the four numbers of a box are: a key of :data:`vision_train.data.corners.READINGS`."""
    expressions: list[Listed] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    """What the user should know of it."""

    @property
    def folder(self) -> Path:
        """The folder that it lies in, or that it is."""
        return self.path if self.path.is_dir() else self.path.parent


def part_called(name: str) -> Part | None:
    """What the name of a split says, such as `train`, `validation`, `testA` or `testAB`; None where it says nothing."""
    if found := _TEST.fullmatch(name):
        return Part("test", found["letters"])
    split = split_called(name)
    return None if split is None else Part(split)
