"""Pictures as a part of the page, each shown with several sets of boxes side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from vision_train.artefacts import BoxPicture, BoxPictures, MarkedBox
from vision_train.previews import Pixels
from vision_train.report.artefact_blocks import Picture
from vision_train.report.boxes.drawing import COLOURS, Colour, draw_boxes, fit_with_boxes
from vision_train.report.rendering import image_source, render

SIDE = 480
"""Longer side of a picture, in pixels."""
OPEN = 4
"""So many pictures are seen at once; the others are folded away."""
GREEN = 2
"""Place of the colour of what is right."""


@dataclass(frozen=True)
class _Shown:
    """What the template shows of one picture."""

    id: str
    caption: str
    panels: list[Picture]


def truth_block(content: BoxPictures) -> Markup:
    """Markup of the pictures with a legend of their colours. Nothing for no pictures."""
    if not content.pictures:
        return Markup()
    colours = kind_colours(content)
    return render(
        "truth_block.html",
        package=__package__,
        content=content,
        open=OPEN,
        kinds=[
            (name, meaning, "#{:02x}{:02x}{:02x}".format(*colours[name])) for name, meaning in content.kinds.items()
        ],
        pictures=[_shown(picture, colours) for picture in content.pictures],
    )


def kind_colours(content: BoxPictures) -> dict[str, Colour]:
    """The colour of each kind of boxes: green for the first, grey for those beyond the palette."""
    others = [colour for place, colour in enumerate(COLOURS) if place != GREEN]
    grey: Colour = (150, 156, 163)
    palette = [COLOURS[GREEN], *others, *[grey] * len(content.kinds)]
    return dict(zip(content.kinds, palette, strict=False))


def _shown(picture: BoxPicture, colours: dict[str, Colour]) -> _Shown:
    panels = [
        Picture(_drawn(picture.pixels, boxes, colours), f"{heading}: {len(boxes)}")
        for heading, boxes in picture.panels.items()
    ]
    return _Shown(picture.id, picture.caption, panels)


def box_pictures(content: BoxPictures) -> list[tuple[str, Pixels]]:
    """Captions and drawn pictures, one for each set of boxes of each picture."""
    colours = kind_colours(content)
    return [
        (f"{picture.id}, {heading}: {len(boxes)}", _with_boxes(picture.pixels, boxes, colours))
        for picture in content.pictures
        for heading, boxes in picture.panels.items()
    ]


def _drawn(pixels: Pixels, boxes: list[MarkedBox], colours: dict[str, Colour]) -> str:
    return image_source(Image.fromarray(_with_boxes(pixels, boxes, colours)), "JPEG", quality=88)


def _with_boxes(pixels: Pixels, boxes: list[MarkedBox], colours: dict[str, Colour]) -> Pixels:
    corners = np.array([box.corners for box in boxes], dtype=np.float64)
    fitted, corners = fit_with_boxes(pixels, corners, SIDE, SIDE)
    captions = [box.caption for box in boxes]
    return draw_boxes(fitted, corners, captions, [colours[box.kind] for box in boxes])
