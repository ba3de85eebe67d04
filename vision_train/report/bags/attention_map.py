"""Attention over the tiles of a slide as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageColor, ImageDraw

from vision_train.report.bags.attention_values import attention_values, hottest, rank_shares
from vision_train.report.bags.tile_layout import Pixels, TileLayout
from vision_train.report.drawing import BACKDROP, INK, MUTED, PAPER, ends, fitted, shortened, wrapped
from vision_train.report.fonts import font
from vision_train.report.formats import format_number, format_percent
from vision_train.wording import count_of

COLOURS = "viridis"
"""Colour map of matplotlib: even steps of attention look even, to the colour-blind too."""
OPACITY = 0.4
"""Opacity of the colours over a slide."""
BRANCH_SIDE = 384
"""Square that each of several maps is fitted into, in pixels."""
WIDE = 1.8
"""Width over height, as of a screen, that several maps together approach."""
HOTTEST = 10
"""Number of hottest instances whose share of the attention is printed."""
MARGIN, GAP = 24, 20
BAR = 400
"""Longest colour bar."""
RANK_MEANING = "colour: share of the bag's other {} that have less attention"
"""Legend of ``rank``; takes what the tiles are called."""
NARROWEST, NARROWEST_OF_SEVERAL = 480, 210
"""Least width of a picture, and of the place of each of several maps, in pixels: there must be room for text."""
SMALLEST_TEXT, LARGEST_TEXT = 14, 26

Scaling = Literal["rank", "minmax"]
"""What colours show. ``rank``: the share of the bag's other tiles that have less attention, ties counted half,
because attention often spans many orders of magnitude. ``minmax``: attention, from the bag's lowest to its highest."""


@dataclass(frozen=True)
class _Legend:
    """The colour bar: what is written at its ends and below it, and the colours as they look on the map."""

    low: str
    high: str
    meaning: str
    strip: Pixels
    """1 256 3."""


@dataclass(frozen=True)
class _Style:
    """Width of a picture, and sizes that grow with it: all in pixels."""

    width: int
    text: int

    @property
    def line(self) -> int:
        return round(1.6 * self.text)

    @property
    def room(self) -> int:
        return self.width - 2 * MARGIN


def attention_map(title: str, attention: NDArray[np.floating], layout: TileLayout, scaling: Scaling = "rank") -> Pixels:
    """Draw the attention of a bag with its title, colour bar and notes; over a thumbnail, with that itself beside it.

    Args:
        title: Such as the slide's id.
        attention: N, at least 0, summing to 1.
        layout: Where the N tiles lie.
        scaling: What the colours mean.

    Returns:
        H W 3.

    Raises:
        ValueError: Attention and layout have not the same tiles, or attention is negative, NaN or infinite.
    """
    maps = {} if layout.background is None else {"slide": layout.background}
    maps["attention"] = bare_map(attention, layout, scaling)
    facts = "; ".join(filter(None, (counted(layout), concentration(attention, " of the attention"))))
    return _picture(title, facts, maps, {}, layout.notes, _legend([attention], scaling, layout), max(layout.size))


def branch_maps(title: str, attention: NDArray[np.floating], layout: TileLayout, scaling: Scaling = "rank") -> Pixels:
    """Draw the attention of each branch, side by side.

    Args:
        title: Such as the slide's id.
        attention: T N, each row at least 0, summing to 1. With several heads: their mean.
        layout: Where the N tiles lie.
        scaling: What the colours mean; with ``minmax`` each map has a scale of its own.

    Returns:
        H W 3.

    Raises:
        ValueError: Attention and layout have not the same tiles, or attention is negative, NaN or infinite.
    """
    branches = {f"branch {number}": values for number, values in enumerate(attention)}
    maps = {heading: bare_map(values, layout, scaling) for heading, values in branches.items()}
    below = {heading: concentration(values) for heading, values in branches.items()}
    facts = f"{count_of(len(branches), 'branches')}, {counted(layout)}"
    return _picture(title, facts, maps, below, layout.notes, _legend(list(attention), scaling, layout), BRANCH_SIDE)


