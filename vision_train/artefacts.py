"""What a task hands to its run for the report: curves, tables, matrices, pictures, maps and results of single items.

A task returns these; the run writes them under ``artefacts/``; the report reads them back. None of them knows a task.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vision_train.files import write_bytes, write_json, write_text

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Metric:
    """What a reader needs to know of a metric. A task describes its own; the run keeps the descriptions."""

    name: str
    """As it is logged, without a split's prefix."""
    title: str
    format: Literal["number", "percent"] = "number"
    """How values are written; percentages are shares in [0, 1]."""
    better: Literal["more", "less"] = "more"
    """Whether more or less of it is better."""
    is_proportion: bool = False
    """Whether it is a share of independent samples, and so has a binomial interval."""
    shown: Literal["always", "report", "never"] = "report"
    """`always` in each epoch's line beside the headline metric and in the report; `report` there alone; `never` where it
    can say nothing."""


@dataclass(frozen=True)
class Bars:
    """The likeliest labels of an image, to be drawn below it."""

    bars: list[tuple[str, float]]
    """Label and probability, likeliest first."""


@dataclass(frozen=True)
class LabelPanel:
    """How a training image shares its label with another one that it is mixed with."""

    title: str
    """What was done, such as ``MaskMix``."""
    label: str
    partner: str = ""
    """Name of the other image; empty if there is none."""
    partner_label: str = ""
    shares: dict[str, float] = field(default_factory=dict)
    """Way of sharing the label -> the share that stays with the image's own."""


@dataclass(frozen=True)
class PreviewRow:
    """One training sample on its way into the network."""

    id: str
    pictures: dict[str, Pixels]
    """Heading of a column -> H W 3."""
    captions: dict[str, str] = field(default_factory=dict)
    """Heading of a column -> small text below the picture."""
    panel: LabelPanel | None = None


@dataclass(frozen=True)
class Preview:
    """What training sees, one sample a row."""

    summary: str
    rows: list[PreviewRow]
    notes: list[str] = field(default_factory=list)


CSV_COLUMNS = ("slide_id", "x", "y", "attention")
"""Of attention, before a column for each branch."""


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


@dataclass(frozen=True)
class AttendedBag:
    """Where the branches of a network look in one bag."""

    id: str
    caption: str
    attention: np.ndarray
    """T N: a row for each branch, at least 0, summing to 1; the bag's own attention is their mean."""
    coords: np.ndarray | None = None
    """N 2, int64: x and y of each instance in pixels of level 0."""
    patch_size_level0: int | None = None
    """Side of an instance in pixels of level 0."""
    pictures: list[np.ndarray] = field(default_factory=list)
    """Each H W 3, uint8: the instances with most attention, most first, where they can be shown."""


@dataclass(frozen=True)
class AttentionMaps:
    """Bags to be shown as maps of their attention."""

    name: str
    title: str
    bags: list[AttendedBag]
    note: str = ""


Artefact = Table | Curve | Matrix | ImageGrid | Items | AttentionMaps
KINDS: dict[str, type] = {kind.__name__: kind for kind in (Table, Curve, Matrix, ImageGrid, Items, AttentionMaps)}


def write_artefact(folder: Path, artefact: Artefact) -> None:
    """Write ``<name>.json`` and, for an image grid, ``<name>-<n>.png`` beside it.

    Args:
        folder: Where to write; made if absent.
        artefact: What to write. One of the same name is replaced. Attention goes into a csv for each bag.
    """
    folder.mkdir(parents=True, exist_ok=True)
    body: dict[str, Any]
    if isinstance(artefact, ImageGrid):
        files = [f"{artefact.name}-{index}.png" for index in range(len(artefact.images))]
        for file, pixels in zip(files, artefact.images, strict=True):
            write_bytes(folder / file, _png(pixels))
        body = {"name": artefact.name, "title": artefact.title, "images": files}
        body |= {"captions": artefact.captions, "note": artefact.note}
    elif isinstance(artefact, AttentionMaps):
        bags = [_write_bag(folder, f"{artefact.name}-{index}", bag) for index, bag in enumerate(artefact.bags)]
        body = {"name": artefact.name, "title": artefact.title, "bags": bags, "note": artefact.note}
    else:
        body = asdict(artefact)
    write_json(folder / f"{artefact.name}.json", {"kind": type(artefact).__name__, **body})


def _write_bag(folder: Path, name: str, bag: AttendedBag) -> dict[str, Any]:
    """Write the attention as a csv and the pictures beside it; return the rest."""
    write_text(folder / f"{name}.csv", attention_csv(bag.id, bag.attention, bag.coords))
    pictures = [f"{name}-{rank}.png" for rank in range(len(bag.pictures))]
    for file, pixels in zip(pictures, bag.pictures, strict=True):
        write_bytes(folder / file, _png(pixels))
    size = bag.patch_size_level0
    return {"id": bag.id, "caption": bag.caption, "csv": f"{name}.csv", "patch_size_level0": size, "pictures": pictures}


def _read_bag(folder: Path, body: dict[str, Any]) -> AttendedBag:
    attention, coords = read_attention_csv((folder / body["csv"]).read_text(encoding="utf-8"))
    pictures = [_pixels(folder / file) for file in body["pictures"]]
    return AttendedBag(body["id"], body["caption"], attention, coords, body["patch_size_level0"], pictures)


def attention_csv(bag_id: str, attention: np.ndarray, coords: np.ndarray | None, *, header: bool = True) -> str:
    """The attention of a bag as csv: ``slide_id,x,y,attention,branch_0,...``, a row for each instance.

    Args:
        bag_id: In every row.
        attention: T N; the column ``attention`` is the mean of the branches.
        coords: N 2; without, the two cells of a row stay empty.
        header: Begin with the names of the columns; left out where rows are added to those of another bag.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow([*CSV_COLUMNS, *(f"branch_{branch}" for branch in range(len(attention)))])
    places = [("", "")] * attention.shape[1] if coords is None else coords.tolist()
    values = np.vstack([attention.mean(axis=0, dtype=np.float64), attention]).T
    writer.writerows(
        (bag_id, *place, *(f"{value:.9g}" for value in row)) for place, row in zip(places, values, strict=True)
    )
    return text.getvalue()


def read_attention_csv(text: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Attention of the branches (T N) and coordinates (N 2) of one bag, as :func:`attention_csv` wrote them."""
    rows = list(csv.reader(io.StringIO(text)))[1:]
    attention = np.array([row[len(CSV_COLUMNS) :] for row in rows], dtype=np.float32).T
    return attention, None if rows[0][1] == "" else np.array([row[1:3] for row in rows], dtype=np.int64)


def read_artefact(file: Path) -> Artefact:
    """Read one artefact from its json file, and an image grid's pictures from beside it."""
    body = json.loads(file.read_text(encoding="utf-8"))
    kind = KINDS[body.pop("kind")]
    if kind is ImageGrid:
        body["images"] = [_pixels(file.with_name(image)) for image in body["images"]]
    if kind is AttentionMaps:
        body["bags"] = [_read_bag(file.parent, bag) for bag in body["bags"]]
    return kind(**body)


def _pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
