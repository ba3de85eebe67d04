"""Writing files so that a reader sees the old content or the new, never half of it, and names for them."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vision_train.errors import UserError

LONGEST_NAME = 200
"""Bytes of a name that is made of an id or a path; file systems take 255, and writing needs some more for a moment."""


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename it over ``path``."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, for a library to write to; the file is renamed over ``path`` at the end.

    Where the block raises, ``path`` stays as it was.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # a full disk names none, and nobody knows the temporary one
        raise
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, content: str) -> None:
    """Write UTF-8 text atomically."""
    write_bytes(path, content.encode("utf-8"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; numbers that are not finite, which JSON has not, become null."""
    write_text(path, json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def check_writable(folder: Path) -> None:
    """Find out, leaving nothing behind, whether files can be put into a folder that may have yet to be made.

    Raises:
        UserError: They cannot.
    """
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise UserError(f"{folder}: cannot be written ({error.strerror})") from error


def finite(content: Any) -> Any:
    """The same mappings, lists and scalars with None for every number that is not finite."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def as_file_name(text: str) -> str:
    """Text as one name in any folder, without what some file systems refuse; of a long one, the end."""
    name = re.sub(r'[\x00-\x1f<>:"/\\|?*]+', "-", text)
    return name.encode("utf-8", "replace")[-LONGEST_NAME:].decode("utf-8", "ignore")


def names_apart(ids: Iterable[str], endings: Sequence[str]) -> dict[str, str]:
    """Give each id a name of its own, such that no file of one is another's, even where case does not count.

    Args:
        ids: Each once.
        endings: Of the files of each id; every one is added to its name.

    Returns:
        The id itself where it can be, else what :func:`as_file_name` makes of it, with a number where that is taken.
    """
    names: dict[str, str] = {}
    taken: set[str] = set()
    for each in ids:
        numbered = (f" ({number})" if number > 1 else "" for number in itertools.count(1))
        for name in (as_file_name(each) + number for number in numbered):
            files = {f"{name}{ending}".casefold() for ending in endings}
            if taken.isdisjoint(files):
                break
        names[each] = name
        taken |= files
    return names
