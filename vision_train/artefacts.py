"""What a task hands to its run for the report: curves, tables, matrices, pictures and results of single items.

A task returns these; the run writes them under ``artefacts/``; the report reads them back. None of them knows a task.
A kind of data may add artefacts of its own, with a :class:`Codec` for each.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
from PIL import Image

from vision_train.files import write_bytes, write_json
from vision_train.previews import Pixels


class Artefact(Protocol):
    """What all artefacts have."""

    @property
    def name(self) -> str:
        """Name of its file under ``artefacts/``, without the ending."""


class UnknownArtefactError(Exception):
    """An artefact of a type that neither this module nor a codec knows; the message is the name of the type."""


class Codec(NamedTuple):
    """How artefacts of one type are stored."""

    write: Callable[[Path, Any], dict[str, Any]]
    """Takes the folder and an artefact; writes what does not fit into JSON beside it and returns the rest."""
    read: Callable[[Path, dict[str, Any]], Artefact]
    """Takes the folder and what ``write`` returned; gives the artefact back."""


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
    is_share: bool = False
    """Whether it lies in [0, 1] though it is written as a number, as AUROC is; percentages do anyway."""
    lowest: float | None = None
    """What it cannot be below, as 0 of a loss or an error; its intervals then are not either."""
    highest: float | None = None
    """What it cannot be above, as 1 of a correlation."""
    in_training: str = ""
    """What training logs of the same quantity, where that has another name: charts draw the two together."""
    shown: Literal["always", "report", "never"] = "report"
    """`always` in each epoch's line beside the headline metric and in the report; `report` there alone; `never` where
    it can say nothing."""


@dataclass(frozen=True)
class Table:
    """Rows of text and numbers under column headings."""

    name: str
    title: str
    columns: list[str]
    rows: list[list[Any]]
    note: str = ""
    shares: list[str] = field(default_factory=list)
    """Columns whose values are shares in [0, 1]; each is drawn with a bar."""


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
    x_of: dict[str, list[float]] = field(default_factory=dict)
    """Line -> its own x, where it does not share that of the others."""
    counts: list[int] = field(default_factory=list)
    """How many items are behind each of ``x``; nothing where that is not told."""
    marks: dict[str, list[float]] = field(default_factory=dict)
    """Name of a single point, such as a threshold -> its x and y."""
    scattered: list[str] = field(default_factory=list)
    """Lines whose points are samples of their own, so that nothing joins them."""
    same_range: bool = False
    """Whether x and y are of one quantity, so that both axes cover the same range."""


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
class SeedValues:
    """A metric of several arms, one value for each seed."""

    name: str
    title: str
    label: str
    """What the values are."""
    format: Literal["number", "percent"]
    """As in :class:`Metric`."""
    values: dict[str, list[float]]
    """Arm -> a value for each seed, at least one; the same seeds in the same order for all arms."""
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
class MarkedBox:
    """A box on a picture."""

    corners: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the picture."""
    caption: str
    kind: str
    """Which of :attr:`BoxPictures.kinds` it is; its colour stands for that."""


@dataclass(frozen=True)
class BoxPicture:
    """A picture that is shown several times, each time with other boxes."""

    id: str
    caption: str
    pixels: Pixels
    """H W 3."""
    panels: dict[str, list[MarkedBox]]
    """Heading -> boxes, the most important first."""


@dataclass(frozen=True)
class BoxPictures:
    """Pictures with boxes of several kinds, drawn by the kind of data that has boxes."""

    name: str
    title: str
    pictures: list[BoxPicture]
    kinds: dict[str, str]
    """Name of each kind of boxes -> what it means; the first kind is what is right."""
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
    """N: what is resampled together, such as the patient of each sample; None where each item stands alone."""
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


TYPES: dict[str, type] = {kind.__name__: kind for kind in (Table, Curve, Matrix, SeedValues, ImageGrid, Items)}


def write_artefact(folder: Path, artefact: Artefact, codecs: Mapping[str, Codec] | None = None) -> None:
    """Write ``<name>.json`` and, for an image grid, ``<name>-<n>.png`` beside it.

    Args:
        folder: Where to write; made if absent.
        artefact: What to write. One of the same name is replaced.
        codecs: How to store types that are not of this module, by the name of the type.

    Raises:
        UnknownArtefactError: It is of a type without a codec.
    """
    folder.mkdir(parents=True, exist_ok=True)
    kind = type(artefact).__name__
    body: dict[str, Any]
    if isinstance(artefact, ImageGrid):
        files = write_pictures(folder, artefact.name, artefact.images)
        body = {"name": artefact.name, "title": artefact.title, "images": files}
        body |= {"captions": artefact.captions, "note": artefact.note}
    elif isinstance(artefact, Table | Curve | Matrix | SeedValues | Items):
        body = asdict(artefact)
    elif codecs and kind in codecs:
        body = codecs[kind].write(folder, artefact)
    else:
        raise UnknownArtefactError(kind)
    write_json(folder / f"{artefact.name}.json", {"kind": kind, **body})


def read_artefact(file: Path, codecs: Mapping[str, Codec] | None = None) -> Artefact:
    """Read one artefact from its json file, and what was written beside it.

    Args:
        file: As :func:`write_artefact` wrote it.
        codecs: As there.

    Raises:
        UnknownArtefactError: It is of a type without a codec.
    """
    body = json.loads(file.read_text(encoding="utf-8"))
    kind = body.pop("kind")
    if codecs and kind in codecs:
        return codecs[kind].read(file.parent, body)
    if kind not in TYPES:
        raise UnknownArtefactError(kind)
    if kind == ImageGrid.__name__:
        body["images"] = [read_picture(file.with_name(image)) for image in body["images"]]
    if kind == Curve.__name__:  # JSON has no number for a gap
        body["lines"] = {
            name: [math.nan if value is None else value for value in line] for name, line in body["lines"].items()
        }
    if kind == Items.__name__:
        body["recomputed"] = {name: Recomputed(**how) for name, how in body.get("recomputed", {}).items()}
    return TYPES[kind](**body)


def write_pictures(folder: Path, name: str, pictures: list[np.ndarray]) -> list[str]:
    """Write pictures (H W 3, uint8) as ``<name>-<n>.png`` and return the names of the files."""
    files = [f"{name}-{index}.png" for index in range(len(pictures))]
    for file, pixels in zip(files, pictures, strict=True):
        write_bytes(folder / file, _png(pixels))
    return files


def read_picture(file: Path) -> np.ndarray:
    """Read a picture: H W 3, uint8."""
    return np.asarray(Image.open(file).convert("RGB"))


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, format="PNG")
    return buffer.getvalue()
