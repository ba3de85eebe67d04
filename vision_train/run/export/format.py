"""What a format of exported networks is, as far as it decides what can be asked for; light, as verbs ask it first."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from vision_train.errors import UserError

if TYPE_CHECKING:
    from vision_train.run.export.codec import Codec
    from vision_train.tasks.exported import Exported


@dataclass(frozen=True)
class Format:
    """A format of files, or of folders, that hold a whole network."""

    suffix: str
    """The ending of the file; empty if the format is a folder."""
    packages: tuple[str, ...]
    """Packages that write and check it; the extra `export` installs them."""
    codec: str
    """Its :class:`vision_train.run.export.codec.Codec`, as ``module:name``; imported late."""
    is_program: bool = False
    """Whether it holds a program of fixed steps."""
    is_timm: bool = False
    """Whether it names a model of timm."""

    def load(self) -> Codec:
        """Import what writes and opens it."""
        module, _, name = self.codec.partition(":")
        return cast("Codec", getattr(importlib.import_module(module), name))

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
