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
from vision_train.files import as_file_name, mark_output, write_bytes
from vision_train.report.fonts import remarks_on_glyphs
from vision_train.report.images.predictions import render_prediction


@contextmanager
def open_renderer(folder: Path, originals: Mapping[str, Callable[[], Pixels]]) -> Iterator[Renderer]:
    """Open a folder for pictures; see :func:`vision_train.report.images.open_renderer`."""
    renderer = Renderer(folder, originals)
    yield renderer
    renderer.draw()


class Renderer:
    """Collects images and draws each into ``<number>-<name>.png``.

    Nothing is drawn before the last image has come, so that a prediction that fails leaves no pictures.

    Args:
        folder: Made if absent.
        originals: Every image that may be added, by id -> a function that reads its pixels, H W 3.
    """

    def __init__(self, folder: Path, originals: Mapping[str, Callable[[], Pixels]]) -> None:
        self.folder, self.originals = folder, originals
        self._drawings: dict[str, Drawing] = {}

    def add(self, name: str, drawing: Drawing) -> None:
        """Add one image: bars below it, or what a task makes of its pixels."""
        self._drawings[name] = drawing

    def draw(self) -> None:
        """Draw the images that were added."""
        is_new = not self.folder.exists()
        self.folder.mkdir(parents=True, exist_ok=True)
        titles = below_common_parent([*self._drawings])
        stems = (as_file_name(str(Path(title).with_suffix(""))) for title in titles)
        files = [f"{number:05d}-{stem}.png" for number, stem in enumerate(stems)]
        mark_output(self.folder, *([] if is_new else files))
        for file, title, (name, drawing) in zip(files, titles, self._drawings.items(), strict=True):
            buffer = io.BytesIO()
            _picture(self.originals[name](), title, drawing).save(buffer, format="PNG")
            write_bytes(self.folder / file, buffer.getvalue())

    def remarks(self) -> list[str]:
        """What to tell the user at the end: characters that could not be drawn."""
        drawn = [label for drawing in self._drawings.values() if isinstance(drawing, Bars) for label, _ in drawing.bars]
        return remarks_on_glyphs([*drawn, *below_common_parent([*self._drawings])])


def _picture(original: Pixels, title: str, drawing: Drawing) -> Image.Image:
    if isinstance(drawing, Bars):
        return render_prediction(Image.fromarray(original), title, drawing.bars)
    return Image.fromarray(np.asarray(drawing(original)))


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
