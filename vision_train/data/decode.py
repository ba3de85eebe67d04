"""From the bytes of an image file to upright red, green, blue pixels, whatever the file's own mode."""

from __future__ import annotations

import contextlib
import io
import re
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import ExifTags, Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from torchvision.io import ImageReadMode, decode_jpeg

from augment.geometry import View
from augment.reduced import reduced_view, turn_of, turned
from vision_train.data.large_images import large_images
from vision_train.data.stored_images import StoredImage
from vision_train.errors import BadSampleError

JPEG_ENDINGS = (".jfif", ".jpeg", ".jpg")
"""File endings of JPEGs."""

_JPEG_START = b"\xff\xd8"
_ORIENTED = (b"Exif\0", b"http://ns.adobe.com/xap/")
"""How segments of a JPEG file begin that can name an orientation."""
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


WHITEST = 65_535
"""White in an image of 16 bits."""


class BadImageError(BadSampleError):
    """An image that cannot be decoded; the message is the reason, without the file's name."""


def decode(path: str | Path | bytes) -> NDArray[np.uint8]:
    """Decode an image file, or the bytes of one.

    Grey, palette and 1-bit images are spread over three channels, CMYK is converted, 16-bit values are scaled to 8
    bits, transparency is composed onto white, an animation gives its first frame, and the orientation that EXIF or XMP
    name is applied as Pillow applies it. Metadata that cannot be read count as absent.

    Args:
        path: Any file that Pillow reads, or its content.

    Returns:
        Pixels, H W 3, 0 to 255.

    Raises:
        BadImageError: The file is missing, empty, truncated, or not an image.
    """
    try:
        if isinstance(path, bytes):
            content = np.frombuffer(bytearray(path), dtype=np.uint8)
        else:
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


def stored_content(image: StoredImage) -> bytes:
    """The bytes of an image that stand in a file of many.

    Raises:
        BadImageError: There are none, or the file cannot be read.
    """
    try:
        content = image.read()
    except OSError as error:
        raise BadImageError(str(error)) from error
    if content is None:
        raise BadImageError("the row holds no bytes of an image; save the data set with its images inside")
    return content


def decode_large(path: str | Path) -> NDArray[np.uint8]:
    """Decode an image file of up to two thousand million pixels, as :func:`decode` does.

    Raises:
        BadImageError: As :func:`decode`.
    """
    with large_images():
        return decode(path)


def decode_reduced(path: str | Path | bytes, factor_for: Callable[[tuple[int, int]], int]) -> View[NDArray[np.uint8]]:
    """Decode an image file at a fraction of its size where it is a JPEG of colours or greys; else as :func:`decode`.

    Args:
        path: Any file that Pillow reads, or its content.
        factor_for: Says for height and width of the upright image by how much both may be divided: 1, 2, 4 or 8.

    Raises:
        BadImageError: As :func:`decode`.
    """
    view = None
    with contextlib.suppress(OSError, *_DAMAGED):  # decode explains what is wrong
        content = path if isinstance(path, bytes) else Path(path).read_bytes()
        if content[:2] == _JPEG_START:
            view = _reduced_jpeg(content, factor_for)
    return View.whole(decode(path)) if view is None else view


