"""What a format of exported networks is, as far as it decides what can be asked for; light, as verbs ask it first."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from vision_train.errors import UserError
from vision_train.tasks import is_of_timm, why_not_traced

if TYPE_CHECKING:
    from vision_train.recipe import Recipe
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

    def check_recipe(self, name: str, recipe: Recipe) -> None:
        """Refuse a network that the format cannot hold, as far as its recipe says so.

        Raises:
            UserError: It cannot, and which can.
        """
        if self.is_program and (reason := why_not_traced(recipe)):
            raise UserError(
                f"--format {name}: cannot hold {_network(recipe)}, {reason}. --format safetensors holds its weights"
            )
        if self.is_timm and not is_of_timm(recipe):
            raise _none_of_timm(name, recipe, "networks of this task are none of timm's")

    def check_suits(self, name: str, recipe: Recipe, exported: Exported) -> None:
        """Refuse a network that the format cannot hold for what only the network itself shows.

        Raises:
            UserError: It cannot, and which can.
        """
        if self.is_timm and exported.timm is None:
            raise _none_of_timm(name, recipe, exported.not_timm)


def _none_of_timm(name: str, recipe: Recipe, reason: str) -> UserError:
    return UserError(
        f"--format {name}: cannot hold {_network(recipe)}: {reason}. --format safetensors holds its weights, and "
        "--format onnx the whole network where one can be made"
    )


def _network(recipe: Recipe) -> str:
    return f"the network of task={recipe.task}, model.name={recipe.model.name}"
