"""A picture for each predicted image."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from vision_train.artefacts import Bars, Drawing, Pixels
from vision_train.files import as_file_name, write_bytes
from vision_train.report.images.predictions import render_prediction


@contextmanager
def open_renderer(folder: Path, originals: Mapping[str, Callable[[], Pixels]]) -> Iterator[Renderer]:
    """Open a folder for pictures; see :func:`vision_train.report.images.open_renderer`."""
    folder.mkdir(parents=True, exist_ok=True)
    yield Renderer(folder, originals)


class Renderer:
    """Draws images as they come, each into ``<number>-<name>.png``.

    Args:
        folder: Exists.
        originals: Every image that may be added, by id -> a function that reads its pixels, H W 3.
    """

    def __init__(self, folder: Path, originals: Mapping[str, Callable[[], Pixels]]) -> None:
        self.folder, self.originals = folder, originals
        self._titles = dict(zip(originals, below_common_parent(list(originals)), strict=True))
        self._drawn = 0

    def add(self, name: str, drawing: Drawing) -> None:
        """Draw one image: bars below it, or what a task makes of its pixels."""
        title, original = self._titles[name], self.originals[name]()
        if isinstance(drawing, Bars):
            picture = render_prediction(Image.fromarray(original), title, drawing.bars)
        else:
            picture = Image.fromarray(np.asarray(drawing(original)))
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        file = f"{self._drawn:05d}-{as_file_name(str(Path(title).with_suffix('')))}.png"
        write_bytes(self.folder / file, buffer.getvalue())
        self._drawn += 1

    def remarks(self) -> list[str]:
        """What to tell the user at the end: every image has its picture."""
        return []


def below_common_parent(paths: Sequence[str]) -> list[str]:
    """Paths relative to the folder that holds all of them, so that their own folders are told where they differ."""
    if not paths:
        return []
    places = [Path(os.path.normpath(Path(path).absolute())) for path in paths]
    try:
        common = os.path.commonpath([place.parent for place in places])
    except ValueError:  # on different drives
        return list(map(str, places))
    return [str(place.relative_to(common)) for place in places]
