"""Finding the samples: class folders and csv files, checked before anything is decoded."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

from vision_train.data.decode import IMAGE_ENDINGS, is_image_file
from vision_train.data.image_section import BUNDLED, ImageFolderSection
from vision_train.data.kind import SPLITS
from vision_train.data.sample import ImageSample
from vision_train.data.tables import read_table, split_named
from vision_train.data.toy.digits import digits_samples
from vision_train.errors import UserError


def read_samples(data: ImageFolderSection, *, divided: bool = True, labelled: bool = True) -> list[ImageSample]:
    """List the samples that a recipe's ``data`` names, in a fixed order.

    Args:
        data: What to read.
        divided: As for :func:`read_folder`.
        labelled: Whether every image needs a label. Without, folders say nothing but their split; labels of a csv and
            of the digits stay with the images that have one.

    Raises:
        UserError: Something is missing, empty, listed twice or contradictory; the message names it.
    """
    if data.source == BUNDLED:
        return digits_samples()
    root = _image_root(data)
    if data.labels is not None:
        return read_csv(Path(data.labels), root, labelled=labelled)
    assert root is not None
    return read_folder(root, divided=divided) if labelled else read_pool(root, divided=divided)


def _image_root(data: ImageFolderSection) -> Path | None:
    """The folder that holds the images; None where the folder of the csv does."""
    root = None if data.root is None else Path(data.root)
    if root is not None and not root.is_dir():
        wrong = "is not a folder" if root.exists() else "no such folder"
        raise UserError(f"data.root {root}: {wrong}; say where the images are with data.root=FOLDER")
    if root is None and data.labels is None:
        raise UserError("no images named; set data.root=FOLDER, or data.labels=FILE.csv")
    return root


def read_folder(root: Path, *, divided: bool = True) -> list[ImageSample]:
    """Read ``root/CLASS/...`` or ``root/{train,val,test}/CLASS/...``; images may lie deeper inside a class folder.

    ``root`` counts as divided into splits when it holds a folder ``train``, ``val`` or ``test``. An image's id is its
    path below ``root``.

    Args:
        root: The folder.
        divided: Whether the samples are to be divided for training. Data that is evaluated need not hold a ``train``
            folder.

    Raises:
        UserError: No class folders, an empty one, or folders that fit neither layout.
    """
    splits = _split_folders(root)
    if not splits:
        return list(_class_folders(root, root, split=None))
    if divided:
        _demand_train(root, splits)
    return [sample for name in splits for sample in _class_folders(root / name, root, split=name)]


def read_pool(root: Path, *, divided: bool = True) -> list[ImageSample]:
    """Read every image below ``root``, or below each of ``root/{train,val,test}``, whatever the folders are called.

    Args:
        root: The folder.
        divided: As for :func:`read_folder`.

    Raises:
        UserError: No image, or folders ``val`` or ``test`` without ``train`` or beside others.
    """
    splits = _split_folders(root)
    if splits and divided:
        _demand_train(root, splits)
    if splits and (loose := next((path for path in sorted(root.iterdir()) if is_image_file(path)), None)):
        raise UserError(
            f"{loose}: lies beside the folders {' and '.join(splits)}; move it and its like into one of them"
        )
    samples = [
        ImageSample(file.relative_to(root).as_posix(), str(file), split=name or None)
        for name in splits or [""]
        for file in sorted(images_below(root / name))
    ]
    if not samples:
        raise UserError(f"{root}: no images in it (endings read: {' '.join(sorted(IMAGE_ENDINGS))})")
    return samples


def _split_folders(root: Path) -> list[str]:
    """Those of the folders ``train``, ``val`` and ``test`` that divide ``root``."""
    names = [folder.name for folder in _subfolders(root)]
    splits = [name for name in SPLITS if name in names]
    unknown = [name for name in names if name not in SPLITS]
    if splits and unknown:
        raise UserError(
            f"{root}: holds {' and '.join(splits)} and also {', '.join(unknown)}. "
            "Beside train, val and test no other folder may lie; rename or move the rest"
        )
    return splits


def _demand_train(root: Path, splits: list[str]) -> None:
    if "train" not in splits:
        raise UserError(f"{root}: holds {' and '.join(splits)}, but no folder train to learn from")


def _class_folders(folder: Path, root: Path, split: str | None) -> Iterator[ImageSample]:
    class_folders = _subfolders(folder)
    if not class_folders:
        raise UserError(f"{folder}: no class folders. Put the images of each class into a folder with the class's name")
    folder_of: dict[str, Path] = {}
    for class_folder in class_folders:
        label = _class_name(class_folder.name)
        if label in folder_of:
            raise UserError(
                f"class folders `{folder_of[label]}` and `{class_folder}` have the same name but for invisible "
                "characters; merge them or rename one"
            )
        folder_of[label] = class_folder
        files = sorted(images_below(class_folder))
        if not files:
            raise UserError(
                f"class folder {class_folder}: no images in it (endings read: {' '.join(sorted(IMAGE_ENDINGS))}). "
                "Add some, or remove the folder."
            )
        for file in files:
            yield ImageSample(file.relative_to(root).as_posix(), str(file), label, split)


def _class_name(text: str) -> str:
    """Text without what nobody sees: surrounding spaces, and accents that one system writes apart and another not."""
    return unicodedata.normalize("NFC", text.strip())


def _subfolders(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir() and not entry.name.startswith("."))
    except OSError as error:
        raise UserError(f"{folder}: cannot be listed ({error.strerror})") from error


def images_below(folder: Path) -> Iterator[Path]:
    """Every image file below a folder, in no order; links are followed, hidden folders are not entered."""
    entered: set[tuple[int, int]] = set()
    for directory, folders, names in os.walk(folder, followlinks=True):
        place = Path(directory).stat()
        if (place.st_dev, place.st_ino) in entered:  # a link leads back
            folders.clear()
            continue
        entered.add((place.st_dev, place.st_ino))
        folders[:] = [name for name in folders if not name.startswith(".")]  # of file managers, caches and the like
        yield from (path for name in names if is_image_file(path := Path(directory, name)))


def read_csv(table: Path, root: Path | None, *, labelled: bool = True) -> list[ImageSample]:
    """Read a csv with the columns ``path,label`` and, optionally, ``split``; further columns are ignored.

    Args:
        table: A csv file, as :func:`vision_train.data.tables.read_table` reads it.
        root: The folder that the paths are relative to; None for the folder of the csv.
        labelled: Whether every image needs a label.

    Raises:
        UserError: The table cannot be read, lacks a column or value, or lists a file that does not exist or one twice.
    """
    folder = table.parent if root is None else root
    samples: list[ImageSample] = []
    line_of: dict[str, int] = {}
    for line, row in read_table(table).rows_with("path", *(["label"] if labelled else [])):
        sample = _csv_sample(f"{table} line {line}", row, folder)
        path = str(sample.image)
        if path in line_of:
            raise UserError(f"{table} line {line}: {sample.id} is listed already in line {line_of[path]}")
        line_of[path] = line
        samples.append(sample)
    if not samples:
        raise UserError(f"{table}: no lines below the header")
    return samples


def _csv_sample(place: str, row: dict[str, str], folder: Path) -> ImageSample:
    split = split_named(row["split"], place) if "split" in row else None
    path = Path(os.path.normpath(folder / row["path"]))
    if not path.is_file():
        raise UserError(f"{place}: no file {path}. Paths are relative to {folder}")
    return ImageSample(row["path"], str(path), _class_name(row.get("label", "")) or None, split)
