"""Artefacts as parts of the page, by their type alone."""

from __future__ import annotations

import base64
import io

import numpy as np
from PIL import Image

from vision_train.artefacts import Artefact, AttendedBag, AttentionMaps, Curve, ImageGrid, Matrix, Table
from vision_train.report.attention_map import RANK_MEANING, bare_map, colour_bar, concentration
from vision_train.report.attention_values import hottest
from vision_train.report.charts import Line, line_chart
from vision_train.report.contact_sheet import instance_captions
from vision_train.report.heatmap import matrix_block
from vision_train.report.page import block, breakable, escape, note, notice, table
from vision_train.report.tile_layout import lay_out_tiles

TINY = 96
"""Pictures of up to this many pixels a side are enlarged with sharp pixels; larger ones are photographs."""
LARGEST = 320
"""Longer side of an embedded picture, in pixels."""
MAP_SIDE, BRANCH_SIDE, HOT_SIDE = 512, 256, 192
"""Longer side of the map of a bag, of each of its branches, and of its hottest instances, in pixels."""


def artefact_block(artefact: Artefact) -> str:
    """Markup of one artefact; results of single items have none."""
    if isinstance(artefact, Table):
        return table(artefact.title, artefact.columns, artefact.rows, artefact.note)
    if isinstance(artefact, Curve):
        return curve_block(artefact)
    if isinstance(artefact, Matrix):
        return matrix_block(artefact)
    if isinstance(artefact, AttentionMaps):
        return attention_maps_block(artefact)
    return image_grid_block(artefact) if isinstance(artefact, ImageGrid) else ""


def curve_block(curve: Curve) -> str:
    """A chart; over the unit square if all its values are shares."""
    lines = [Line(name, curve.x, values) for name, values in curve.lines.items()]
    values = [value for line in lines for value in (*line.x, *line.y) if value == value]
    shares = bool(values) and all(0 <= value <= 1 for value in values)
    return line_chart(
        curve.title,
        lines,
        curve.x_label,
        remark=curve.note,
        y_label=curve.y_label,
        unit_square=shares,
        last_values=False,
    )


def image_grid_block(grid: ImageGrid) -> str:
    """Pictures with their captions."""
    captions = [*grid.captions, *[""] * len(grid.images)]
    items = "".join(_picture(pixels, caption) for pixels, caption in zip(grid.images, captions, strict=False))
    wide = all(pixels.shape[1] > 1.5 * pixels.shape[0] for pixels in grid.images)
    style = "pictures wide" if wide else "pictures"
    return block(grid.title, f'<ul class="{style}">{items}</ul>', grid.note) if items else ""


def attention_maps_block(maps: AttentionMaps) -> str:
    """Of each bag its map, the maps of its branches, and its hottest instances; all colours mean the same."""
    bar = f'<img class="bar" src="{_source(Image.fromarray(colour_bar()))}" alt="from dark blue over green to yellow">'
    meaning = RANK_MEANING.format("instances").capitalize()
    legend = f'<p class="note">{meaning}: <span class="scale">0 % {bar} 100 %</span></p>'
    bags = "\n".join(map(_attended_bag, maps.bags))
    return block(maps.title, f"{note(maps.note)}{legend}{bags}") if maps.bags else ""


def _attended_bag(bag: AttendedBag) -> str:
    heading = f"<h4>{breakable(bag.id)} <span>{escape(bag.caption)}</span></h4>"
    try:
        return f'<article class="bag">{heading}{_maps(bag)}{_hottest_instances(bag)}</article>'
    except ValueError as error:  # of a network that has come to NaN
        return heading + notice(f"This bag cannot be drawn: {error}.")


def _maps(bag: AttendedBag) -> str:
    """The bag's map, and those of several branches beside it."""
    branches, count = bag.attention.shape
    whole = lay_out_tiles(count, bag.coords, bag.patch_size_level0, longest_side=MAP_SIDE)
    size = f"{count:,} {whole.noun}" if count != 1 else f"1 {whole.noun.removesuffix('s')}"
    facts = "\n".join(filter(None, (size, concentration(bag.attention.mean(axis=0)), *whole.notes)))
    drawn = f'<ul class="map">{_map(bare_map(bag.attention.mean(axis=0), whole), facts)}</ul>'
    if branches == 1:
        return drawn
    small = lay_out_tiles(count, bag.coords, bag.patch_size_level0, longest_side=BRANCH_SIDE)
    items = "".join(
        _map(bare_map(attention, small), f"branch {number}\n{concentration(attention)}".strip())
        for number, attention in enumerate(bag.attention)
    )
    return f'{drawn}<ul class="pictures branches">{items}</ul>'


def _hottest_instances(bag: AttendedBag) -> str:
    if not bag.pictures:
        return ""
    attention = bag.attention.mean(axis=0)
    captions = instance_captions(attention, hottest(attention, len(bag.pictures)), bag.coords)
    items = "".join(_picture(pixels, caption, HOT_SIDE) for pixels, caption in zip(bag.pictures, captions, strict=True))
    return f'<ul class="pictures hottest">{items}</ul>'


def _map(pixels: np.ndarray, caption: str) -> str:
    """A map has 256 colours and the paper's: a palette holds them in a third of the bytes."""
    return _item(_source(Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)), caption)


def _picture(pixels: np.ndarray, caption: str, largest: int = LARGEST) -> str:
    image = Image.fromarray(pixels)
    if max(image.size) <= TINY:
        return _item(_source(image), caption, ' class="tiny"')
    image.thumbnail((2 * largest, largest))
    return _item(_source(image, "JPEG", quality=85), caption)


def _source(image: Image.Image, kind: str = "PNG", **options: int) -> str:
    """The picture as an address that holds it whole."""
    buffer = io.BytesIO()
    image.save(buffer, format=kind, optimize=True, **options)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode('ascii')}"


def _item(source: str, caption: str, style: str = "") -> str:
    alternative = escape(" ".join(caption.split()) or "picture without a caption")
    return (
        f'<li><figure><img{style} src="{source}" alt="{alternative}"><figcaption>{breakable(caption)}</figcaption>'
        "</figure></li>"
    )
