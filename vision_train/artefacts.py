"""What a task hands to its run for the report: curves, tables, matrices, pictures, maps and results of single items.

A task returns these; the run writes them under ``artefacts/``; the report reads them back. None of them knows a task.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_train.files import write_bytes, write_json, write_text

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
class Recomputed:
    """How a metric that is no mean over items is recomputed from the columns of some of them."""

    statistic: str
    """Name under which ``statistics`` or the task registered the function."""
    columns: dict[str, str] = field(default_factory=dict)
    """Argument of the statistic -> column. An argument that is not listed is the column of its own name."""


@dataclass(frozen=True)
class Items:
    """Results of single test samples, from which ``compare`` recomputes metrics on resampled test samples.

    A metric is either the mean of ``values`` or recomputed from ``columns``. The report does not show them.

    Raises:
        ValueError: Entries do not match the ids, or a metric is given both ways.
    """

    name: str
    ids: list[str]
    """N."""
    values: dict[str, list[float]] = field(default_factory=dict)
    """Metric, without its split -> N values, whose mean is the metric."""
    groups: list[str] | None = None
    """N: what is resampled together, such as the patient of each slide; None where each item stands alone."""
    columns: dict[str, list[Any]] = field(default_factory=dict)
    """Name -> N entries: numbers, or lists of numbers of any length."""
    recomputed: dict[str, Recomputed] = field(default_factory=dict)
    """Metric, without its split -> how it is recomputed; a metric in ``values`` may serve as a column too."""

    def __post_init__(self) -> None:
        parts = {**self.values, **self.columns, **({} if self.groups is None else {"groups": self.groups})}
        if wrong := [name for name, entries in parts.items() if len(entries) != len(self.ids)]:
            raise ValueError(f"{self.name}: {', '.join(wrong)} must have an entry for each of {len(self.ids)} items")
        if both := self.values.keys() & self.recomputed.keys():
            raise ValueError(f"{self.name}: {', '.join(sorted(both))} cannot be both a mean and recomputed")

    def knows(self, metric: str) -> bool:
        """Whether a metric, without its split, can be computed of some of the items."""
        return metric in self.values or metric in self.recomputed

    def columns_of(self, metric: str) -> dict[str, list[Any]]:
        """Argument of the statistic -> N entries, for a metric in ``recomputed``."""
        known, named = {**self.values, **self.columns}, self.recomputed[metric].columns
        return {**known, **{argument: known[column] for argument, column in named.items()}}


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
    if kind is Items:
        body["recomputed"] = {name: Recomputed(**how) for name, how in body.get("recomputed", {}).items()}
    return kind(**body)


def _pixels(file: Path) -> np.ndarray:
    return np.asarray(Image.open(file).convert("RGB"))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
