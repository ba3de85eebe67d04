"""Folders of Hugging Face ``datasets``: Parquet files as hubs hold them, or Arrow files that ``save_to_disk`` wrote.

Only columns are read; nothing that lies beside them is executed.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train.data.image_tables import FoundImages
from vision_train.data.kind import SKIP_BAD, OnBad
from vision_train.data.label_sets import LabelSet
from vision_train.data.labels import class_name, is_missing
from vision_train.data.sample import ImageSample
from vision_train.data.splits import mentions_split, splits_called
from vision_train.data.stored_features import Features, features_of
from vision_train.data.stored_images import (
    ARROW,
    PARQUET,
    StoredImage,
    arrow_errors,
    open_columns,
    stored_files,
    version_of,
)
from vision_train.errors import UserError
from vision_train.files import printable
from vision_train.wording import count_of, first_named

_SHARD = re.compile(r"(?P<name>.+?)[-_.]?(?P<number>\d+)-of-(?P<count>\d+)(?:[-_.][0-9a-f]+)?|(?P<alone>.+?)")


@dataclass(frozen=True)
class _Shard:
    """One file, and the split that its name or its folder says."""

    file: Path
    split: str | None
    named_by_folder: bool
    """Whether its folder says the split."""


@dataclass(frozen=True)
class Wanted:
    """What is read of the columns."""

    label_column: str | None = None
    """As the recipe names it; None looks for it."""
    several: bool = False
    """Whether an image bears any number of classes."""
    labelled: bool = True
    """Whether every image needs a label."""
    declared: Collection[str] = ()
    """Labels that name a class, whatever they look like."""


def read_stored(root: Path, on_bad: OnBad, wanted: Wanted) -> FoundImages:
    """List the rows of the Parquet or Arrow files below a folder, or of one file.

    Args:
        root: The folder, or a file.
        on_bad: Whether rows without a label stop everything or are left out and counted.
        wanted: What is read.

    Returns:
        Samples whose ids are ``FILE#ROW``, files by their path below ``root``; no image is read.

    Raises:
        UserError: There are no such files, a shard is missing, or the columns are not those of images with labels.
    """
    samples: list[ImageSample] = []
    notes: list[str] = []
    without: list[tuple[str, str]] = []
    by_split: dict[str | None, list[_Shard]] = defaultdict(list)
    for shard in _shards(root, divided=wanted.labelled):
        by_split[shard.split].append(shard)
    for split, shards in by_split.items():
        found = [each for shard in shards for each in _rows(shard, root, wanted)]
        labels = [sample for sample, missing in found if missing is None]
        if wanted.labelled and not labels and len(by_split) > 1:
            notes.append(f"{root}: {split} has no labels and is left out ({count_of(len(found), 'images')})")
            continue
        without += [(sample.id, missing) for sample, missing in found if missing is not None]
        samples += labels if wanted.labelled else [sample for sample, _ in found]
    if wanted.labelled and without:
        notes += _without_label(root, without, on_bad)
    if not samples:
        raise UserError(f"{root}: no image in it has a label; a folder without labels is read by data.unlabelled")
    taken = Counter(shard.file.suffix for shards in by_split.values() for shard in shards)
    notes.append(f"{root}: read {', '.join(count_of(count, f'{suffix} files') for suffix, count in taken.items())}")
    return FoundImages(samples, notes)


def _shards(root: Path, *, divided: bool) -> list[_Shard]:
    files = list(stored_files(root))
    if not files:
        raise UserError(f"{printable(str(root))}: no {PARQUET} or {ARROW} files in it; set data.root to their folder")
    if len({file.suffix for file in files}) > 1:
        raise UserError(f"{printable(str(root))}: holds {PARQUET} and {ARROW} files; name the folder of one kind")
    shards = _with_splits(root, files)
    bases = {shard.file.parent.parent if shard.named_by_folder else shard.file.parent for shard in shards}
    if len(bases) > 1:
        named = first_named([str(base.relative_to(root)) or "." for base in sorted(bases)])
        raise UserError(
            f"{printable(str(root))}: its files lie in several folders, {named}, which are data sets of their own; "
            "name one of them as data.root"
        )
    _refuse_absent(files)
    if divided and root.is_dir():
        _refuse_unclear(root, shards)
    return shards


def _with_splits(root: Path, files: Sequence[Path]) -> list[_Shard]:
    """Files with the splits that their names say, or else the folders that they lie in."""
    names = {file: _parts_of(file)[0] for file in files}
    of_names = splits_called(list(dict.fromkeys(names.values())))
    of_folders = splits_called(list(dict.fromkeys(file.parent.name for file in files if file.parent != root)))
    shards = []
    for file, name in names.items():
        above = of_folders.get(file.parent.name) if name not in of_names and file.parent != root else None
        shards.append(_Shard(file, of_names.get(name, above), named_by_folder=above is not None))
    return shards


def _parts_of(file: Path) -> tuple[str, int | None, int]:
    """Name of a file without its number, its number, and how many there are of that name; None and 0 without one."""
    found = _SHARD.fullmatch(file.stem)
    assert found is not None
    if found["count"] is None:
        return found["alone"], None, 0
    return found["name"], int(found["number"]), int(found["count"])


def _refuse_absent(files: Sequence[Path]) -> None:
    """Refuse files of which one lacks by their numbers."""
    numbered: dict[tuple[Path, str, int], set[int]] = defaultdict(set)
    for file in files:
        name, number, count = _parts_of(file)
        if number is not None:
            numbered[file.parent, name, count].add(number)
    for (folder, name, count), numbers in numbered.items():
        if absent := sorted({*range(count)} - numbers):
            raise UserError(
                f"{printable(str(folder))}: {name} has {count} files by their names, and number {absent[0]:05d} is "
                "missing; download it again"
            )


def _refuse_unclear(root: Path, shards: Sequence[_Shard]) -> None:
    """Refuse files whose split is not clear: what they hold to test on would be trained on."""
    without = [shard.file for shard in shards if shard.split is None]
    named = [shard.file for shard in shards if shard.split is not None]
    doubtful = [file for file in without if named or mentions_split(file.stem)]
    if doubtful:
        shown = first_named([str(file.relative_to(root)) for file in doubtful])
        beside = f", beside {first_named([str(file.relative_to(root)) for file in named])}" if named else ""
        raise UserError(
            f"{printable(str(root))}: which split {shown} is does not show{beside}; begin the names of all files with "
            "train, val or test, as in train-00000.parquet, or move those out that are not to be used"
        )


def _rows(shard: _Shard, root: Path, wanted: Wanted) -> Iterator[tuple[ImageSample, str | None]]:
    """Samples of a file, each with what stands in place of its label where it has none."""
    name = shard.file.relative_to(root).as_posix() if shard.file != root else shard.file.name
    try:
        version, opened = version_of(shard.file), open_columns(shard.file)
        features = features_of(opened, shard.file, root, wanted.label_column if wanted.labelled else None)
        column = features.label if wanted.labelled else None
        if wanted.labelled and column is None:
            raise UserError(
                f"{printable(str(shard.file))}: no column of labels (found: {', '.join(features.columns)}); name it "
                "with data.label_column=NAME"
            )
        with arrow_errors():
            labels = None if column is None else _values(opened, column, shard.file)
        sizes = _sizes(opened, features.image, shard.file)
    except OSError as error:
        raise UserError(f"{printable(str(shard.file))}: {error.strerror or error}; download it again") from error
    row = 0
    for part, size in enumerate(sizes):
        for offset in range(size):
            image = StoredImage(str(shard.file), part, offset, row, features.image, version)
            truth, missing = (None, None) if labels is None else _truth(labels[row], features, wanted, shard.file, row)
            yield ImageSample(f"{name}#{row}", image, truth, shard.split), missing
            row += 1


def _sizes(opened: Any, column: str, file: Path) -> list[int]:
    """Rows of each part."""
    if file.suffix == ARROW:
        return [len(chunk) for chunk in opened.column(column).chunks]
    return [opened.metadata.row_group(index).num_rows for index in range(opened.num_row_groups)]


def _values(opened: Any, column: str, file: Path) -> list[Any]:
    table = opened if file.suffix == ARROW else opened.read(columns=[column], use_threads=False)
    values: list[Any] = table.column(column).to_pylist()
    return values


def _truth(value: Any, features: Features, wanted: Wanted, file: Path, row: int) -> tuple[Any, str | None]:
    """What a cell says of the classes, or what stands there in place of a label."""
    if wanted.several:
        if value is None:
            return None, "nothing"
        if not isinstance(value, list):
            raise UserError(
                f"{printable(str(file))} row {row}: {features.label} is one label; set data.multi_label=false, or "
                "name a column of lists with data.label_column"
            )
        return LabelSet(tuple(sorted({_named(each, features, file, row) for each in value}))), None
    if isinstance(value, list | dict):
        raise UserError(
            f"{printable(str(file))} row {row}: {features.label} holds several values; set data.multi_label=true and "
            "method.loss=bce, or name a column of one label with data.label_column"
        )
    if value is None or (features.names and value == -1):  # `datasets` write -1 where a label is withheld
        return None, "nothing" if value is None else "-1"
    name = _named(value, features, file, row)
    return (None, name or "nothing") if is_missing(name, wanted.declared) else (name, None)


def _named(value: Any, features: Features, file: Path, row: int) -> str:
    if not features.names or isinstance(value, str):
        return class_name(str(value))
    if not isinstance(value, int) or not 0 <= value < len(features.names):
        raise UserError(
            f"{printable(str(file))} row {row}: {features.label} is {value!r}, and there are {len(features.names)} "
            "names of classes, from 0 on; mend the file"
        )
    return class_name(features.names[value])


def _without_label(root: Path, rows: Sequence[tuple[str, str]], on_bad: OnBad) -> list[str]:
    written = Counter(word for _, word in rows)
    words = ", ".join(f"`{printable(word)}` {count} times" for word, count in written.items())
    named = first_named([name for name, _ in rows])
    if on_bad == "skip":
        return [f"{root}: left out {count_of(len(rows), 'images')} without a label ({words}): {named}"]
    raise UserError(
        f"{root}: no label of {count_of(len(rows), 'images')} ({words}): {named}. Label them, or {SKIP_BAD}"
    )
