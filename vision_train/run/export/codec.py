"""How a format is written, and how what was written is run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vision_train.checkpoints import Weights
from vision_train.tasks.exported import Exported, Tensors


class Ran(NamedTuple):
    """What a written network made of inputs."""

    outputs: Tensors
    chosen: list[Tensor]
    """Indices that it took where it chose the best of a list, in the order of the program."""


Runner = Callable[[Tensors], Ran]


@dataclass(frozen=True)
class Subject:
    """What is exported."""

    exported: Exported
    """The network as its task gives it away."""
    weights: Weights
    """Its weights by our names."""
    rebuild: Callable[[Mapping[str, Tensor]], Exported]
    """From weights by our names to a new network that is filled with them."""


@dataclass(frozen=True)
class Codec:
    """Writes a format and opens what was written."""

    write: Callable[[Subject, Path], None]
    """Writes the file, or into the empty folder."""
    open: Callable[[Subject, Path], Runner]
    """What was written, as a function of inputs by name."""
    library: str = ""
    """What hubs call the library that loads it; empty for ours."""
    use: str = ""
    """Python that loads it, with places for ``name`` of the file or folder, ``repository`` and ``call``."""
