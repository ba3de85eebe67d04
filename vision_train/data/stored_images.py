"""Images whose bytes are values of a column: in Parquet files, or in the Arrow files that ``datasets`` saves.

Each process opens the files itself when it first reads of them, with one thread: a worker inherits nothing open.
Of Parquet a row group is read at a time, since none of its rows can be read alone; those read last are kept, up to
:data:`HELD` bytes. Arrow files are mapped into memory, where each row can be read alone.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from vision_train.errors import UserError

PARQUET, ARROW = ".parquet", ".arrow"
HELD = 256 * 2**20
"""Bytes of row groups that a process keeps."""
EXTRA = "needs the package pyarrow; pip install 'vision-train[parquet]'"


Version = tuple[int, int]
"""When a file was last changed, in nanoseconds, and its size in bytes."""


@dataclass(frozen=True, slots=True)
class StoredImage:
    """Where the bytes of an image stand."""

    file: str
    part: int
    """Row group, or record batch."""
    offset: int
    """Row within the part."""
    row: int
    """Row within the file, from 0."""
    column: str
    version: Version
    """The version of the file when its rows were listed."""

    @property
    def place(self) -> str:
        """File and row, for messages."""
        return f"{self.file} row {self.row}"

    def read(self) -> bytes | None:
        """The bytes; None where the row holds none.

        Raises:
            OSError: The file cannot be read, or is damaged.
            UserError: It was changed after its rows were listed.
        """
        return _parts(os.getpid()).bytes_of(self)


@cache
def _parts(process: int) -> _Parts:
    """What this process has read; a process that was forked begins anew."""
    return _Parts()


class _Parts:
    """Open files and the parts of them that were read last."""

    def __init__(self) -> None:
        self._files: dict[str, tuple[Version, Any]] = {}
        self._kept: OrderedDict[tuple[str, Version, int], Any] = OrderedDict()
        self._size = 0

    def bytes_of(self, image: StoredImage) -> bytes | None:
        if image.file.endswith(ARROW):
            _check_version(image)  # of each row: what is mapped into memory changes with the file
        key = (image.file, image.version, image.part)
        if key not in self._kept:
            self._keep(key, self._read(image))
        self._kept.move_to_end(key)
        value = self._kept[key][image.offset].as_py()
        return value if value is None or isinstance(value, bytes) else None

    def _keep(self, key: tuple[str, Version, int], part: Any) -> None:
        self._kept[key] = part
        self._size += part.nbytes
        while self._size > HELD and len(self._kept) > 1:
            _, oldest = self._kept.popitem(last=False)
            self._size -= oldest.nbytes

    def _read(self, image: StoredImage) -> Any:
        version, opened = self._files.get(image.file, (None, None))
        try:
            if version != image.version:
                opened = open_columns(Path(image.file))
            with arrow_errors():
                part = self._column(opened, image)
        finally:
            _check_version(image)  # of a file that is overwritten, rows are damaged or others
        self._files[image.file] = (image.version, opened)
        return part

    @staticmethod
    def _column(opened: Any, image: StoredImage) -> Any:
        if image.file.endswith(ARROW):
            column = opened.column(image.column).chunk(image.part)
        else:
            nested = f"{image.column}.bytes"
            held = [field.path for field in map(opened.schema.column, range(len(opened.schema)))]
            wanted = [nested] if nested in held else [image.column]
            column = opened.read_row_group(image.part, columns=wanted, use_threads=False).column(0).combine_chunks()
        return bytes_within(column)


def holds_stored(root: Path) -> bool:
    """Whether a folder holds such files."""
    return next(stored_files(root), None) is not None


def stored_files(root: Path) -> Iterator[Path]:
    """Such files below a folder, in order; or the file itself. Hidden and intermediate ones are left out."""
    if root.is_file():
        yield root
        return
    for folder, inside, names in os.walk(root):
        inside[:] = sorted(name for name in inside if not name.startswith("."))
        for name in sorted(names):
            # Results that `datasets` keeps for itself lie beside what it saved.
            if name.endswith((PARQUET, ARROW)) and not name.startswith((".", "cache-", "tmp")):
                yield Path(folder, name)


def bytes_within(column: Any) -> Any:
    """The bytes of a column of images, which are ``{bytes, path}`` or bytes alone."""
    import pyarrow

    if not pyarrow.types.is_struct(column.type):
        return column
    # Missing structs are missing bytes.
    return column.flatten()[column.type.get_field_index("bytes")]


@contextmanager
def arrow_errors() -> Iterator[None]:
    """Let what pyarrow says of a file be an OSError."""
    import pyarrow

    try:
        yield
    except pyarrow.ArrowException as error:
        raise OSError(f"damaged, or no such file ({error})") from error


def version_of(file: Path) -> Version:
    """The version of a file; of a link, that of the file that it leads to."""
    found = file.stat()
    return found.st_mtime_ns, found.st_size


def _check_version(image: StoredImage) -> None:
    """Refuse a row of a file that is not the one whose rows were listed: another image may stand there.

    Raises:
        UserError: It is so.
    """
    with suppress(OSError):  # what is gone cannot be read, which is told by what reads it
        if version_of(Path(image.file)) != image.version:
            raise UserError(f"{image.file}: was changed after its rows were listed; start again")


def open_columns(file: Path) -> Any:
    """Open a Parquet file, or map an Arrow file into memory.

    Returns:
        A ``pyarrow.parquet.ParquetFile`` or a ``pyarrow.Table``.

    Raises:
        OSError: It cannot be read, or is no such file.
        UserError: pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import ipc, parquet
    except ImportError as error:
        raise UserError(f"{file}: {EXTRA}") from error
    with arrow_errors():
        if file.suffix != ARROW:
            return parquet.ParquetFile(file, pre_buffer=False)
        mapped = pyarrow.memory_map(str(file))
        try:
            return ipc.open_stream(mapped).read_all()
        except pyarrow.ArrowInvalid:  # the other of the two formats of such files
            return ipc.open_file(mapped).read_all()
