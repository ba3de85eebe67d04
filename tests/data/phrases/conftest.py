"""Small data sets with expressions, as people and programs write them."""

import json
import pickle
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from vision_train.data.findings import Findings
from vision_train.data.phrases import Section
from vision_train.data.phrases.annotations import PhraseSample
from vision_train.data.phrases.build import build
from vision_train.data.phrases.module import PhraseDataModule
from vision_train.data.phrases.read import read_phrases
from vision_train.recipe.sections import Augment
from vision_train.recipe.semi_section import Semi

WIDTH, HEIGHT = 64, 48
Line = tuple[Any, ...]


class Place:
    """A folder, the writers of data sets in it, and what is read from it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.findings = Findings()

    def pictures(self, *names: str) -> None:
        for name in names:
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            level = sum(map(ord, name)) % 256
            Image.fromarray(np.full((HEIGHT, WIDTH, 3), level, np.uint8)).save(path)

    def text(self, name: str, content: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")
        return path

    def csv(self, *lines: Line, columns: str = "path,text,x,y,w,h", name: str = "phrases.csv") -> Path:
        rows = [",".join(map(str, line)) for line in lines]
        return self.text(name, "\n".join([columns, *rows]) + "\n")

    def many(self, count: int = 20) -> Path:
        """Write pictures with two expressions each."""
        names = [f"{number:02d}.png" for number in range(count)]
        self.pictures(*names)
        return self.csv(*((name, text, 4, 8, 16, 20) for name in names for text in ("red cup", "the left cup")))

    def refer(
        self, *refs: dict[str, Any], images: Sequence[str] = ("a.png", "b.png"), as_text: bool = False, **names: str
    ) -> Path:
        """Write a folder as REFER has it, with a box for each image."""
        convert = str if as_text else int
        listed = [
            {"id": convert(number), "file_name": name, "height": HEIGHT, "width": WIDTH}
            for number, name in enumerate(images, start=1)
        ]
        boxes = [
            {"id": convert(10 * number), "image_id": convert(number), "category_id": 1, "bbox": [4.5, 8.25, 16, 20]}
            for number in range(1, len(images) + 1)
        ]
        self.text("instances.json", json.dumps({"images": listed, "annotations": boxes, "categories": []}))
        path = self.folder / names.get("name", "refs(unc).p")
        path.write_bytes(pickle.dumps([*refs], protocol=2))
        return path

    def lists(self, name: str, **entries: Any) -> None:
        for split, content in entries.items():
            torch.save(content, self.folder / f"{name}_{split}.pth")

    def read(self, **keys: Any) -> list[PhraseSample]:
        self.findings = Findings()
        return read_phrases(Section(**{"root": str(self.folder), **keys}), self.findings).samples

    def recipe(self, seed: int = 0, augment: Augment | None = None, **keys: Any) -> Any:
        usual = {"root": str(self.folder), "image_size": 64, "batch_size": 4, "workers": 0, "max_tokens": 8}
        return SimpleNamespace(data=Section(**{**usual, **keys}), augment=augment or Augment(), semi=Semi(), seed=seed)

    def build(self, only: str | None = None, **keys: Any) -> PhraseDataModule:
        return build(self.recipe(**keys), only=only)


def ref(
    number: int, split: str, *texts: str, image: int | str = 1, box: int | str | None = None, **others: Any
) -> dict[str, Any]:
    sentences = [{"sent_id": 100 * number + place, "sent": text} for place, text in enumerate(texts)]
    return {
        "ref_id": number,
        "split": split,
        "image_id": image,
        "ann_id": 10 * int(image) if box is None else box,
        "file_name": "x_1.png",
        "sentences": sentences,
        **others,
    }


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)
