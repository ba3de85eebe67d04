"""A picture with what a model sees in it."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw

from vision_train.previews import Bars, Pixels
from vision_train.report.drawing import BACKDROP, INK, MUTED, PAPER, ending, ends, fitted, shortened
from vision_train.report.fonts import font

WIDTH = 360
"""Width of the whole, in pixels."""
TALLEST = 540
"""Most height the picture itself gets."""
MARGIN, ROW, BAR = 14, 34, 6
TEXT_SIZE, TITLE_SIZE = 13, 14
FULL, EMPTY = "#2360c5", "#e3e7ec"


def draw_bars(original: Pixels, title: str, drawing: Bars) -> Image.Image:
    """Original pixels, H W 3 -> a picture with bars below it."""
    return render_prediction(Image.fromarray(original), title, drawing.bars)


def labels_of(drawing: Bars) -> list[str]:
    """The labels of bars."""
    return [label for label, _ in drawing.bars]


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
    picture = fitted(_opaque(image), WIDTH, TALLEST)
    frame = max(picture.height, WIDTH // 4)
    canvas = Image.new("RGB", (WIDTH, frame + ROW + ROW * len(bars) + MARGIN), PAPER)
    draw = ImageDraw.Draw(canvas)
    draw.rectangle((0, 0, WIDTH, frame - 1), fill=BACKDROP)
    canvas.paste(picture, ((WIDTH - picture.width) // 2, (frame - picture.height) // 2))
    text_font, title_font = font(TEXT_SIZE), font(TITLE_SIZE, title)
    inner = WIDTH - 2 * MARGIN
    draw.text((MARGIN, frame + 10), shortened(title, title_font, inner, ending), fill=INK, font=title_font)
    for index, (label, probability) in enumerate(bars):
        top = frame + ROW + ROW * index
        share = f"{100 * probability:.1f} %"
        room = inner - text_font.getlength(share) - MARGIN
        ink = INK if index == 0 else MUTED
        label_font = font(TEXT_SIZE, label)
        draw.text((MARGIN, top), shortened(label, label_font, room, ends), fill=ink, font=label_font)
        draw.text((WIDTH - MARGIN, top), share, fill=ink, font=text_font, anchor="ra")
        _bar(draw, top + 20, probability)
    return canvas


def _opaque(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image.convert("RGB")
    layer = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", layer.size, PAPER), layer).convert("RGB")


def _bar(draw: ImageDraw.ImageDraw, top: float, probability: float) -> None:
    right = MARGIN + (WIDTH - 2 * MARGIN) * min(max(probability, 0.0), 1.0)
    draw.rounded_rectangle((MARGIN, top, WIDTH - MARGIN, top + BAR), radius=BAR // 2, fill=EMPTY)
    if right - MARGIN >= 1:
        radius = min(BAR, int(right - MARGIN)) // 2
        draw.rounded_rectangle((MARGIN, top, right, top + BAR), radius=radius, fill=FULL)
