"""What a task hands to its run for the report: curves, tables, matrices, grids of images and results of single items.

A task returns these; the run writes them under ``artefacts/``; the report reads them back. None of them knows a task.
"""

from __future__ import annotations

import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_train.files import write_bytes, write_json


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under column headings."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""


@dataclass(frozen=True)
class Curve:
    """One or more lines over a common x axis."""

    name: str
    title: str
    x_label: str
    y_label: str
    x: list[float]
    lines: dict[str, list[float]]
    note: str = ""


@dataclass(frozen=True)
class Matrix:
    """A labelled matrix of counts, such as a confusion matrix: ``values[row][column]``."""

    name: str
    title: str
    row_label: str
    column_label: str
    rows: list[str]
    columns: list[str]
    values: list[list[float]]
    note: str = ""


@dataclass(frozen=True)
class ImageGrid:
    """Small pictures with a caption each."""

    name: str
    title: str
    images: list[np.ndarray]
    """Each H W 3, uint8."""
    captions: list[str] = field(default_factory=list)
    note: str = ""


@dataclass(frozen=True)
class Items:
    """Metrics of single items, for whoever compares runs item by item; too many for a report to show."""

    name: str
    ids: list[str]
    values: dict[str, list[float]]
    """Metric, without its split -> its value for each item; their mean is the metric."""


Artefact = Table | Curve | Matrix | ImageGrid | Items
KINDS: dict[str, type] = {kind.__name__: kind for kind in (Table, Curve, Matrix, ImageGrid, Items)}


def write_artefact(folder: Path, artefact: Artefact) -> None:
    """Write ``<name>.json`` and, for an image grid, ``<name>-<n>.png`` beside it.

    Args:
        folder: Where to write; made if absent.
        artefact: What to write. One of the same name is replaced.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(artefact, ImageGrid):
        files = [f"{artefact.name}-{index}.png" for index in range(len(artefact.images))]
        for file, pixels in zip(files, artefact.images, strict=True):
            write_bytes(folder / file, _png(pixels))
        body = {"name": artefact.name, "title": artefact.title, "images": files}
        body |= {"captions": artefact.captions, "note": artefact.note}
    else:
        body = asdict(artefact)
    write_json(folder / f"{artefact.name}.json", {"kind": type(artefact).__name__, **body})


def read_artefact(file: Path) -> Artefact:
    """Read one artefact from its json file, and an image grid's pictures from beside it."""
    body = json.loads(file.read_text(encoding="utf-8"))
    kind = KINDS[body.pop("kind")]
    if kind is ImageGrid:
        body["images"] = [np.asarray(Image.open(file.with_name(image)).convert("RGB")) for image in body["images"]]
    return kind(**body)


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
