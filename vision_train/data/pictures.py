"""Which images show the same pixels, and which look alike, whatever their files are.

A picture that was saved anew without loss has other bytes and the same pixels. One that was resized or compressed again
has other pixels, but mostly the same outline: whether each cell of a coarse grid is lighter than the one on its left.
Images are decoded for that, which takes about as long as a pass over them in training; what is made of files is
remembered with their other digests.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_train.data.content import CONTENTS, Shared
from vision_train.data.decode import BadImageError, decode, stored_content
from vision_train.data.sample import ImageSample, Pixels, Sample
from vision_train.data.stored_content import rows_of
from vision_train.data.stored_images import StoredImage
from vision_train.progress import doing

MOST_IMAGES = 50_000
MOST_BYTES = 8 * 2**30
"""Images, and bytes of their files, up to which pixels are compared: some minutes, once. On one core that others used
too, 2,000 photographs of 224 x 224 pixels took 4 s, 20,000 took 59 s, and 2,000 of 500 x 375 took 19 s."""
DIGITS = 32
"""Hexadecimal digits that are kept of a digest of pixels."""
GRID = 8
"""Rows and columns of an outline."""
SMALLEST_SIDE = 32
"""Pixels of the shorter side below which outlines say nothing: of scans of 8 x 8 pixels, six of ten have the outline of
another one within :data:`ALIKE` bits."""
LARGEST_SIDE = 256
"""Pixels of a side that an outline is made of at most; of larger images rows and columns are left out."""
FEWEST_BITS = 8
"""Cells that are lighter than the one on their left, and cells that are not, below which an outline is that of an image
on which there is next to nothing."""
ALIKE = 4
"""Bits of two outlines that may differ where images look alike."""
ROWS = 4096
"""Outlines that are compared with all others at a time."""


class Picture(NamedTuple):
    """What is compared of an image."""

    pixels: str
    """Digest of height, width and pixels."""
    outline: int | None
    """64 bits; None where they would say nothing."""


Pictures = dict[str, Picture]
"""By the identity of a sample."""


def too_many(samples: Iterable[Sample]) -> str:
    """How many files are too many to be decoded, in words; empty where they are not."""
    images = [sample.image for sample in samples if isinstance(sample, ImageSample)]
    files = {image for image in images if isinstance(image, str)}
    stored = {image for image in images if isinstance(image, StoredImage)}
    files |= {image.file for image in stored}
    count = len(stored) + len(files - {image.file for image in stored})
    size = 0 if count > MOST_IMAGES else sum(map(_size, files))
    if count <= MOST_IMAGES and size <= MOST_BYTES:
        return ""
    return f"{count:,} images" + (f" of {size / 2**30:.1f} GiB" if size else "")


def pictures_of(samples: Sequence[Sample]) -> Pictures:
    """Decode images and describe them; what is no image, or cannot be read, is left out."""
    images = [sample for sample in samples if isinstance(sample, ImageSample)]
    files = {sample.identity: sample.image for sample in images if isinstance(sample.image, str)}
    texts = CONTENTS.of_pictures([*files.values()], _describe_file)
    found = {identity: _read(texts[path]) for identity, path in files.items() if path in texts}
    found |= _of_rows(rows_of(images))
    held = {sample.identity: sample.image for sample in images if not isinstance(sample.image, str | StoredImage)}
    return found | {identity: describe(pixels) for identity, pixels in held.items()}


def same_pixels(lists: Mapping[str, Sequence[Sample]], pictures: Pictures) -> list[Shared]:
    """Find the pictures that occur in more than one list; as :meth:`vision_train.data.content.Contents.shared`."""
    groups: dict[str, Shared] = defaultdict(dict)
    for name, samples in lists.items():
        for sample in samples:
            if picture := pictures.get(sample.identity):
                groups[picture.pixels].setdefault(name, []).append(sample)
    return [group for group in groups.values() if len(group) > 1]


def look_alike(samples: Sequence[Sample], others: Sequence[Sample], pictures: Pictures) -> list[tuple[Sample, Sample]]:
    """The samples that look like one of the others, each with the one that it resembles most."""
    first, own = _outlines(samples, pictures)
    second, theirs = _outlines(others, pictures)
    if not first or not second:
        return []
    pairs = []
    for start in range(0, len(first), ROWS):
        differing = np.bitwise_count(own[start : start + ROWS, None] ^ theirs[None])  # rows, others
        nearest = differing.argmin(axis=1)
        close = np.flatnonzero(differing.min(axis=1) <= ALIKE)
        pairs += [(first[start + row], second[nearest[row]]) for row in close]
    return pairs


def describe(pixels: Pixels) -> Picture:
    """What is compared of an image, from its pixels (H W 3)."""
    height, width = pixels.shape[:2]
    content = hashlib.sha256(f"{height} {width} ".encode())
    content.update(np.ascontiguousarray(pixels).data)
    return Picture(content.hexdigest()[:DIGITS], _outline(pixels) if min(height, width) >= SMALLEST_SIDE else None)


def _outline(pixels: Pixels) -> int | None:
    strides = [max(1, side // LARGEST_SIDE) for side in pixels.shape[:2]]
    thinned = np.ascontiguousarray(pixels[:: strides[0], :: strides[1]])
    grey = np.asarray(Image.fromarray(thinned).convert("L").resize((GRID + 1, GRID), Image.Resampling.BOX))
    lighter = grey[:, 1:] > grey[:, :-1]
    if not FEWEST_BITS <= lighter.sum() <= lighter.size - FEWEST_BITS:
        return None
    return int.from_bytes(np.packbits(lighter).tobytes())


def _of_rows(rows: Mapping[str, StoredImage]) -> Pictures:
    """The pictures that stand in rows of files, by identity; each is decoded once, unless its file changes."""
    found: Pictures = {}
    if not rows:
        return found
    with doing("comparing pictures", len(rows), "images") as work:
        for identity, image in rows.items():
            with suppress(BadImageError):  # told when it is read to learn from
                found[identity] = _describe_row(image)
            work.advance()
    return found


@cache
def _describe_row(image: StoredImage) -> Picture:
    return describe(decode(stored_content(image)))


def _describe_file(path: str) -> str:
    """A picture as a text; empty where it cannot be read, which is told when it is read to learn from."""
    try:
        picture = describe(decode(path))
    except BadImageError:
        return ""
    return picture.pixels if picture.outline is None else f"{picture.pixels} {picture.outline:x}"


def _read(text: str) -> Picture:
    pixels, *outline = text.split()
    return Picture(pixels, int(outline[0], 16) if outline else None)


def _outlines(samples: Sequence[Sample], pictures: Pictures) -> tuple[list[Sample], NDArray[np.uint64]]:
    """The samples that have an outline, and their outlines."""
    found = [(sample, pictures[sample.identity].outline) for sample in samples if sample.identity in pictures]
    known = [(sample, outline) for sample, outline in found if outline is not None]
    return [sample for sample, _ in known], np.array([outline for _, outline in known], dtype=np.uint64)


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0