def bare_map(attention: NDArray[np.floating], layout: TileLayout, scaling: Scaling = "rank") -> Pixels:
    """Draw nothing but the tiles in their colours.

    Args:
        attention: N, at least 0, summing to 1.
        layout: Where the N tiles lie.
        scaling: What the colours mean.

    Returns:
        H W 3, of the layout's size.

    Raises:
        ValueError: Attention and layout have not the same tiles, or attention is negative, NaN or infinite.
    """
    values = attention_values(attention)
    if len(values) != len(layout.boxes):
        raise ValueError(f"attention for {len(values)} instances, places for {len(layout.boxes)}")
    averaged = layout.averaged(_scaled(values, scaling))
    empty = np.isnan(averaged)[..., None]
    colours = _colours(np.nan_to_num(averaged))
    if layout.background is None:
        return np.where(empty, np.array(ImageColor.getrgb(BACKDROP), np.uint8), colours)
    grey = _grey(layout.background)
    return np.where(empty, grey, _laid_over(colours, grey))


def concentration(attention: NDArray[np.floating], of: str = "") -> str:
    """Describe how attention (N) is spread; empty for a bag of a few instances.

    Ranks alone would hide a network that looks at a few instances, or at all alike.

    Raises:
        ValueError: Attention is negative, NaN or infinite.
    """
    values = attention_values(attention)
    if len(values) > 1 and values.min() == values.max():
        return "all have the same attention"
    if len(values) <= HOTTEST:
        return ""
    return f"the {HOTTEST} hottest hold {format_percent(float(values[hottest(values, HOTTEST)].sum()))}{of}"


def counted(layout: TileLayout) -> str:
    """How many tiles or instances there are: ``300 tiles``."""
    return count_of(len(layout.boxes), layout.noun)


def colour_bar() -> Pixels:
    """The colours of maps without a slide, from least to most: 1 256 3."""
    return _colours(np.linspace(0, 1, 256)[None])


def _scaled(values: NDArray[np.float64], scaling: Scaling) -> NDArray[np.float64]:
    """Scale attention (N) to [0, 1], the range of the colours; 0.5 if all values are equal."""
    if scaling == "rank":
        return rank_shares(values)
    low, high = values.min(), values.max()
    return (values - low) / (high - low) if high > low else np.full(len(values), 0.5)


def _grey(slide: Pixels) -> Pixels:
    """H W 3 without colours: those of the stain would mix with those of the attention."""
    return np.asarray(Image.fromarray(slide).convert("L").convert("RGB"))


def _colours(shares: NDArray[np.float64]) -> Pixels:
    import matplotlib

    return matplotlib.colormaps[COLOURS](shares, bytes=True)[..., :3]


def _laid_over(colours: Pixels, background: Pixels | NDArray[np.float64]) -> Pixels:
    return np.rint(OPACITY * colours + (1 - OPACITY) * background).astype(np.uint8)


def _legend(bags: Sequence[NDArray[np.floating]], scaling: Scaling, layout: TileLayout) -> _Legend:
    strip = colour_bar()
    if layout.background is not None:
        # Colours that let the slide shine through would not be found on a bar of pure ones.
        strip = _laid_over(strip, _grey(layout.background)[layout.coverage > 0].mean(axis=0))
    if scaling == "rank":
        return _Legend("0 %", "100 %", RANK_MEANING.format(layout.noun), strip)
    if len(bags) > 1:
        return _Legend("lowest", "highest", "colour: attention, each map on a scale of its own", strip)
    low, high = (format_number(float(end)) for end in (bags[0].min(), bags[0].max()))
    return _Legend(low, high, "colour: attention, from the lowest to the highest of the bag", strip)


