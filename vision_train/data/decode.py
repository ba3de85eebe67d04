"""From the bytes of an image file to upright red, green, blue pixels, whatever the file's own mode."""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_jpeg

from vision_train.errors import BadSampleError

IMAGE_ENDINGS = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""File endings, that count as images when a folder is listed; upper case counts as well."""

_JPEG_START = b"\xff\xd8"
_WHITE = (255, 255, 255, 255)
_SIXTEEN_BIT_MODES = ("I", "I;16", "I;16B", "I;16L", "I;16N")
# What Pillow's format readers raise on damaged files, besides OSError.
_DAMAGED = (
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)


MOST_PIXELS = 2**31
"""Most pixels of an image: it is held in memory whole, which takes 6 GiB."""


class BadImageError(BadSampleError):
    """An image that cannot be decoded; the message is the reason, without the file's name."""


def is_image_file(path: Path) -> bool:
    """Whether ``path`` is named like an image and not hidden (``._x.jpg`` of macOS holds no picture)."""
    return path.suffix.lower() in IMAGE_ENDINGS and not path.name.startswith(".")


def decode(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file.

    Grey, palette and 1-bit images are spread over three channels, CMYK is converted, 16-bit values are scaled to 8
    bits, transparency is composed onto white, an animation gives its first frame, and EXIF's orientation is applied.

    Args:
        path: Any file that Pillow reads.

    Returns:
        Pixels, H W 3, 0 to 255.

    Raises:
        BadImageError: The file is missing, empty, truncated, or not an image.
    """
    try:
        content = np.fromfile(path, dtype=np.uint8)
        if not content.size:
            raise BadImageError("the file is empty (0 bytes)")
        pixels = _decode_jpeg(content) if content[:2].tobytes() == _JPEG_START else None
        return _decode_with_pillow(content) if pixels is None else pixels
    except UnidentifiedImageError as error:
        raise BadImageError("not an image in a known format") from error
    except OSError as error:
        raise BadImageError(error.strerror or str(error)) from error
    except _DAMAGED as error:
        raise BadImageError(f"damaged ({error})") from error


def decode_large(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file of up to two thousand million pixels, as :func:`decode` does.

    By default Pillow refuses 180 million pixels and more, since a small file may hold enough of them to fill the
    memory.

    Raises:
        BadImageError: As :func:`decode`.
    """
    limit = Image.MAX_IMAGE_PIXELS
    Image.MAX_IMAGE_PIXELS = MOST_PIXELS // 2  # it warns of more, and refuses twice as many
    try:
        with warnings.catch_warnings(action="ignore", category=Image.DecompressionBombWarning):
            return decode(path)
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _decode_jpeg(content: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Pixels H W 3, equal to Pillow's in less time; None for what only Pillow converts (CMYK) or can explain."""
    try:
        image = decode_jpeg(torch.from_numpy(content), mode=ImageReadMode.UNCHANGED, apply_exif_orientation=True)
    except RuntimeError:
        return None
    channels = image.shape[0]
    if channels == 1:
        image = image.expand(3, -1, -1)
    elif channels != 3:
        return None
    return np.ascontiguousarray(image.permute(1, 2, 0).numpy())


def _decode_with_pillow(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with Image.open(io.BytesIO(content.tobytes())) as file:
        image = ImageOps.exif_transpose(file)
        if image.mode in _SIXTEEN_BIT_MODES:
            return _from_sixteen_bits(np.asarray(image))
        if image.mode == "F":
            raise BadImageError("floating-point pixels have no defined range; save the image with 8 or 16 bits")
        if image.has_transparency_data:
            opaque = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", opaque.size, _WHITE), opaque)
        return np.array(image.convert("RGB"))


def _from_sixteen_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """H W in 0..65535 -> H W 3 in 0..255, rounded (65535 = 255 x 257)."""
    scaled = ((np.clip(grey.astype(np.int64), 0, 65535) + 128) // 257).astype(np.uint8)
    return np.repeat(scaled[:, :, None], 3, axis=2)
