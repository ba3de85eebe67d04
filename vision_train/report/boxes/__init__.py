"""What is drawn of images with boxes: what was found beside what is there, and the learned relation of boxes.

Light: what stores and draws is imported when it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_train.artefacts import Artefact, BoxPictures, Codec

if TYPE_CHECKING:
    from markupsafe import Markup

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
