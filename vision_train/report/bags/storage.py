"""Attention in files: a csv for each bag, its pictures beside it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

import numpy as np

from models.mil.attention_maps import AttendedBag, AttentionMaps
from vision_train.artefacts import read_picture, write_pictures
from vision_train.files import escape_name, write_text

CSV_COLUMNS = ("slide_id", "x", "y", "attention")
"""Columns of attention, before one for each branch."""


def write_maps(folder: Path, maps: AttentionMaps) -> dict[str, Any]:
    """Write the attention of each bag as a csv and its pictures beside it; return the rest, for JSON."""
    bags = [_write_bag(folder, f"{maps.name}-{index}", bag) for index, bag in enumerate(maps.bags)]
    return {"name": maps.name, "title": maps.title, "bags": bags, "note": maps.note}


def read_maps(folder: Path, body: dict[str, Any]) -> AttentionMaps:
    """Read what :func:`write_maps` wrote."""
    return AttentionMaps(**{**body, "bags": [_read_bag(folder, bag) for bag in body["bags"]]})


def _write_bag(folder: Path, name: str, bag: AttendedBag) -> dict[str, Any]:
    write_text(folder / f"{name}.csv", attention_csv(bag.id, bag.attention, bag.coords))
    pictures, size = write_pictures(folder, name, bag.pictures), bag.patch_size_level0
    return {"id": bag.id, "caption": bag.caption, "csv": f"{name}.csv", "patch_size_level0": size, "pictures": pictures}


def _read_bag(folder: Path, body: dict[str, Any]) -> AttendedBag:
    attention, coords = read_attention_csv((folder / body["csv"]).read_text(encoding="utf-8"))
    pictures = [read_picture(folder / file) for file in body["pictures"]]
    return AttendedBag(body["id"], body["caption"], attention, coords, body["patch_size_level0"], pictures)


def attention_csv(bag_id: str, attention: np.ndarray, coords: np.ndarray | None, *, header: bool = True) -> str:
    """The attention of a bag as csv: ``slide_id,x,y,attention,branch_0,...``, a row for each instance.

    Args:
        bag_id: In every row, as :func:`vision_train.files.escape_name` writes it.
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
        (escape_name(bag_id), *place, *(f"{value:.9g}" for value in row))
        for place, row in zip(places, values, strict=True)
    )
    return text.getvalue()


def read_attention_csv(text: str) -> tuple[np.ndarray, np.ndarray | None]:
    """Attention of the branches (T N) and coordinates (N 2) of one bag, as :func:`attention_csv` wrote them."""
    rows = list(csv.reader(io.StringIO(text)))[1:]
    attention = np.array([row[len(CSV_COLUMNS) :] for row in rows], dtype=np.float32).T
    return attention, None if rows[0][1] == "" else np.array([row[1:3] for row in rows], dtype=np.int64)
