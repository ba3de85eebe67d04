"""What is drawn of images with boxes: predictions, and what augmentation makes of images. It draws late."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

from vision_train.artefacts import Artefact, Codec, Pixels, Preview

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image

    from vision_train.report.prediction_pictures import Renderer

HEADING = ""
"""Boxes add no section to a report."""
CODECS: dict[str, Codec] = {}
"""Boxes add no type of artefact."""


def block(artefact: Artefact) -> Markup | None:
    """Boxes add no type of artefact."""
    return None


def open_renderer(folder: Path, *, originals: Mapping[str, Callable[[], Pixels]]) -> AbstractContextManager[Renderer]:
    """Open a folder for pictures of predictions; as :func:`vision_train.report.images.open_renderer`."""
    from vision_train.report import prediction_pictures
    from vision_train.report.boxes.predictions import class_names, render_boxes

    return prediction_pictures.open_renderer(folder, originals, render_boxes, class_names)


def render_preview(title: str, preview: Preview, originals: Mapping[str, Pixels]) -> Image.Image:
    """Draw training images, with their boxes, beside what training makes of them.

    Args:
        title: Heads the picture, such as the recipe's name.
        preview: The rows.
        originals: Id of each row -> H W 3, as on disk.
    """
    from vision_train.report import preview_sheet
    from vision_train.report.boxes.predictions import fit_row

    return preview_sheet.render_preview(title, preview, originals, side=416, fit=fit_row)
