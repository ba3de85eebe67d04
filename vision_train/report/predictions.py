"""A picture with what a model sees in it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

WIDTH = 360
"""Width of the whole, in pixels."""
TALLEST = 540
"""Most height the picture itself gets."""
MARGIN, ROW, BAR = 14, 34, 6
LARGEST_ENLARGEMENT = 32
TEXT_SIZE, TITLE_SIZE = 13, 14
PAPER, BACKDROP, INK, MUTED, FULL, EMPTY = "#ffffff", "#eef0f2", "#1a1d21", "#59616b", "#2360c5", "#e3e7ec"


def render_prediction(image: Image.Image, title: str, bars: Sequence[tuple[str, float]]) -> Image.Image:
    """Put the likeliest classes, as bars of their probability, under a picture.

    Small pictures are enlarged by a whole factor with sharp pixels, large ones shrunk; the aspect ratio stays.

    Args:
        image: Any 8-bit mode, any size; transparency is laid over white.
        title: One line below the picture, such as a path; its beginning is left out as far as needed.
        bars: Label and probability in [0, 1], likeliest first.

    Returns:
        An RGB image of constant width, 360 pixels.
    """
    picture = _fitted(_opaque(image))
    frame = max(picture.height, WIDTH // 4)
    canvas = Image.new("RGB", (WIDTH, frame + ROW + ROW * len(bars) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, WIDTH, frame - 1), fill=BACKDROP)
    canvas.paste(picture, ((WIDTH - picture.width) // 2, (frame - picture.height) // 2))
    font, title_font = _font(TEXT_SIZE), _font(TITLE_SIZE)
    inner = WIDTH - 2 * MARGIN
    draw.text((MARGIN, frame + 10), _shortened(title, title_font, inner, _ending), fill=INK, font=title_font)
    for index, (label, probability) in enumerate(bars):
        top = frame + ROW + ROW * index
        share = f"{100 * probability:.1f} %"
        room = inner - font.getlength(share) - MARGIN
        ink = INK if index == 0 else MUTED
        draw.text((MARGIN, top), _shortened(label, font, room, _ends), fill=ink, font=font)
        draw.text((WIDTH - MARGIN, top), share, fill=ink, font=font, anchor="ra")
        _bar(draw, top + 20, probability)
    return canvas


@cache
def _font(size: int) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, as it comes with matplotlib: Pillow's own font has no accents, no Greek and no Cyrillic."""
    import matplotlib

    return ImageFont.truetype(Path(matplotlib.get_data_path(), "fonts", "ttf", "DejaVuSans.ttf"), size)


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, PAPER), layer).convert("RGB")


def _fitted(image: Image.Image) -> Image.Image:
    scale = min(WIDTH / image.width, TALLEST / image.height)
    if scale >= 2:
        factor = min(int(scale), LARGEST_ENLARGEMENT)
        return image.resize((image.width * factor, image.height * factor), Image.Resampling.NEAREST)
    size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    return image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)


def _bar(draw: ImageDraw.ImageDraw, top: float, probability: float) -> None:
    right = MARGIN + (WIDTH - 2 * MARGIN) * min(max(probability, 0.0), 1.0)
    draw.rounded_rectangle((MARGIN, top, WIDTH - MARGIN, top + BAR), radius=BAR // 2, fill=EMPTY)
    if right - MARGIN >= 1:
        radius = min(BAR, int(right - MARGIN)) // 2
        draw.rounded_rectangle((MARGIN, top, right, top + BAR), radius=radius, fill=FULL)


def _shortened(text: str, font: ImageFont.FreeTypeFont, room: float, keep: Callable[[str, int], str]) -> str:
    """The text on one line, with as many characters as there is room for; ``keep`` chooses which."""
    text = " ".join(text.split())
    if font.getlength(text) <= room:
        return text
    kept = next(kept for kept in range(min(len(text), 200), -1, -1) if font.getlength(keep(text, kept)) <= room)
    return keep(text, kept)


def _ending(text: str, kept: int) -> str:
    """Of paths, the end tells most."""
    return "…" + text[len(text) - kept :]


def _ends(text: str, kept: int) -> str:
    """Of class names, both ends: breeds of dogs end alike, bird families begin alike."""
    return text[: kept - kept // 2] + "…" + text[len(text) - kept // 2 :]
