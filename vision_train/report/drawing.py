"""Fit pictures and lines of text into their place, for everything that is drawn as pixels."""

from __future__ import annotations

from collections.abc import Callable

from PIL import Image, ImageFont

from vision_train.files import printable

PAPER, BACKDROP, INK, MUTED = "#ffffff", "#eef0f2", "#1a1d21", "#59616b"
LARGEST_ENLARGEMENT = 32


def fitted(image: Image.Image, width: int, height: int) -> Image.Image:
    """The picture at the largest size within ``width`` x ``height`` pixels; the aspect ratio stays.

    A picture less than half as large is enlarged by a whole factor, at most 32, with sharp pixels.
    """
    scale = min(width / image.width, height / image.height)
    if scale >= 2:
        factor = min(int(scale), LARGEST_ENLARGEMENT)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def shortened(text: str, font: ImageFont.FreeTypeFont, room: float, keep: Callable[[str, int], str]) -> str:
    """The text on one line, with as many characters as there is room for; ``keep`` chooses which."""
    text = printable(" ".join(text.split()))
    if font.getlength(text) <= room:
        return text
    kept = next(kept for kept in range(min(len(text), 200), -1, -1) if font.getlength(keep(text, kept)) <= room)
    return keep(text, kept)


def wrapped(text: str, font: ImageFont.FreeTypeFont, room: float) -> list[str]:
    """The text on as many lines as it takes; a word longer than the room is shortened."""
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= room:
            lines[-1] += f" {word}"
        else:
            lines.append(shortened(word, font, room, ends))
    return lines


def ending(text: str, kept: int) -> str:
    """Keep the end, which tells most in a path."""
    return "…" + text[len(text) - kept :]


def ends(text: str, kept: int) -> str:
    """Keep both ends, which class names need: breeds of dogs end alike, bird families begin alike."""
    return text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
