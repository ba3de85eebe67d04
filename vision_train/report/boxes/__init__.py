"""What is drawn of images with boxes: predictions alone and beside the truth, augmented images, the learned relation.

Light: what stores and draws is imported when it is needed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_train.artefacts import Artefact, BoxPictures, Codec
from vision_train.previews import Pixels, Preview

if TYPE_CHECKING:
    from markupsafe import Markup
    from PIL import Image

    from vision_train.report.prediction_pictures import Renderer

HEADING = "Boxes"
"""Title of the section that holds the blocks."""


def block(artefact: Artefact) -> Markup | None:
    """Markup of an artefact; None if it is of another type."""
    from models.detr.relation_bias import RelationBias
    from vision_train.report.boxes.relation_block import relation_block
    from vision_train.report.boxes.truth_block import truth_block

    if isinstance(artefact, BoxPictures):
        return truth_block(artefact)
    return relation_block(artefact) if isinstance(artefact, RelationBias) else None


def pictures(artefact: Artefact) -> list[tuple[str, Pixels]]:
    """Captions and pictures (H W 3) of an artefact, for places that show no pages; none of another type."""
    from vision_train.report.boxes.truth_block import box_pictures

    return box_pictures(artefact) if isinstance(artefact, BoxPictures) else []


def _write_pictures(folder: Path, artefact: Any) -> dict[str, Any]:
    from vision_train.report.boxes.storage import write_box_pictures

    return write_box_pictures(folder, artefact)


def _read_pictures(folder: Path, body: dict[str, Any]) -> Artefact:
    from vision_train.report.boxes.storage import read_box_pictures

    return read_box_pictures(folder, body)


def _write_relation(folder: Path, artefact: Any) -> dict[str, Any]:
    return vars(artefact)


def _read_relation(folder: Path, body: dict[str, Any]) -> Artefact:
    from models.detr.relation_bias import RelationBias

    return RelationBias(**body)


CODECS = {
    "BoxPictures": Codec(_write_pictures, _read_pictures),
    "RelationBias": Codec(_write_relation, _read_relation),
}
"""How the artefacts of boxes are stored, by the names of their types."""


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
