"""Inputs of a prediction from Python: paths, or images in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from vision_train.api.loaded import picture_of
from vision_train.cli.arguments import refuse_absent
from vision_train.errors import UserError


@contextmanager
def as_files(inputs: Any) -> Iterator[tuple[list[Path], dict[str, int]]]:
    """Paths of the inputs; images in memory are written as PNG, which loses nothing, and read as all others are.

    Yields:
        The paths, and the place of each image in memory by its path.
    """
    several = [inputs] if isinstance(inputs, str | PathLike) or not isinstance(inputs, list | tuple) else list(inputs)
    if not several:
        raise UserError("there is nothing to predict on; give a path or an image, or a list of these")
    if all(isinstance(each, str | PathLike) for each in several):
        paths = [Path(each) for each in several]
        for path in paths:
            refuse_absent(path, "file or folder; name what is to be predicted on")
        yield paths, {}
        return
    if any(isinstance(each, str | PathLike) for each in several):
        raise UserError("some inputs are paths and others are images in memory; give one kind at a time")
    with TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{place:08d}.png" for place in range(len(several))]
        for path, image in zip(paths, several, strict=True):
            picture_of(image).save(path)
        yield paths, {str(path): place for place, path in enumerate(paths)}


def place_of(name: str, places: Mapping[str, int]) -> str | int:
    """The id of a sample by the place of its image in memory; another stays as it is."""
    file, number, text = name.rpartition("#")
    return places[name] if name in places else f"{places[file]}{number}{text}" if file in places else name
