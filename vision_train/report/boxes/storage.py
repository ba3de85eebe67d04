"""Pictures with boxes in files: the pixels as PNG, the boxes in JSON."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from vision_train.artefacts import BoxPicture, BoxPictures, MarkedBox, read_picture, write_pictures


def write_box_pictures(folder: Path, artefact: BoxPictures) -> dict[str, Any]:
    """Write the pixels of each picture beside; return the rest, for JSON."""
    files = write_pictures(folder, artefact.name, [picture.pixels for picture in artefact.pictures])
    pictures = [
        {
            "id": picture.id,
            "caption": picture.caption,
            "pixels": file,
            "panels": {heading: [asdict(box) for box in boxes] for heading, boxes in picture.panels.items()},
        }
        for file, picture in zip(files, artefact.pictures, strict=True)
    ]
    return {**vars(artefact), "pictures": pictures}


def read_box_pictures(folder: Path, body: dict[str, Any]) -> BoxPictures:
    """Read what :func:`write_box_pictures` wrote."""
    return BoxPictures(**{**body, "pictures": [_read(folder, picture) for picture in body["pictures"]]})


def _read(folder: Path, picture: dict[str, Any]) -> BoxPicture:
    panels = {
        heading: [MarkedBox(tuple(box["corners"]), box["caption"], box["kind"]) for box in boxes]
        for heading, boxes in picture["panels"].items()
    }
    return BoxPicture(picture["id"], picture["caption"], read_picture(folder / picture["pixels"]), panels)
