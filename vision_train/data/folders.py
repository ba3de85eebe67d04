"""The one rule by which folders are listed, for every kind of data and every verb. What it leaves out is counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path

from vision_train.errors import UserError
from vision_train.files import OUTPUT_MARK, is_output, printable, written_names
from vision_train.wording import first_named

IMAGE_ENDINGS = frozenset(
    {".avif", ".bmp", ".gif", ".jfif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
)
"""File endings, that count as images when a folder is listed; upper case counts as well."""
CACHES = frozenset(
    {"__MACOSX", "__pycache__", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
"""Folders that systems and programs leave among the files of a user."""
CACHE_TAG = "CACHEDIR.TAG"
"""File by which programs mark a cache (https://bford.info/cachedir)."""

Place = tuple[int, int]
"""Device and number of a folder: the same for every path that leads to it."""


def place_of(folder: Path) -> Place:
    """What tells one folder from another, whatever link leads to it.

    Raises:
        UserError: It is gone or out of reach.
    """
    try:
        found = folder.stat()
    except OSError as error:
        raise UserError(f"{printable(str(folder))}: cannot be listed ({error.strerror})") from error
    return found.st_dev, found.st_ino


class Listing:
    """Lists files below folders and counts what it leaves out.

    Links are followed. A folder that several paths of one list lead to is entered once, and none that lies around the
    root. Hidden files and folders, caches and what this program wrote (runs, studies, pictures of predictions) are left
    out. The case of an ending does not count.

    Args:
        root: The folder that messages give paths below.
        endings: Of the files that are wanted, in small letters.
        noun: What such files are, in the plural.
        pool: A folder of files without labels that is left out wherever it lies below the root; None for none.

    Raises:
        UserError: The root was written by this program.
    """

    def __init__(self, root: Path, endings: Collection[str], noun: str, pool: Path | None = None) -> None:
        self._root = root
        self._endings = tuple(endings)
        self._noun = noun
        self._hidden: dict[str, int] = {}
        self._outputs: dict[str, None] = {}
        self._again: dict[str, None] = {}
        self._beside: dict[str, None] = {}
        self._below: dict[str, int] = {}
        self._others: Counter[str] = Counter()
        self._pool = None if pool is None else place_of(pool)
        self._pools: dict[str, None] = {}
        refuse_output(root)
        self._around = {place_of(folder) for folder in (root.resolve(), *root.resolve().parents)}

    def folders(self, folder: Path) -> list[Path]:
        """Folders that lie directly in one, in order.

        Raises:
            UserError: It cannot be listed.
        """
        return [folder / entry.name for entry in self._kept(folder) if _is_folder(entry)]

    def files(self, folder: Path) -> list[Path]:
        """Wanted files that lie directly in a folder, in order.

        Raises:
            UserError: It cannot be listed.
        """
        return [folder / entry.name for entry in self._kept(folder) if self._is_wanted(entry)]

    def below(self, folder: Path, entered: set[Place]) -> list[Path]:
        """Wanted files in a folder and in all folders below it, in order.

        Args:
            folder: Where to begin.
            entered: Folders that are not to be entered again; those that were are added.

        Raises:
            UserError: A folder cannot be listed.
        """
        found: list[Path] = []
        waiting = [folder]
        while waiting:
            here = waiting.pop()
            place = place_of(here)
            if place in entered or self.leads_back(here):
                self._again[self._named(here)] = None
                continue
            entered.add(place)
            inside: list[Path] = []
            for entry in self._kept(here):
                if _is_folder(entry):
                    inside.append(here / entry.name)
                elif self._is_wanted(entry):
                    found.append(here / entry.name)
                else:
                    self._others[Path(entry.name).suffix.lower() or "no ending"] += 1
            waiting += reversed(inside)
        return sorted(found)

    def leads_back(self, folder: Path) -> bool:
        """Whether a folder is a link to the root or to a folder around it."""
        return folder != self._root and place_of(folder) in self._around

    def leave_beside(self, folder: Path) -> None:
        """Count the wanted files that lie directly in a folder as left out, since its folders alone are read."""
        self._beside |= dict.fromkeys(map(self._named, self.files(folder)))

    def leave_below(self, folder: Path, but: str) -> None:
        """Count the wanted files in the folders below one as left out, except in the folder of a certain name."""
        for inside in (inside for inside in self.folders(folder) if inside.name != but):
            names = (name.lower() for _, _, names in os.walk(inside) for name in names if not name.startswith("."))
            if count := sum(name.endswith(self._endings) for name in names):
                self._below[self._named(inside)] = count

    def holds_outputs(self, folder: Path) -> bool:
        """Whether something in a folder was left out so far, as this program wrote it."""
        return any(Path(name).is_relative_to(self._named(folder)) for name in self._outputs)

    def notes(self) -> list[str]:
        """What was left out, in sentences; nothing where nothing was."""
        notes = []
        if self._outputs:
            notes.append(f"left out, as vision-train wrote it: {first_named([*self._outputs])}")
        if self._pools:
            notes.append(f"left out, as data.unlabelled names it: {first_named([*self._pools])}")
        if self._hidden:
            inside = sum(self._hidden.values())
            held = f"; {inside:,} {self._noun} there" if inside else ""
            notes.append(f"left out, as hidden or a cache: {first_named([*self._hidden])}{held}")
        if self._again:
            notes.append(f"left out, as the same folder is listed already: {first_named([*self._again])}")
        if self._beside:
            notes.append(f"left out, as they lie in none of the folders beside them: {first_named([*self._beside])}")
        if self._below:
            named = first_named([f"{name} ({count:,})" for name, count in self._below.items()])
            notes.append(f"left out, as they lie in folders below: {self._noun} of {named}")
        if self._others:
            counted = ", ".join(f"{count:,} {ending}" for ending, count in self._others.most_common(5))
            rest = "" if len(self._others) <= 5 else f", {sum(self._others.values()):,} in all"
            notes.append(f"left out, as their endings are those of no {self._noun}: {printable(counted)}{rest}")
        return notes

    def _kept(self, folder: Path) -> Iterator[os.DirEntry[str]]:
        """Entries of a folder in order, without what is left out."""
        ours = written_names(folder)
        for entry in _entries(folder):
            place = folder / entry.name
            is_folder = _is_folder(entry)
            if entry.name.startswith(".") or (is_folder and _is_cache(place)):
                self._pass_by(entry, place)
            elif entry.name in ours or (is_folder and is_output(place)):
                self._outputs[self._named(place)] = None
            elif is_folder and self._pool is not None and place_of(place) == self._pool:
                self._pools[self._named(place)] = None
            else:
                yield entry

    def _pass_by(self, entry: os.DirEntry[str], place: Path) -> None:
        if entry.name == OUTPUT_MARK:
            return
        if _is_folder(entry):
            inside = (name.lower() for _, _, names in os.walk(place) for name in names)
            self._hidden[self._named(place)] = sum(name.endswith(self._endings) for name in inside)
        elif self._is_wanted(entry):
            self._hidden[self._named(place)] = 1

    def _is_wanted(self, entry: os.DirEntry[str]) -> bool:
        # A link that leads nowhere is named when it is read; devices and pipes would never end.
        return entry.name.lower().endswith(self._endings) and (_leads_nowhere(entry) or entry.is_file())

    def _named(self, place: Path) -> str:
        return str(place.relative_to(self._root)) if place.is_relative_to(self._root) else str(place)


def refuse_output(path: Path) -> None:
    """Refuse to read what this program wrote.

    Raises:
        UserError: The file or folder, or a folder around it, is a run, a study or a picture.
    """
    place = path.absolute()
    around = next((folder for folder in (place, *place.parents) if is_output(folder)), None)
    if around is None and place.name in written_names(place.parent):
        around = place.parent
    if around is not None:
        within = "" if around == place else f" lies in {printable(str(around))}, which"
        raise UserError(
            f"{printable(str(path))}:{within} is what vision-train wrote, and no data; name files of your own, or copy "
            f"what you want to use to another folder (without {OUTPUT_MARK})"
        )


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise UserError(f"{printable(str(folder))}: cannot be listed ({error.strerror})") from error


def _is_cache(folder: Path) -> bool:
    return folder.name in CACHES or (folder / CACHE_TAG).is_file()


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return not _leads_nowhere(entry) and entry.is_dir()


def _leads_nowhere(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a link to nothing, or to itself."""
    return entry.is_symlink() and not Path(entry.path).exists()
