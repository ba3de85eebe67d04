"""``vision-train data``: small data sets to try things on, and the commands that each kind of data adds."""

from __future__ import annotations

import importlib
from typing import Any

import typer
from typer.core import TyperGroup

from vision_train.tasks import kinds_of_data


class KindVerbs(TyperGroup):
    """Asks the kinds of data for their commands when it is used, so that a broken package hinders no other verb."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands."""
        self._fill()
        return super().list_commands(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """The command of this name."""
        self._fill()
        return super().get_command(ctx, cmd_name)

    def _fill(self) -> None:
        if self.commands:
            return
        found = typer.Typer()
        make = typer.Typer(no_args_is_help=True, help="Write a small real data set to a folder.")
        found.add_typer(make, name="make")
        for kind in kinds_of_data():
            if kind.verbs is not None:
                importlib.import_module(kind.verbs).add_verbs(found, make)
        group: Any = typer.main.get_command(found)
        self.commands.update(group.commands)


data = typer.Typer(cls=KindVerbs, no_args_is_help=True)


@data.callback()
def options() -> None:
    """Make small data sets, and bring data into the formats recipes read."""
