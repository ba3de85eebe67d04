"""Which samples have the same content, whatever their files are called.

Two files are the same if all of their bytes are. Few have to be read for that: only those that agree in size with a
file of another list, and of these only some kilobytes, unless they agree too. Where a file may be gone when it is asked
for, its size and a digest of those kilobytes stand for it. What :mod:`vision_train.data.pictures` makes of decoded
pixels is remembered here too.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from vision_train.data.sample import Sample
from vision_train.data.stored_content import row_digests
from vision_train.files import write_text
from vision_train.progress import doing

STORE = "digests.json"
"""Name of the file beside runs that keeps digests."""
WORTH_KEEPING = 1000
"""Fewer new digests are made anew in a moment."""
AS_LONG_AS = 10
"""Digests of a file that are made in the time in which a picture is decoded, about."""
SAMPLED = 16 * 1024
"""Bytes that are read of a file at first: all of a small one; of others a half from the beginning and a quarter each
from the middle and the end, since pictures that are not compressed often begin with the same margin."""
MARK_DIGITS = 16
"""Hexadecimal digits of a digest that a mark holds."""
THREADS = 8
"""Files that are read at a time: hashing and waiting for a disk leave other threads their turn."""
CHUNK = 64
"""Files that a thread takes at a time."""

SAMPLED_DIGEST, WHOLE_DIGEST, PICTURE = 2, 3, 4
"""Columns of what is remembered of a file."""

Result = TypeVar("Result")
Remembered = tuple[int, int, str, str, str]
"""Size, time of change, digest of some kilobytes, digest of the whole, what the pixels gave; empty if unknown."""
Shared = dict[str, list[Sample]]
"""Samples of one content, by the list that they are in; of two lists at least."""


@dataclass(frozen=True, slots=True)
class _File:
    """A file as the file system describes it."""

    path: str
    place: tuple[int, int]
    """Device and inode: the same for all paths that lead to it."""
    size: int
    changed: int


@dataclass(slots=True)
class _Node:
    """One file, or one sample in memory, with the samples that it is."""

    file: _File | None
    members: list[tuple[str, Sample]] = field(default_factory=list)
    """With the list that each is in."""


class Contents:
    """Finds copies, and remembers the digests of files as long as their sizes and times of change stay the same."""

    def __init__(self) -> None:
        self._known: dict[str, Remembered] = {}
        self._new = 0

    def recall(self, folder: Path) -> None:
        """Take up the digests that :meth:`keep` has left in a folder."""
        with suppress(OSError, ValueError, TypeError, AttributeError):  # what cannot be read is made anew
            stored = json.loads((folder / STORE).read_text(encoding="utf-8"))
            self._known |= {
                path: (
                    int(size),
                    int(changed),
                    str(sampled),
                    str(whole),
                    str(*picture),
                )  # earlier versions lack the last
                for path, (size, changed, sampled, whole, *picture) in stored.items()
            }

    def keep(self, folder: Path) -> None:
        """Leave the digests in a folder for the next run, if it would take long to make them again."""
        if self._new < WORTH_KEEPING:
            return
        with suppress(OSError):  # a folder in which only the run itself may be written
            write_text(folder / STORE, json.dumps(self._known))  # escapes what is no text in a file's name
            self._new = 0

    def shared(self, lists: Mapping[str, Sequence[Sample]]) -> list[Shared]:
        """Find the contents that occur in more than one list.

        Args:
            lists: Samples by the name of their list. What :attr:`Sample.file` names is compared by its bytes, and so
                is what stands in rows of files (:mod:`vision_train.data.stored_content`); anything else by its
                identity.

        Returns:
            The samples of each such content, in the order of the lists.
        """
        groups: dict[Hashable, list[_Node]] = defaultdict(list)
        for node in _nodes(lists):
            # Of the content of what is no file of its own, nothing is known but where it lies.
            alone = node.file is None or not node.file.size
            groups[id(node) if alone else node.file.size].append(node)  # type: ignore[union-attr]
        candidates = _spanning(groups.values())
        for refine in (self._sampled, self._wholes):
            candidates = _spanning(part for part in refine(candidates))
        order = {name: place for place, name in enumerate(lists)}
        found = []
        for nodes in candidates:
            members = sorted((member for node in nodes for member in node.members), key=lambda each: order[each[0]])
            group: Shared = {}
            for name, sample in members:
                group.setdefault(name, []).append(sample)
            found.append(group)
        return found

    def marks(self, samples: Sequence[Sample]) -> list[str | None]:
        """A short text for each sample that is the same for its copies: the size and a digest of some kilobytes.

        None for what has no file of its own, and for a file that is empty or cannot be read.
        """
        paths = list(dict.fromkeys(sample.file for sample in samples if sample.file is not None))
        found = dict(zip(paths, _in_threads(_described, paths), strict=True))
        files = [file for file in found.values() if file is not None and file.size]
        digests = self._digests(files, SAMPLED_DIGEST, lambda file: _digest(file, SAMPLED))
        marks = {}
        for path, file in found.items():
            digest = digests.get(file.path) if file is not None else None
            if file is not None and digest and digest != file.path:
                marks[path] = f"{file.size}:{digest[:MARK_DIGITS]}"
        return [None if sample.file is None else marks.get(sample.file) for sample in samples]

    def of_pictures(self, paths: Sequence[str], describe: Callable[[str], str]) -> dict[str, str]:
        """Describe the picture in each file, unless its description is remembered.

        Args:
            paths: Of files.
            describe: Path -> a text that only depends on the pixels; called in threads. Empty where it has none.

        Returns:
            The text of each file that has one, by its path as given.
        """
        paths = list(dict.fromkeys(paths))
        found = dict(zip(paths, _in_threads(_described, paths), strict=True))
        files = [file for file in found.values() if file is not None and file.size]
        # What is not remembered is asked for again: an unreadable file may be mended.
        texts = self._digests(files, PICTURE, lambda file: describe(file.path) or file.path)
        made = {path: texts[file.path] for path, file in found.items() if file is not None and file.size}
        return {path: text for path, text in made.items() if text != found[path].path}  # type: ignore[union-attr]

    def _sampled(self, groups: list[list[_Node]]) -> Iterable[list[_Node]]:
        return self._divided(groups, SAMPLED_DIGEST, lambda file: _digest(file, SAMPLED))

    def _wholes(self, groups: list[list[_Node]]) -> Iterable[list[_Node]]:
        return self._divided(groups, WHOLE_DIGEST, lambda file: _digest(file, None))

    def _divided(self, groups: list[list[_Node]], column: int, digest: Callable[[_File], str]) -> Iterable[list[_Node]]:
        """Divide groups of several files by a digest; a group of one has nothing to be compared with."""
        files = [node.file for nodes in groups if len(nodes) > 1 for node in nodes if node.file is not None]
        digests = self._digests(files, column, digest)
        for nodes in groups:
            parts: dict[str, list[_Node]] = defaultdict(list)
            for node in nodes:
                parts["" if len(nodes) == 1 or node.file is None else digests[node.file.path]].append(node)
            yield from parts.values()

    def _digests(self, files: list[_File], column: int, digest: Callable[[_File], str]) -> dict[str, str]:
        known = {file.path: self._stored(file)[column] for file in files}
        missing = [file for file in files if not known[file.path]]
        text = "comparing pictures" if column == PICTURE else "comparing files"
        for file, value in zip(missing, _in_threads(digest, missing, text), strict=True):
            known[file.path] = value
            if value != file.path:
                _, _, *texts = self._stored(file)
                texts[column - SAMPLED_DIGEST] = value
                self._known[file.path] = (file.size, file.changed, texts[0], texts[1], texts[2])
        self._new += len(missing) * (AS_LONG_AS if column == PICTURE else 1)
        return {path: str(value) for path, value in known.items()}

    def _stored(self, file: _File) -> Remembered:
        row = self._known.get(file.path)
        unchanged = row is not None and row[:2] == (file.size, file.changed)
        return row if row is not None and unchanged else (file.size, file.changed, "", "", "")


CONTENTS = Contents()
"""The digests of this process."""


def _nodes(lists: Mapping[str, Sequence[Sample]]) -> list[_Node]:
    members = [(name, sample, sample.file) for name, samples in lists.items() for sample in samples]
    paths = list(dict.fromkeys(path for _, _, path in members if path is not None))
    files = dict(zip(paths, _in_threads(_described, paths), strict=True))
    rows = row_digests(sample for _, sample, _ in members)
    nodes: dict[Hashable, _Node] = {}
    for name, sample, path in members:
        file = None if path is None else files[path]
        key = rows.get(sample.identity, sample.identity) if file is None else file.place
        nodes.setdefault(key, _Node(file)).members.append((name, sample))
    return list(nodes.values())


def _described(path: str) -> _File | None:
    place = Path(path).absolute()
    try:
        found = place.stat()
    except OSError:
        return None  # reading it will fail, and be told
    return _File(str(place), (found.st_dev, found.st_ino), found.st_size, found.st_mtime_ns)


def _spanning(groups: Iterable[list[_Node]]) -> list[list[_Node]]:
    """The groups with samples of more than one list."""
    return [nodes for nodes in groups if len({name for node in nodes for name, _ in node.members}) > 1]


def _digest(file: _File, length: int | None) -> str:
    """Digest of so many bytes of a file, or of all; its own path where it cannot be read, which is told later."""
    try:
        with Path(file.path).open("rb") as content:
            if length is None:
                return hashlib.file_digest(content, "sha256").hexdigest()
            if file.size <= length:
                return hashlib.sha256(content.read(length)).hexdigest()
            sampled = hashlib.sha256(content.read(length // 2))
            for start in (file.size // 2, file.size - length // 4):
                content.seek(start)
                sampled.update(content.read(length // 4))
            return sampled.hexdigest()
    except OSError:
        return file.path


Item = TypeVar("Item")


def _in_threads(
    function: Callable[[Item], Result], items: Sequence[Item], text: str = "looking up files"
) -> list[Result]:
    """Apply a function to each item, in threads where there are many, and say so by the text."""
    if len(items) <= CHUNK:
        return [function(item) for item in items]
    chunks = [items[start : start + CHUNK] for start in range(0, len(items), CHUNK)]
    results: list[Result] = []
    with ThreadPoolExecutor(THREADS) as pool, doing(text, len(items), "files") as work:
        for part in pool.map(lambda chunk: [function(item) for item in chunk], chunks):
            results += part
            work.advance(len(part))
    return results
