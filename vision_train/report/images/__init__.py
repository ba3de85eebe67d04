"""What is drawn of images alone: predictions below a picture, and what augmentation makes of it.

A module that draws a kind of data has ``HEADING``, ``CODECS`` and ``block`` for artefacts that only this kind has,
``open_renderer`` for the pictures of ``predict --render``, and ``render_preview``. Light: what draws is imported late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from vision_train.artefacts import Artefact, Codec
from vision_train.previews import Pixels, Preview

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image

    from vision_train.report.prediction_pictures import Renderer

HEADING = ""
"""Images add no section to a report."""
CODECS: dict[str, Codec] = {}
"""Images add no type of artefact."""


def block(artefact: Artefact) -> Markup | None:
    """Images add no type of artefact."""
    return None


def open_renderer(folder: Path, *, originals: Mapping[str, Callable[[], Pixels]]) -> AbstractContextManager[Renderer]:
    """Open a folder for pictures of predictions, which are drawn when it is closed, unless an exception closes it.

    Args:
        folder: Made if absent.
        originals: Every image that may be added, by id -> a function that reads its pixels, H W 3.
    """
    from vision_train.report import prediction_pictures
    from vision_train.report.images.predictions import draw_bars, labels_of

    return prediction_pictures.open_renderer(folder, originals, draw_bars, labels_of)


def render_preview(title: str, preview: Preview, originals: Mapping[str, Pixels]) -> Image.Image:
    """Draw training images beside what training makes of them.

    Args:
        title: Heads the picture, such as the recipe's name.
        preview: The rows.
        originals: Id of each row -> H W 3, as on disk.
    """
    from vision_train.report import preview_sheet

    return preview_sheet.render_preview(title, preview, originals)