def _reduced_jpeg(content: bytes, factor_for: Callable[[tuple[int, int]], int]) -> View[NDArray[np.uint8]] | None:
    """The view of a JPEG that is divided by libjpeg; None where nothing is to be divided, or not by libjpeg."""
    with JpegImageFile(io.BytesIO(content)) as image:
        turn = turn_of(_orientation(image))
        width, height = image.size
        factor = factor_for((width, height) if turn.transposed else (height, width))
        if factor == 1 or image.mode not in ("RGB", "L"):
            return None
        image.draft(None, (max(1, width // factor), max(1, height // factor)))
        image.decodermaxblock = len(content)  # all at once, which saves joining parts of it
        image.load()
        pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
        return reduced_view(pixels, factor, (height, width), turn)


def greatest_of_sixteen_bits(path: str | Path) -> int | None:
    """The greatest value of a grey image of 16 bits or more; None for other images, and for what cannot be read."""
    try:
        with Image.open(path) as image:
            return int(np.asarray(image).max()) if image.mode in _SIXTEEN_BIT_MODES else None
    except (OSError, *_DAMAGED):
        return None  # told when it is read to learn from


def _decode_jpeg(content: NDArray[np.uint8]) -> NDArray[np.uint8] | None:
    """Pixels H W 3, equal to Pillow's in less time; None for what only Pillow converts (CMYK) or can explain."""
    try:
        image = decode_jpeg(torch.from_numpy(content), mode=ImageReadMode.UNCHANGED)
    except RuntimeError:
        return None
    channels = image.shape[0]
    if channels == 1:
        image = image.expand(3, -1, -1)
    elif channels != 3:
        return None
    return _upright(image.permute(1, 2, 0).numpy(), _orientation_of_jpeg(content))


def _orientation_of_jpeg(content: NDArray[np.uint8]) -> int:
    # torchvision applies what EXIF says, but not XMP. Image.open would refuse large images, though these are decoded.
    whole = content.tobytes()
    if not any(start in whole for start in _ORIENTED):
        return 1  # saves the time to look through all segments
    try:
        header = JpegImageFile(io.BytesIO(whole))
    except (OSError, *_DAMAGED):  # torchvision has read the pixels; what Pillow cannot read are metadata
        return 1
    with header:
        return _orientation(header)


def _decode_with_pillow(content: NDArray[np.uint8]) -> NDArray[np.uint8]:
    with _open(content.tobytes()) as image:
        image.load()
        return pixels_of(image)


def pixels_of(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of a picture in memory, H W 3, prepared as those of a file are; see :func:`decode`.

    Raises:
        BadImageError: Its values have no defined range.
    """
    return _upright(_eight_bits(image), _orientation(image))


def _open(content: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(content))
    except (UnidentifiedImageError, ValueError, RuntimeError):
        # EXIF is read when an AVIF file is opened, and one that is damaged makes it no image. Under another name of
        # the same length the item that holds it is ignored.
        hidden = re.sub(rb"(infe.{8}(?:..)?)Exif", rb"\1none", content, flags=re.DOTALL)
        if content[4:8] != b"ftyp" or hidden == content:
            raise
        return Image.open(io.BytesIO(hidden))


def _eight_bits(image: Image.Image) -> NDArray[np.uint8]:
    if image.mode in _SIXTEEN_BIT_MODES:
        return _from_sixteen_bits(np.asarray(image))
    if image.mode == "F":
        raise BadImageError("floating-point pixels have no defined range; save the image with 8 or 16 bits")
    if image.has_transparency_data:
        opaque = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", opaque.size, _WHITE), opaque)
    return np.array(image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """How the picture lies, as EXIF counts it: 1 to 8. It lies upright where nothing readable says otherwise."""
    with warnings.catch_warnings(action="ignore"):  # of damaged EXIF
        try:
            said = image.getexif().get(ExifTags.Base.Orientation, 1)
        except (OSError, AssertionError, ArithmeticError, AttributeError, *_DAMAGED):
            return 1
    return said if said in range(1, 9) else 1


def _upright(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """H W 3, turned and mirrored as ``PIL.ImageOps.exif_transpose`` does."""
    return turned(pixels, turn_of(orientation))


def _from_sixteen_bits(grey: NDArray[np.generic]) -> NDArray[np.uint8]:
    """H W in 0..65535 -> H W 3 in 0..255, rounded (65535 = 255 x 257)."""
    lowest, highest = int(grey.min()), int(grey.max())
    if lowest < 0 or highest > WHITEST:
        raise BadImageError(
            f"grey values from {lowest:,} to {highest:,}, though they may reach from 0 to {WHITEST:,}; save the image "
            "with 8 or 16 bits"
        )
    scaled = ((grey.astype(np.int64) + 128) // 257).astype(np.uint8)
    return np.repeat(scaled[:, :, None], 3, axis=2)
