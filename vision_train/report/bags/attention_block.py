"""Attention as a part of the page: each bag's map, the maps of its branches, and its hottest instances."""

from __future__ import annotations

from dataclasses import dataclass, field

from markupsafe import Markup
from PIL import Image

from models.mil.attention_maps import AttendedBag, AttentionMaps
from vision_train.report.artefact_blocks import Picture, picture
from vision_train.report.bags.attention_map import RANK_MEANING, bare_map, colour_bar, concentration, counted
from vision_train.report.bags.attention_values import hottest
from vision_train.report.bags.contact_sheet import instance_captions
from vision_train.report.bags.tile_layout import Pixels, lay_out_tiles
from vision_train.report.rendering import image_source, render

MAP_SIDE, BRANCH_SIDE, HOT_SIDE = 512, 256, 192
"""Longer side of the map of a bag, of each of its branches, and of its hottest instances, in pixels."""


@dataclass(frozen=True)
class _Shown:
    """What the template shows of one bag: pictures, or why there are none."""

    id: str
    caption: str
    fault: str = ""
    map: Picture | None = None
    branches: list[Picture] = field(default_factory=list)
    hottest: list[Picture] = field(default_factory=list)


def attention_block(maps: AttentionMaps) -> Markup:
    """Markup of the maps; all colours mean the same. Nothing for no bags."""
    if not maps.bags:
        return Markup()
    return render(
        "attention_maps.html",
        package=__package__,
        maps=maps,
        meaning=RANK_MEANING.format("instances").capitalize(),
        bar=image_source(Image.fromarray(colour_bar())),
        bags=[_shown(bag) for bag in maps.bags],
    )


def _shown(bag: AttendedBag) -> _Shown:
    try:
        return _Shown(bag.id, bag.caption, "", _map(bag), _branches(bag), _hottest_instances(bag))
    except ValueError as error:  # such as NaN
        return _Shown(bag.id, bag.caption, str(error))


def _map(bag: AttendedBag) -> Picture:
    attention = bag.attention.mean(axis=0)
    layout = lay_out_tiles(len(attention), bag.coords, bag.patch_size_level0, longest_side=MAP_SIDE)
    facts = "\n".join(filter(None, (counted(layout), concentration(attention), *layout.notes)))
    return _drawing(bare_map(attention, layout), facts)


def _branches(bag: AttendedBag) -> list[Picture]:
    """Maps of several branches; a single one is the map of the bag."""
    branches, count = bag.attention.shape
    if branches == 1:
        return []
    layout = lay_out_tiles(count, bag.coords, bag.patch_size_level0, longest_side=BRANCH_SIDE)
    return [
        _drawing(bare_map(attention, layout), f"branch {number}\n{concentration(attention)}".strip())
        for number, attention in enumerate(bag.attention)
    ]


def _hottest_instances(bag: AttendedBag) -> list[Picture]:
    attention = bag.attention.mean(axis=0)
    captions = instance_captions(attention, hottest(attention, len(bag.pictures)), bag.coords)
    return [picture(pixels, caption, HOT_SIDE) for pixels, caption in zip(bag.pictures, captions, strict=True)]


def _drawing(pixels: Pixels, caption: str) -> Picture:
    """A map has 256 colours and the paper's: a palette holds them in a third of the bytes."""
    return Picture(image_source(Image.fromarray(pixels).quantize(256, dither=Image.Dither.NONE)), caption)
