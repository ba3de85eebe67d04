"""What images hold whose bytes stand in rows of Parquet and Arrow files."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from vision_train.data.sample import ImageSample, Sample
from vision_train.data.stored_images import StoredImage
from vision_train.progress import doing

MOST_BYTES = 4 * 2**30
"""Rows are compared of files that are no larger than this together: reading them takes some seconds."""


def rows_of(samples: Iterable[Sample]) -> dict[str, StoredImage]:
    """The images that stand in rows, by the identity of their samples.

    They are in the order of their files, of which a group of rows is read at a time.
    """
    images = [sample for sample in samples if isinstance(sample, ImageSample)]
    rows = {sample.identity: sample.image for sample in images if isinstance(sample.image, StoredImage)}
    return dict(sorted(rows.items(), key=lambda item: (item[1].file, item[1].row)))


def row_digests(samples: Iterable[Sample]) -> dict[str, str]:
    """A digest of the bytes of each image that stands in a row, by the identity of its sample.

    Those of more than :data:`MOST_BYTES` are not read, nor are rows that cannot be.
    """
    rows = rows_of(samples)
    if not rows or _too_much(rows.values()):
        return {}
    found = {}
    with doing("comparing images"):
        for identity, image in rows.items():
            with suppress(OSError):  # told when it is read to learn from
                found[identity] = _digest(image)
    return found


def unread(samples: Iterable[Sample]) -> str:
    """The size of the files, in words, where it is too much for their rows to be compared; empty where they are."""
    rows = rows_of(samples)
    return f"{_size(rows.values()) / 2**30:.1f} GiB of Parquet or Arrow files" if _too_much(rows.values()) else ""


def _too_much(rows: Iterable[StoredImage]) -> bool:
    """Whether the files of these rows are too large to be read as a whole."""
    return _size(rows) > MOST_BYTES


def _size(rows: Iterable[StoredImage]) -> int:
    return sum(Path(file).stat().st_size for file in {image.file for image in rows})


@cache
def _digest(image: StoredImage) -> str:
    """A digest of the bytes in a row of a file.

    Raises:
        OSError: The row cannot be read, or holds none.
    """
    content = image.read()
    if content is None:
        raise OSError(f"{image.place}: holds no bytes")
    return hashlib.sha256(content).hexdigest()
