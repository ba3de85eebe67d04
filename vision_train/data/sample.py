"""What is known of a sample before it is read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vision_train.data.stored_images import StoredImage

Pixels = NDArray[np.uint8]


class Divisible(Protocol):
    """A sample, or several that stay together when splits are cut."""

    @property
    def id(self) -> str:
        """Unique in the data set."""

    @property
    def truth(self) -> Any:
        """What is to be learned of it, such as the name of its class; None without a label."""

    @property
    def split(self) -> str | None:
        """`train`, `val` or `test`; None where the source does not say."""


class Sample(Divisible, Protocol):
    """One item of a data set. Only its kind of data knows what its truth is and how it is read."""

    @property
    def place(self) -> str:
        """Where it lies, for messages and records; empty for what is in memory."""

    @property
    def file(self) -> str | None:
        """Path of the file that holds it and nothing else, whose bytes are its content; None where there is none."""

    @property
    def identity(self) -> str:
        """The same for the same thing, whatever list names it."""

    @property
    def group(self) -> str | None:
        """What stays in one split and is resampled together, such as a patient; None for a group of its own."""


@dataclass(frozen=True, slots=True)
class ImageSample:
    """One image."""

    id: str
    """Unique in the data set; for files the path below the root, or as the user gave it."""
    image: str | StoredImage | Pixels
    """Path of the file, where its bytes stand in a file of many, or the pixels themselves (H W 3)."""
    truth: Any = None
    """What is to be learned of it, such as the name of its class; None without a label."""
    split: str | None = None
    """`train`, `val` or `test`; None where the source does not say."""
    group: str | None = None
    """Images that stay in one split; None for a group of its own."""

    @property
    def place(self) -> str:
        """Path of the file, with the row in one of many; empty for pixels in memory."""
        if isinstance(self.image, StoredImage):
            return self.image.place
        return self.image if isinstance(self.image, str) else ""

    @property
    def file(self) -> str | None:
        """Path of the file; None for pixels in memory, and for a row of a file of many."""
        return self.image if isinstance(self.image, str) else None

    @property
    def identity(self) -> str:
        """The same for the same image, whatever list names it: the file that its path leads to, its row, or its id."""
        if isinstance(self.image, StoredImage):
            return f"{file_identity(Path(self.image.file))}#{self.image.row}"
        return file_identity(Path(self.image)) if isinstance(self.image, str) else self.id


def file_identity(path: Path) -> str:
    """The same for all paths that lead to one file; the path itself where there is none."""
    try:
        file = path.stat()  # much cheaper than resolving the path
    except OSError:
        return str(path)
    return f"{file.st_dev}:{file.st_ino}"


def digest(samples: Iterable[Sample]) -> str:
    """Digest of the ids, places and truths of samples: it changes where a label or an annotation is edited."""
    # Samples in memory have no place; their ids tell them apart.
    lines = [[sample.id, sample.place, sample.truth] for sample in samples]
    return hashlib.sha256(json.dumps(lines, default=_plain).encode()).hexdigest()


def brief_truth(truth: Any) -> str | None:
    """The truth of a sample as a short text that changes where it is edited: the name of its class, or a digest."""
    if truth is None or isinstance(truth, str):
        return truth
    return hashlib.sha256(json.dumps(truth, default=_plain).encode()).hexdigest()[:16]


def _plain(truth: Any) -> Any:
    if is_dataclass(truth) and not isinstance(truth, type):
        return {each.name: getattr(truth, each.name) for each in fields(truth)}  # asdict copies all that is in it
    if isinstance(truth, np.ndarray | np.generic):
        return truth.tolist()
    raise TypeError(
        f"the truth of a sample is made of plain values, arrays and dataclasses, got {type(truth).__name__}"
    )
