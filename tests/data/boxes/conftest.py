"""Small data sets with boxes, as people and programs write them."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from vision_train.data.boxes import Section
from vision_train.data.boxes.annotations import Annotated
from vision_train.data.boxes.build import build
from vision_train.data.boxes.module import BoxDataModule
from vision_train.data.boxes.read import FoundBoxes, read_boxes
from vision_train.data.findings import Findings
from vision_train.recipe.sections import Augment

CATEGORIES = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]


class Place:
    """A folder, the writers of data sets in it, and what is read from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings = Findings()

    def pictures(self, *names: str, size: tuple[int, int] = (64, 48)) -> None:
        for name in names or ("a.png", "b.png", "c.png"):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            level = sum(map(ord, name)) % 256
            Image.fromarray(np.full((size[1], size[0], 3), level, np.uint8)).save(path)

    def text(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def coco(
        self,
        *boxes: dict[str, Any],
        name: str = "boxes.json",
        images: Sequence[str] = ("a.png", "b.png", "c.png"),
        categories: Any = CATEGORIES,
        size: tuple[int, int] | None = (64, 48),
    ) -> Path:
        sides = {} if size is None else {"width": size[0], "height": size[1]}
        listed = [{"id": number, "file_name": image, **sides} for number, image in enumerate(images, start=1)]
        annotations = [{"id": number, "image_id": 1, "category_id": 1, **box} for number, box in enumerate(boxes)]
        content = {"images": listed, "annotations": annotations, "categories": categories}
        return self.text(name, json.dumps(content))

    def read(self, **keys: Any) -> FoundBoxes:
        self.findings = Findings()
        return read_boxes(Section(**{"root": str(self.folder), **keys}), self.findings)

    def truths(self, **keys: Any) -> dict[str, Annotated]:
        return {sample.id: sample.truth for sample in self.read(**keys).samples}

    def build(
        self, seed: int = 0, augment: Augment | None = None, classes: Any = None, only: Any = None, **keys: Any
    ) -> BoxDataModule:
        usual = {"root": str(self.folder), "short_side": 48, "long_side": 96, "batch_size": 2, "workers": 0}
        recipe: Any = SimpleNamespace(data=Section(**{**usual, **keys}), augment=augment or Augment(), seed=seed)
        return build(recipe, classes, only)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
