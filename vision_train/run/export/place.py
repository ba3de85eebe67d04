"""Where an export goes: written beside its place first, and moved there once all of it holds."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from vision_train.errors import UserError
from vision_train.files import check_writable
from vision_train.run.predictions import folder_for

DESCRIPTION = "preprocessing.json"
"""What describes the network, in a folder."""
CARD = "README.md"
"""What hubs show of it, in a folder."""


@dataclass(frozen=True)
class Place:
    """A file with two others beside it, or a folder that holds all of them."""

    path: Path
    """The file or folder."""
    is_file: bool

    @classmethod
    def of(cls, out: Path | None, name: str, written_as: str, suffix: str) -> Place:
        """The place for a format.

        Args:
            out: What the user named; None puts it into the working directory.
            name: The name of the recipe.
            written_as: The name of the format.
            suffix: The ending of the file; empty if the format is a folder.

        Raises:
            UserError: The name does not suit the format.
        """
        path = out or Path(f"{name}{suffix}" if suffix else f"{name}-{written_as}")
        path = path.resolve() if path.name in ("", "..") else path  # what is written first lies beside it, by its name
        if suffix and path.suffix != suffix:
            raise UserError(f"--out {out}: does not end in {suffix}, as files of this format do")
        if suffix and path.is_dir():
            raise UserError(f"--out {path}: is a folder; name a file")
        if not suffix and path.exists() and not path.is_dir():
            raise UserError(f"--out {path}: is a file, and this format is a folder; name another place")
        return cls(path, bool(suffix))

    @property
    def description(self) -> Path:
        """The JSON file that says what goes in and what comes out."""
        return self.path.with_name(f"{self.path.name}.json") if self.is_file else self.path / DESCRIPTION

    @property
    def card(self) -> Path:
        """The model card."""
        return self.path.with_name(f"{self.path.name}.md") if self.is_file else self.path / CARD

    def check(self, *, force: bool) -> None:
        """Refuse a place that cannot be written, or that holds something.

        Args:
            force: Files that are there already are replaced.

        Raises:
            UserError: It is so.
        """
        check_writable(self.path.parent, "--out")
        there = [self.path, self.description, self.card] if self.is_file else [*self.path.glob("*")]
        found = [] if force else [file for file in there if file.exists()]
        if found and self.is_file:
            raise UserError(f"{found[0]}: is there already; name another place with --out, or replace it with --force")
        if found:
            raise UserError(
                f"{self.path}: holds {found[0].name} already; name another place with --out, or write beside what it "
                "holds with --force, which replaces files of the same name"
            )

    @contextmanager
    def staged(self) -> Iterator[Stage]:
        """A folder beside the place to write into; nothing of it is left."""
        folder = self.path.with_name(f".{self.path.name}.{os.getpid()}.tmp")
        with folder_for(self.path):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            try:
                yield Stage(self, folder)
            finally:
                shutil.rmtree(folder, ignore_errors=True)

    def in_repository(self, files: Sequence[Path]) -> list[tuple[str, Path]]:
        """Names that files of this place have in a repository, where the card is its README."""
        return [(CARD if file == self.card else file.name, file) for file in files]


@dataclass(frozen=True)
class Stage:
    """What is being written for a place."""

    place: Place
    folder: Path

    @property
    def content(self) -> Path:
        """The file, or the folder, that a format writes."""
        return self.folder / self.place.path.name if self.place.is_file else self.folder

    @property
    def description(self) -> Path:
        """The JSON file that describes it."""
        return self.folder / self.place.description.name

    @property
    def card(self) -> Path:
        """The model card."""
        return self.folder / self.place.card.name

    def keep(self) -> list[Path]:
        """Move the files to their place, over those of the same names; other files there stay.

        Returns:
            The files in their place.
        """
        target = self.place.path.parent if self.place.is_file else self.place.path
        target.mkdir(exist_ok=True)
        kept = []
        for file in sorted(self.folder.iterdir()):
            kept.append(file.replace(target / file.name))
        return kept
