"""What a format of exported networks is."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from torch import Tensor

from vision_train.checkpoints import Weights
from vision_train.errors import UserError
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
class Format:
    """A format of files, or of folders, that hold a whole network."""

    suffix: str
    """The ending of the file; empty if the format is a folder."""
    packages: tuple[str, ...]
    """Packages that write and check it; the extra `export` installs them."""
    write: Callable[[Subject, Path], None]
    """Writes the file, or into the empty folder."""
    open: Callable[[Subject, Path], Runner]
    """What was written, as a function of inputs by name."""
    is_program: bool = False
    """Whether it holds a program of fixed steps."""
    is_timm: bool = False
    """Whether it names a model of timm."""
    library: str = ""
    """What hubs call the library that loads it; empty for ours."""
    use: str = ""
    """Python that loads it, with places for ``name`` of the file or folder, ``repository`` and ``call``."""

    def check_installed(self, name: str) -> None:
        """Refuse a format whose packages are not there.

        Raises:
            UserError: One is not installed.
        """
        if missing := [package for package in self.packages if importlib.util.find_spec(package) is None]:
            raise UserError(
                f"--format {name}: needs the package{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
                "pip install 'vision-train[export]'"
            )

    def check_suits(self, name: str, exported: Exported) -> None:
        """Refuse a network that the format cannot hold.

        Raises:
            UserError: It cannot, and which can.
        """
        if self.is_program and exported.not_traced:
            raise UserError(
                f"--format {name}: cannot hold {_network(exported)}, {exported.not_traced}. --format safetensors "
                "holds its weights"
            )
        if self.is_timm and exported.timm is None:
            raise UserError(
                f"--format {name}: cannot hold {_network(exported)}: {exported.not_timm}. --format safetensors "
                "holds its weights, and --format onnx the whole network where one can be made"
            )


def _network(exported: Exported) -> str:
    return f"the network of task={exported.card['task']}, model.name={exported.card['model']}"
