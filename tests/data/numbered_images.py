"""Small images by numbers, and their files."""

import io

import numpy as np
from PIL import Image


def pixels(number: int) -> np.ndarray:
    """8 x 8 random pixels; the same number gives the same ones."""
    return np.random.default_rng(number).integers(0, 256, (8, 8, 3), dtype=np.uint8)


def png(number: int) -> bytes:
    """The bytes of a PNG file of them."""
    buffer = io.BytesIO()
    Image.fromarray(pixels(number)).save(buffer, format="PNG")
    return buffer.getvalue()
