"""One share of the inputs of a prediction, its files, and the manifest that says what they are of."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vision_train import __version__
from vision_train.errors import UserError
from vision_train.files import escape_name, read_mapping, write_json
from vision_train.locks import alone
from vision_train.run.directory import RunDirectory

LARGEST = 100_000
"""More shards than this would be files of single images."""


@dataclass(frozen=True)
class Shard:
    """One of several shares that together hold every input once."""

    number: int
    """From 1 on."""
    of: int

    @classmethod
    def read(cls, text: str) -> Shard:
        """Read ``i/n``.

        Raises:
            UserError: It is no such share.
        """
        found = re.fullmatch(r"(\d{1,9})/(\d{1,9})", text)
        number, of = (int(part) for part in found.groups()) if found else (0, 0)
        if not 1 <= number <= of <= LARGEST:
            raise UserError(f"--shard {text}: write i/n with 1 <= i <= n <= {LARGEST:,}, such as 3/8")
        return cls(number, of)

    def takes(self, name: str) -> bool:
        """Whether an input is in this share: by its path as given alone, so that others may come and go."""
        digest = hashlib.sha256(name.encode("utf-8", "surrogateescape")).digest()
        return int.from_bytes(digest[:8], "big") % self.of == self.number - 1

    def place(self, out: Path) -> Path:
        """The file of this share of a table."""
        return out.with_name(f"{out.stem}-{self.number:05}-of-{self.of:05}{out.suffix}")


@dataclass(frozen=True)
class ShardFiles:
    """The table of a shard, and its manifest beside it."""

    shard: Shard
    out: Path
    """The table of this shard."""
    asked: dict[str, Any]
    """What makes two predictions the same."""

    @property
    def manifest(self) -> Path:
        """Says what the table is of, and whether it is whole."""
        return self.out.with_name(f"{self.out.name}.manifest.json")

    def finished(self) -> dict[str, Any] | None:
        """The manifest of a shard that is whole; None where there is none, or it was cut short.

        Raises:
            UserError: The manifest is damaged, or of another command or other weights.
        """
        if not self.manifest.exists():
            return None
        if not self.out.is_file():
            return None  # nothing is lost, whatever was asked for then
        remedy = "delete it and its table to predict this shard anew"
        found = read_mapping(self.manifest, remedy)
        differing = [key for key, value in self.asked.items() if found.get(key) != value]
        if differing:
            named = "; ".join(f"{key} was {found.get(key)}, is {self.asked[key]}" for key in differing)
            raise UserError(
                f"{self.manifest}: is of another prediction: {named}. Name another --out, or give --force to write "
                "over it"
            )
        if found.get("finished") is not True:
            return None
        if found.get("sha256") != _digest(self.out):
            raise UserError(
                f"{self.out}: has changed since it was finished, by {self.manifest.name}; restore it, or give --force "
                "to predict this shard anew"
            )
        return found

    @contextmanager
    def held(self) -> Iterator[None]:
        """Keep other processes from this shard meanwhile, and clear what one that was killed has left.

        Raises:
            UserError: Another process is at it.
        """
        lock = self.out.with_name(f".{self.out.name}.lock")
        self.out.parent.mkdir(parents=True, exist_ok=True)
        with alone(lock, f"{self.out}: another process predicts this shard; wait until it ends"):
            for left in self.out.parent.glob(f".{self.out.name}.*.tmp"):
                left.unlink(missing_ok=True)
            yield

    def begin(self) -> None:
        """Say that the shard is begun."""
        self._write(finished=False)

    def finish(self, predictions: int, skipped: int) -> None:
        """Say that the table is whole, once it is."""
        self._write(finished=True, predictions=predictions, skipped=skipped, sha256=_digest(self.out))

    def _write(self, **state: Any) -> None:
        write_json(self.manifest, {"vision_train": __version__, "out": self.out.name, **self.asked, **state})


def files_of(
    shard: Shard, out: Path, directory: RunDirectory, inputs: Sequence[Path], keys: Sequence[str]
) -> ShardFiles:
    """The files of a shard of a prediction.

    Args:
        shard: Which share.
        out: The table as asked for, without the number of the shard.
        directory: The run that predicts.
        inputs: As typed.
        keys: Recipe keys that are changed.
    """
    asked = {
        "run": str(directory.path),
        "weights": _digest(directory.best),
        "inputs": [escape_name(str(each)) for each in inputs],
        "contents": [_content(each) for each in inputs],
        "keys": list(keys),
        "shard": shard.number,
        "of": shard.of,
    }
    return ShardFiles(shard, shard.place(out), asked)


def _content(place: Path) -> str | None:
    """What a list or an image holds; None for a folder, whose files may be too many to be listed once more."""
    return _digest(place)[:12] if place.is_file() else None


def _digest(file: Path) -> str:
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
