"""A picture for each predicted image."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vision_train.files import as_file_name, mark_output, write_bytes
from vision_train.previews import Pixels
from vision_train.report.fonts import remarks_on_glyphs

Draw = Callable[[Pixels, str, Any], Image.Image]
"""Takes the original pixels (H W 3), a title and what a task says is to be drawn; makes the picture."""
Texts = Callable[[Any], Iterable[str]]
"""The texts that are drawn of what a task says."""


@contextmanager
def open_renderer(
    folder: Path, originals: Mapping[str, Callable[[], Pixels]], draw: Draw, texts: Texts
) -> Iterator[Renderer]:
    """Open a folder for pictures, which are drawn when it is closed, unless an exception closes it.

    Args:
        folder: Made if absent.
        originals: Every image that may be added, by id -> a function that reads its pixels, H W 3.
        draw: Makes a picture, unless a task draws on the pixels itself.
        texts: What of it is text.
    """
    renderer = Renderer(folder, originals, draw, texts)
    yield renderer
    renderer.draw()


class Renderer:
    """Collects images and draws each into ``<number>-<name>.png``; the arguments are those of :func:`open_renderer`.

    Nothing is drawn before the last image has come, so that a prediction that fails leaves no pictures.
    """

    def __init__(self, folder: Path, originals: Mapping[str, Callable[[], Pixels]], draw: Draw, texts: Texts) -> None:
        self.folder, self.originals = folder, originals
        self._draw, self._texts = draw, texts
        self._drawings: dict[str, Any] = {}

    def add(self, name: str, drawing: Any) -> None:
        """Add one image: what its kind of data knows to draw, or what a task makes of its pixels."""
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
            self._picture(self.originals[name](), title, drawing).save(buffer, format="PNG")
            write_bytes(self.folder / file, buffer.getvalue())

    def _picture(self, original: Pixels, title: str, drawing: Any) -> Image.Image:
        if callable(drawing):
            return Image.fromarray(np.asarray(drawing(original)))
        return self._draw(original, title, drawing)

    def remarks(self) -> list[str]:
        """What to tell the user at the end: characters that could not be drawn."""
        drawn = {text for each in self._drawings.values() if not callable(each) for text in self._texts(each)}
        return remarks_on_glyphs([*drawn, *below_common_parent([*self._drawings])])


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