def _picture(
    title: str,
    facts: str,
    maps: dict[str, Pixels],
    below: dict[str, str],
    notes: Sequence[str],
    legend: _Legend,
    side: int,
) -> Pixels:
    panels = {heading: fitted(Image.fromarray(pixels), side, side) for heading, pixels in maps.items()}
    width, height = next(iter(panels.values())).size
    columns = _columns(len(panels), width / height)
    cell = max(width, NARROWEST_OF_SEVERAL if columns > 1 else NARROWEST - 2 * MARGIN)
    total = 2 * MARGIN + columns * (cell + GAP) - GAP
    style = _Style(total, max(min(total // 75, cell // 15, LARGEST_TEXT), SMALLEST_TEXT))
    blocks = [_head(title, facts, style), _grid(panels, below, columns, cell, style), _foot(legend, notes, style)]
    canvas = Image.new("RGB", (total, sum(block.height for block in blocks)), PAPER)
    top = 0
    for block in blocks:
        canvas.paste(block, (0, top))
        top += block.height
    return np.asarray(canvas)


def _columns(count: int, aspect: float) -> int:
    """Number of columns that brings ``count`` panels of this aspect ratio nearest to the shape of a screen."""

    def distance(columns: int) -> float:
        return abs(math.log(columns / math.ceil(count / columns) * aspect / WIDE))

    return min(range(1, count + 1), key=distance)


def _head(title: str, facts: str, style: _Style) -> Image.Image:
    size = round(1.35 * style.text)
    block = Image.new("RGB", (style.width, MARGIN + 2 * style.line + size), PAPER)
    draw = ImageDraw.Draw(block)
    face = font(size, title, bold=True)
    draw.text((MARGIN, MARGIN), shortened(title, face, style.room, ends), fill=INK, font=face)
    face = font(style.text, facts)
    draw.text((MARGIN, MARGIN + round(1.6 * size)), shortened(facts, face, style.room, ends), fill=MUTED, font=face)
    return block


def _grid(panels: dict[str, Image.Image], below: dict[str, str], columns: int, cell: int, style: _Style) -> Image.Image:
    """Panels under their headings; a single one needs none."""
    headed, height = len(panels) > 1, next(iter(panels.values())).height
    row = style.line * (headed + bool(below)) + height + GAP
    block = Image.new("RGB", (style.width, row * math.ceil(len(panels) / columns)), PAPER)
    draw = ImageDraw.Draw(block)
    for index, (heading, panel) in enumerate(panels.items()):
        left, top = MARGIN + index % columns * (cell + GAP), index // columns * row
        texts = [(heading, INK, font(style.text, bold=True))] if headed else []
        texts += [(below[heading], MUTED, font(style.text))] if below else []
        for text, ink, face in texts:
            draw.text((left, top), shortened(text, face, cell, ends), fill=ink, font=face)
            top += style.line
        block.paste(panel, (left, top))
    return block


def _foot(legend: _Legend, notes: Sequence[str], style: _Style) -> Image.Image:
    """Colour bar between its ends, what it means, and the notes."""
    face = font(style.text)
    lines = [line for text in (legend.meaning, *notes) for line in wrapped(text, face, style.room)]
    block = Image.new("RGB", (style.width, style.line * (1 + len(lines)) + MARGIN), PAPER)
    draw = ImageDraw.Draw(block)
    draw.text((MARGIN, 0), legend.low, fill=INK, font=face)
    left = MARGIN + math.ceil(face.getlength(legend.low)) + style.text // 2
    length = min(style.room // 2, BAR)
    block.paste(Image.fromarray(legend.strip).resize((length, style.text)), (left, 2))
    draw.text((left + length + style.text // 2, 0), legend.high, fill=INK, font=face)
    for number, text in enumerate(lines, start=1):
        draw.text((MARGIN, number * style.line), text, fill=MUTED, font=face)
    return block
