"""How large an image may be that Pillow opens."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Iterator

from PIL import Image

MOST_PIXELS = 2**31
"""Most pixels of an image: it is held in memory whole, which takes 6 GiB."""


@contextlib.contextmanager
def large_images() -> Iterator[None]:
    """Let Pillow open images of up to two thousand million pixels.

    By default it refuses 180 million and more, since a small file may hold enough of them to fill the memory.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # it warns of more, and refuses twice as many
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit
