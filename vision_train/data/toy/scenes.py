"""Drawn scenes of several things, each with its box, and how they are written as a data set in COCO's format."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_train.errors import UserError
from vision_train.files import refuse_full, write_json

Box = tuple[float, float, float, float]
"""x1, y1, x2, y2 in pixels."""


@dataclass(frozen=True, eq=False, slots=True)
class Scene:
    """One picture with what is on it."""

    name: str
    split: str
    """`train`, `val` or `test`, or a part of the test such as `testA`."""
    pixels: NDArray[np.uint8]
    """H W 3."""
    boxes: tuple[Box, ...]
    """Around each thing, the hidden parts of it included."""
    labels: tuple[str, ...]


def visible_shares(masks: Sequence[NDArray[np.bool_]]) -> list[float]:
    """The share of each thing (H W) that those drawn after it leave to see."""
    covered = np.zeros_like(masks[0])
    shares = []
    for mask in reversed(masks):
        shares.append(float((mask & ~covered).sum() / mask.sum()))
        covered |= mask
    return shares[::-1]


def write_coco(scenes: Sequence[Scene], folder: Path) -> dict[str, int]:
    """Write `images/*.png` and a json for each split.

    Args:
        scenes: What to write.
        folder: Is created; must be empty where it exists.

    Returns:
        Images written of each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or cannot be written.
    """
    refuse_full(folder)
    names = sorted({label for scene in scenes for label in scene.labels})
    splits = list(dict.fromkeys(scene.split for scene in scenes))
    try:
        (folder / "images").mkdir(parents=True)
        for scene in scenes:
            Image.fromarray(scene.pixels).save(folder / "images" / f"{scene.name}.png")
        for split in splits:
            write_json(folder / f"{split}.json", coco([scene for scene in scenes if scene.split == split], names))
    except OSError as error:
        raise UserError(f"cannot write the data set to {folder}: {error.strerror}") from error
    return {split: sum(scene.split == split for scene in scenes) for split in splits}


def coco(scenes: Sequence[Scene], names: Sequence[str]) -> dict[str, list[dict[str, object]]]:
    """Annotations in COCO's format; classes are counted from 1."""
    images: list[dict[str, object]] = []
    annotations: list[dict[str, object]] = []
    for number, scene in enumerate(scenes, start=1):
        height, width = scene.pixels.shape[:2]
        images.append({"id": number, "file_name": f"images/{scene.name}.png", "width": width, "height": height})
        for (x1, y1, x2, y2), label in zip(scene.boxes, scene.labels, strict=True):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": names.index(label) + 1,
                    "bbox": [x1, y1, x2 - x1, y2 - y1],
                    "area": (x2 - x1) * (y2 - y1),
                    "iscrowd": 0,
                }
            )
    categories: list[dict[str, object]] = [{"id": number, "name": name} for number, name in enumerate(names, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
