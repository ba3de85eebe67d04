"""Drawn scenes with expressions, written as REFER's folders are."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from vision_train.data.toy.referring import DescribedScene
from vision_train.data.toy.scenes import coco
from vision_train.data.toy.things import SHAPES
from vision_train.errors import UserError
from vision_train.files import refuse_full, write_bytes, write_json

REFS = "refs(toy).p"
PROTOCOL = 2
"""The one that the published files have."""


def write_refer(described: Sequence[DescribedScene], folder: Path) -> dict[str, int]:
    """Write `images/*.png`, `instances.json` and `refs(toy).p`; the same bytes each time.

    Args:
        described: What to write.
        folder: Is created; must be empty where it exists.

    Returns:
        Expressions written of each split.

    Raises:
        UserError: ``folder`` is not an empty folder, or cannot be written.
    """
    refuse_full(folder)
    instances = coco([each.scene for each in described], SHAPES)
    try:
        (folder / "images").mkdir(parents=True)
        for each in described:
            Image.fromarray(each.scene.pixels).save(folder / "images" / f"{each.scene.name}.png")
        write_json(folder / "instances.json", instances)
        write_bytes(folder / REFS, pickle.dumps(_refs(described), protocol=PROTOCOL))
    except OSError as error:
        raise UserError(f"cannot write the data set to {folder}: {error.strerror}") from error
    splits = dict.fromkeys(each.scene.split for each in described)
    return {split: sum(len(each.expressions) for each in described if each.scene.split == split) for split in splits}


def _refs(described: Sequence[DescribedScene]) -> list[dict[str, Any]]:
    """A thing that is spoken of, with all that is said of it; ids are those of ``instances.json``, counted from 1."""
    refs: list[dict[str, Any]] = []
    things_before = 0
    for image_id, each in enumerate(described, start=1):
        for thing in sorted({expression.thing for expression in each.expressions}):
            said = [expression for expression in each.expressions if expression.thing == thing]
            annotation = things_before + thing + 1
            refs.append(
                {
                    "ref_id": len(refs) + 1,
                    "ann_id": annotation,
                    "image_id": image_id,
                    "category_id": SHAPES.index(each.scene.labels[thing]) + 1,
                    "file_name": f"{each.scene.name}_{annotation}.png",
                    "split": each.scene.split,
                    "sent_ids": [expression.number for expression in said],
                    "sentences": [
                        {"sent_id": one.number, "sent": one.text, "raw": one.text, "tokens": one.text.split()}
                        for one in said
                    ],
                }
            )
        things_before += len(each.things)
    return refs
