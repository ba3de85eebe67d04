"""Images with numbers, from a recipe to batches."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np
import torch

from vision_train.data.dataset import Batch
from vision_train.data.image_dataset import ImageDataModule
from vision_train.data.image_files import check_start, image_transform, loose, picture_sources
from vision_train.data.image_tables import ListedFile, listed_files, refuse_repeated, splits_of
from vision_train.data.kind import SKIP_BAD
from vision_train.data.labels import is_missing
from vision_train.data.measurements import TABLE, Section
from vision_train.data.sample import ImageSample
from vision_train.data.splits import Splits, by_split, cut_shares, shares_to_cut, whole_split
from vision_train.data.tables import read_table
from vision_train.data.toy.discs import DIAMETER, discs_samples
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.recipe.recipe import Recipe
from vision_train.wording import count_of, first_named

__all__ = ["all_samples", "build", "check_start", "image_transform", "loose", "picture_sources"]

NO_NUMBERS = frozenset({"", "path", "split"})
"""Columns beside those of numbers."""


class MeasurementDataModule(ImageDataModule):
    """Images whose truths are numbers; its classes are the names of these."""

    def described(self) -> str:
        """How many images there are, and what was measured."""
        counts = ", ".join(f"{count:,} {split}" for split, count in self.counts.items())
        return f"{counts} images with {', '.join(map(printable, self.classes))}"

    def class_lines(self) -> list[str]:
        """What range the numbers to learn from have."""
        numbers = np.array([sample.truth for sample in self.samples("train")])
        if not len(numbers):
            return []
        return [
            f"{printable(name)} from {column.min():.4g} to {column.max():.4g}, mean {column.mean():.4g}"
            for name, column in zip(self.classes, numbers.T, strict=True)
        ]


def build(recipe: Recipe, classes: list[str] | None = None, only: str | None = None) -> MeasurementDataModule:
    """Read and check the images that a recipe names; as :meth:`vision_train.data.kind.Implementation.build`.

    Args:
        recipe: Its ``data``, ``augment`` and ``seed`` matter here.
        classes: Names of the numbers of an earlier run.
        only: As there.
    """
    section: Section = recipe.data
    samples, names, notes = _read(section, classes)
    splits = whole_split(samples, only) if only else _divide(samples, section)
    module = MeasurementDataModule(section, recipe.augment, recipe.seed, splits, names, collate_numbers)
    module.notes += notes
    return module


def all_samples(recipe: Recipe) -> list[ImageSample]:
    """Every image that a recipe names."""
    return _read(recipe.data, None)[0]


def collate_numbers(truths: list[tuple[float, ...]]) -> Batch:
    """Numbers of B images -> ``target`` (B D, float32)."""
    return {"target": torch.tensor(truths, dtype=torch.float32)}


def _divide(samples: list[ImageSample], section: Section) -> Splits:
    splits = by_split(samples)
    wanted = shares_to_cut(splits, section.splits)
    if wanted and len(splits["train"]) <= len(wanted):
        raise UserError(
            f"{section.named()}: {len(splits['train'])} training image(s) are too few to cut {' and '.join(wanted)} "
            "from; add images"
        )
    return {**splits, **cut_shares(splits["train"], wanted)} if wanted else splits


def _read(section: Section, known: Sequence[str] | None) -> tuple[list[ImageSample], list[str], list[str]]:
    """Samples, names of their numbers, and what the user should know."""
    if section.source != TABLE:
        return list(discs_samples()), [DIAMETER], []
    assert section.labels is not None, "the section demands it"
    table, root = Path(section.labels), None if section.root is None else Path(section.root)
    columns = _columns(table, section.targets or known)
    listed, notes = listed_files(table, root, *columns.values())
    if not listed:
        raise UserError(f"{table}: no lines below the header")
    files, splits = splits_of(table, listed, notes)
    refuse_repeated(table, listed)
    missing = [file for file in files if any(is_missing(file.cells[column]) for column in columns.values())]
    if missing:
        notes.append(_without_number(table, missing, skip=section.on_bad == "skip"))
    left_out = {file.line for file in missing}
    samples = [
        ImageSample(file.name, file.path, _numbers(table, file, columns), splits.get(file.line))
        for file in files
        if file.line not in left_out
    ]
    if not samples:
        raise UserError(f"{table}: no image in it has a number")
    return samples, list(columns), notes


def _columns(table: Path, wanted: Collection[str] | None) -> dict[str, str]:
    """Names of the numbers to columns of the table."""
    content = read_table(table)
    found = {
        name: column for name, column in zip(content.written, content.columns, strict=True) if column not in NO_NUMBERS
    }
    shown = ", ".join(filter(None, content.written)) or "nothing"
    if wanted is None:
        if len(found) != 1:
            raise UserError(
                f"{table}: {len(found)} columns could hold the number (found: {shown}); name it with "
                "data.targets=[COLUMN]"
            )
        return found
    chosen = {}
    for name in wanted:
        column = found.get(name) or next((each for each in found.values() if each == name.casefold()), None)
        if column is None:
            raise UserError(f"{table}: no column {printable(name)} (found: {shown}); see data.targets")
        chosen[name] = column
    return chosen


def _numbers(table: Path, file: ListedFile, columns: dict[str, str]) -> tuple[float, ...]:
    found = []
    for name, column in columns.items():
        cell = file.cells[column]
        try:
            number = float(cell)
        except ValueError:
            number = math.nan
        if not math.isfinite(number):
            raise UserError(
                f"{table} line {file.line}: {printable(name)} is `{printable(cell)}`; write a number, with a point "
                "for its fraction"
            )
        found.append(number)
    return tuple(found)


def _without_number(table: Path, files: Sequence[ListedFile], *, skip: bool) -> str:
    """Name and count images whose number is missing.

    Raises:
        UserError: They stop everything.
    """
    named = first_named([f"{file.name} in line {file.line}" for file in files])
    said = count_of(len(files), "images")
    if skip:
        return f"{table}: left out {said} without a number: {named}"
    raise UserError(f"{table}: no number of {said}: {named}. Fill it in, or {SKIP_BAD}")
