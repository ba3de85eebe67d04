"""Reading images whose annotations are of one size."""

from __future__ import annotations

from collections.abc import Mapping

from vision_train.data.decode import decode, decode_large, stored_content
from vision_train.data.kind import SKIP_BAD
from vision_train.data.sample import Pixels
from vision_train.data.stored_images import StoredImage
from vision_train.errors import BadSampleError, UserError


def annotated_pixels(image: str | StoredImage | Pixels, annotated: tuple[int, int] | None) -> Pixels:
    """An image as its annotations see it, H W 3.

    Args:
        image: Path of the file, where its bytes stand in a file of many, or the pixels themselves.
        annotated: Width and height that the annotations are of; None without annotations.

    Raises:
        BadSampleError: It cannot be read, or is of another size than its annotations say.
    """
    if isinstance(image, StoredImage):
        pixels = decode(stored_content(image))
    else:
        pixels = decode_large(image) if isinstance(image, str) else image
    height, width = pixels.shape[:2]
    if annotated is not None and annotated != (width, height):
        said = f"its annotations are of {annotated[0]} x {annotated[1]} pixels"
        raise BadSampleError(f"{said}, but it has {width} x {height}{_turned(annotated, (width, height))}")
    return pixels


def _turned(annotated: tuple[int, int], size: tuple[int, int]) -> str:
    if annotated[::-1] != size:
        return "; its boxes would lie elsewhere"
    return " as it is shown: the boxes were drawn before the file's EXIF turned it; save it without that, upright"


def refused_image(bad: Mapping[str, str], *, shared: bool = False) -> UserError:
    """The error about the first of some images that cannot be used, with the reasons."""
    path, reason = next(iter(bad.items()))
    return UserError(f"unusable image {path}: {reason}. Repair or remove it, or {SKIP_BAD}", shared=shared)
