"""Finding the samples: class folders and csv files, checked before anything is decoded."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from pathlib import Path

from vision_train.data.dataset import Sample
from vision_train.data.decode import IMAGE_ENDINGS, is_image_file
from vision_train.data.toy.digits import digits_samples
from vision_train.errors import UserError
from vision_train.recipe.sections import Data

SPLITS = ("train", "val", "test")


def read_samples(data: Data) -> list[Sample]:
    """List the samples that a recipe's ``data`` names, in a fixed order.

    Raises:
        UserError: Something is missing, empty, listed twice or contradictory; the message names it.
    """
    if data.source == "digits":
        return digits_samples()
    root = None if data.root is None else Path(data.root)
    if root is not None and not root.is_dir():
        raise UserError(f"data.root {root}: {'is not a folder' if root.exists() else 'no such folder'}")
    if data.labels is not None:
        return read_csv(Path(data.labels), root)
    if root is None:
        raise UserError("no images named; set data.root=FOLDER, or data.labels=FILE.csv")
    return read_folder(root)


def read_folder(root: Path) -> list[Sample]:
    """Read ``root/CLASS/...`` or ``root/{train,val,test}/CLASS/...``; images may lie deeper inside a class folder.

    ``root`` counts as divided into splits when it holds a folder ``train``. An image's id is its path below ``root``.

    Raises:
        UserError: No class folders, an empty one, or folders that fit neither layout.
    """
    names = [folder.name for folder in _subfolders(root)]
    if "train" not in names:
        if names and set(names) <= set(SPLITS):
            raise UserError(f"{root}: holds {' and '.join(names)}, but no folder train to learn from")
        return list(_class_folders(root, root, split=None))
    unknown = [name for name in names if name not in SPLITS]
    if unknown:
        raise UserError(
            f"{root}: holds train and also {', '.join(unknown)}. "
            "Beside train only val and test may lie; rename or move the rest"
        )
    return [sample for name in SPLITS if name in names for sample in _class_folders(root / name, root, split=name)]


def _class_folders(folder: Path, root: Path, split: str | None) -> Iterator[Sample]:
    class_folders = _subfolders(folder)
    if not class_folders:
        raise UserError(f"{folder}: no class folders. Put the images of each class into a folder with the class's name")
    for class_folder in class_folders:
        files = sorted(_images_below(class_folder))
        if not files:
            raise UserError(
                f"class folder {class_folder}: no images in it (endings read: {' '.join(sorted(IMAGE_ENDINGS))}). "
                "Add some, or remove the folder."
            )
        for file in files:
            yield Sample(file.relative_to(root).as_posix(), str(file), class_folder.name, split)


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error


def _images_below(folder: Path) -> Iterator[Path]:
    for directory, _, names in os.walk(folder, followlinks=True):
        yield from (path for name in names if is_image_file(path := Path(directory, name)))


def read_csv(table: Path, root: Path | None) -> list[Sample]:
    """Read a csv with the columns ``path,label`` and, optionally, ``split``; further columns are ignored.

    Args:
        table: UTF-8, with a header line.
        root: What the paths are relative to; None for the folder of the csv.

    Raises:
        UserError: Unreadable, a column or value missing, a file that does not exist or is listed twice.
    """
    folder = table.parent if root is None else root
    samples: list[Sample] = []
    line_of: dict[str, int] = {}
    for line, row in _csv_rows(table):
        sample = _csv_sample(table, line, row, folder)
        path = str(sample.image)
        if path in line_of:
            raise UserError(f"{table} line {line}: {sample.id} is listed already in line {line_of[path]}")
        line_of[path] = line
        samples.append(sample)
    if not samples:
        raise UserError(f"{table}: no lines below the header")
    return samples


def _csv_rows(table: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number and stripped cells of each row."""
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, restval="")
            columns = [name.strip() for name in reader.fieldnames or []]
            missing = [name for name in ("path", "label") if name not in columns]
            if missing:
                raise UserError(
                    f"{table}: no column {' and '.join(missing)} (found: {', '.join(columns) or 'an empty file'}). "
                    "The first line must read path,label or path,label,split"
                )
            reader.fieldnames = columns
            for row in reader:
                yield reader.line_num, {name: row[name].strip() for name in columns}
    except OSError as error:
        raise UserError(f"data.labels {table}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.labels {table}: not a csv file in UTF-8 ({error})") from error


def _csv_sample(table: Path, line: int, row: dict[str, str], folder: Path) -> Sample:
    for column in ("path", "label"):
        if not row[column]:
            raise UserError(f"{table} line {line}: the {column} is empty")
    split = row.get("split")
    if split is not None and split not in SPLITS:
        raise UserError(f"{table} line {line}: split is `{split}`; write train, val or test")
    path = Path(os.path.normpath(folder / row["path"]))
    if not path.is_file():
        raise UserError(f"{table} line {line}: no file {path}. Paths are relative to {folder}")
    return Sample(row["path"], str(path), row["label"], split)
