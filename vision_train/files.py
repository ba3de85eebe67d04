"""Writing files so that a reader sees the old content or the new, never half of it, and names for them."""

from __future__ import annotations

import itertools
import json
import math
import os
import re
import tempfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vision_train.errors import UserError

LONGEST_NAME = 200
"""Bytes of a name that is made of an id or a path; file systems take 255, and writing needs some more for a moment."""

OUTPUT_MARK = ".vision-train-output"
"""File by which a folder that this program wrote is known."""
_UNMARKED = (("recipe.yaml", "environment.json", "classes.json"), ("study.json", "recipes"))
"""What a run and a study of an earlier version, which left no mark, hold."""

_UNWRITABLE = re.compile(r"[\udc80-\udcff\r]|\\(?=udc[0-9a-f]{2})")
_ESCAPE = re.compile(r"\\u(dc[0-9a-f]{2})")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def write_bytes(path: Path, content: bytes) -> None:
    """Write to a temporary file beside ``path``, then rename it over ``path``."""
    with written_whole(path) as temporary:
        temporary.write_bytes(content)


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path``, for a library to write to; the file is renamed over ``path`` at the end.

    Where the block raises, ``path`` stays as it was.
    """
    name = os.fsencode(path.name)
    # A name that is as long as file systems allow leaves no room for an ending.
    short = path.name if len(name) <= LONGEST_NAME else f"{zlib.crc32(name):08x}"
    temporary = path.with_name(f".{short}.{os.getpid()}.tmp")
    try:
        yield temporary
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)  # a full disk names none, and nobody knows the temporary one
        raise
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def utf_8_path(path: Path) -> Iterator[Path]:
    """A path to an existing file for libraries that take only those in UTF-8; of other names the number of the file."""
    try:
        str(path).encode("utf-8")
    except UnicodeEncodeError:
        with path.open("rb") as file:
            yield Path("/dev/fd", str(file.fileno()))
    else:
        yield path


def write_text(path: Path, content: str) -> None:
    r"""Write UTF-8 text atomically; a byte of a name that is no UTF-8 is written ``\udcXX``, which JSON reads back."""
    write_bytes(path, content.encode("utf-8", "backslashreplace"))


def write_json(path: Path, content: Any) -> None:
    """Write indented JSON atomically; numbers that are not finite, which JSON has not, become null."""
    write_text(path, json.dumps(finite(content), indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def mark_output(folder: Path, *names: str) -> None:
    """Leave a mark by which what this program wrote is known, so that it is never read as data.

    Args:
        folder: It exists.
        *names: What was written into a folder that holds other things too; none where all of it is ours.
    """
    mark = folder / OUTPUT_MARK
    if names and is_output(folder):
        return
    listed = sorted({*written_names(folder), *names}) if names else None
    write_json(mark, {"written by": "vision-train", "not to be read as data": listed or "all of this folder"})


def is_output(folder: Path) -> bool:
    """Whether all of a folder was written by this program: a run, a study or pictures."""
    return _marked(folder) is True or any(all((folder / name).exists() for name in names) for names in _UNMARKED)


def written_names(folder: Path) -> frozenset[str]:
    """What this program wrote into a folder that holds other things too."""
    marked = _marked(folder)
    return frozenset() if isinstance(marked, bool) else marked


def _marked(folder: Path) -> bool | frozenset[str]:
    """Whether a folder has a mark; or the names that it lists. A damaged one stands for the whole folder."""
    try:
        listed = json.loads((folder / OUTPUT_MARK).read_text(encoding="utf-8"))["not to be read as data"]
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError, LookupError, TypeError):
        return True
    return frozenset(map(str, listed)) if isinstance(listed, list) else True


def refuse_full(folder: Path) -> None:
    """Refuse a place for new files that holds some already, or is no folder.

    Raises:
        UserError: It is there, and is not an empty folder.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{folder} exists and is not an empty folder; name another one")


def check_writable(folder: Path, named_by: str) -> None:
    """Find out, leaving nothing behind, whether files can be put into a folder that may have yet to be made.

    Args:
        folder: The folder.
        named_by: The option or argument that names it, for the message.

    Raises:
        UserError: They cannot.
    """
    try:
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        tempfile.TemporaryFile(dir=existing).close()
    except OSError as error:
        raise UserError(
            f"{folder.absolute()}: cannot be written ({error.strerror}); name a writable folder with {named_by}"
        ) from error


def read_mapping(file: Path, remedy: str) -> dict[str, Any]:
    """The mapping in a JSON file.

    Args:
        file: An existing file.
        remedy: What to do if it is damaged, for the message.

    Raises:
        UserError: It holds no mapping.
    """
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        content = None
    if not isinstance(content, dict):
        raise UserError(f"{file}: is damaged; {remedy}")
    return content


def finite(content: Any) -> Any:
    """The same mappings, lists and scalars with None for every number that is not finite."""
    if isinstance(content, dict):
        return {key: finite(value) for key, value in content.items()}
    if isinstance(content, list | tuple):
        return [finite(value) for value in content]
    return None if isinstance(content, float) and not math.isfinite(content) else content


def escape_name(name: str) -> str:
    r"""A name as text that any file of text can hold: ``\udcXX`` for each byte XX that is no UTF-8, as JSON has it.

    Python reads such a byte as a lone surrogate. A carriage return, which csv files lose, becomes ``\udc0d``, and a
    backslash that begins what looks like an escape ``\udc5c``, so that :func:`unescape_name` gives every name back.
    """
    return _UNWRITABLE.sub(lambda found: f"\\u{0xDC00 + ord(found[0]) % 0xDC00:04x}", name)


def unescape_name(text: str) -> str:
    """The name that :func:`escape_name` wrote."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16) - (0 if found[1] >= "dc80" else 0xDC00)), text)


def printable(name: str) -> str:
    """A name on one line of a message: escaped, line ends and other control characters as well."""
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), escape_name(name))


def as_file_name(text: str) -> str:
    """Text as one name in any folder, without what some file systems refuse; of a long one, the end."""
    name = re.sub(r'[\x00-\x1f\x7f\ud800-\udfff<>:"/\\|?*]+', "-", text)
    return name.encode("utf-8")[-LONGEST_NAME:].decode("utf-8", "ignore")


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
