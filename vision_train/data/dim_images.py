"""Grey images of 16 bits that use few of them, such as those of scanners with 12 bits: they come out almost black."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vision_train.data.decode import WHITEST, greatest_of_sixteen_bits
from vision_train.files import printable

LOOKED_AT = 16
"""Images of a data set that are looked at, evenly spread, since all of them would take long."""
DIM = 2**14
"""Data whose values all lie below this use a quarter of the range at most."""
_ENDINGS = (".pgm", ".png", ".tif", ".tiff")
"""Endings of files that can hold 16 bits."""


def dim_images(paths: Sequence[str]) -> list[str]:
    """A sentence about images of 16 bits that come out almost black, with the remedy; none where there are none.

    Args:
        paths: Files of images.
    """
    able = [path for path in paths if path.lower().endswith(_ENDINGS)]
    looked_at = able[:: -(-len(able) // LOOKED_AT) or 1]
    greatest = {path: value for path in looked_at if (value := greatest_of_sixteen_bits(path)) is not None}
    if not greatest or max(greatest.values()) >= DIM:
        return []
    example = printable(Path(next(iter(greatest))).name)
    return [
        f"images such as {example} have 16 bits, but values of {max(greatest.values()):,} at most, where white is "
        f"{WHITEST:,} ({len(greatest)} images looked at): they come out almost black. Save them with their values "
        "multiplied so that white is 65,535 (by 16 for 12 bits), or with 8 bits"
    ]
