"""Extension of the report for bags: it stores and draws where the network looks.

It imports the modules that store and draw when they are needed.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vision_train.artefacts import Artefact, Codec

if TYPE_CHECKING:
    from markupsafe import Markup

    from vision_train.report.bags.pictures import Renderer

HEADING = "Where the network looks"
"""Title of the section that holds the blocks."""


def block(artefact: Artefact) -> Markup | None:
    """Markup of an artefact; None if it is of another type."""
    from models.mil.attention_maps import AttentionMaps
    from vision_train.report.bags.attention_block import attention_block

    return attention_block(artefact) if isinstance(artefact, AttentionMaps) else None


def _write_maps(folder: Path, artefact: Any) -> dict[str, Any]:
    from vision_train.report.bags.storage import write_maps

    return write_maps(folder, artefact)


def _read_maps(folder: Path, body: dict[str, Any]) -> Artefact:
    from vision_train.report.bags.storage import read_maps

    return read_maps(folder, body)


CODECS = {"AttentionMaps": Codec(_write_maps, _read_maps)}
"""How the artefacts of bags are stored, by the names of their types."""


def open_renderer(folder: Path, **sources: Any) -> AbstractContextManager[Renderer]:
    """Open a folder for pictures of the attention; see :func:`vision_train.report.bags.pictures.open_renderer`."""
    from vision_train.report.bags.pictures import open_renderer as opened

    return opened(folder, **sources)
