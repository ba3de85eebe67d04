"""The command line: ``vision-train VERB``. One small file a verb; nothing heavy is imported before a verb runs."""

from __future__ import annotations

import errno
import os
import signal
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from vision_train import __version__
from vision_train.cli.compare import compare
from vision_train.cli.console import write_anywhere
from vision_train.cli.data import data
from vision_train.cli.doctor import doctor
from vision_train.cli.evaluate import evaluate
from vision_train.cli.export import export
from vision_train.cli.fit import fit
from vision_train.cli.inspect import inspect
from vision_train.cli.new import new
from vision_train.cli.predict import predict
from vision_train.cli.preview import preview
from vision_train.cli.recipes import recipes
from vision_train.errors import UserError
from vision_train.locks import hold_for_life
from vision_train.processes import launched_rank
from vision_train.shadowing import check_shadowing
from vision_train.threads import prepare_environment


class Verbs(TyperGroup):
    """Gives every verb the same ending: 2 for what the user can mend, 130 for Ctrl-C, a traceback for our own bugs."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Let every text be printed: what the terminal's encoding lacks, as names of files may, is escaped."""
        write_anywhere(sys.stdout, sys.stderr)
        return super().main(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Run a verb."""
        try:
            prepare_environment()
            hold_for_life()
            check_shadowing()
            return super().invoke(ctx)
        except UserError as error:
            if error.shared and launched_rank():
                # The first process exits with 2. Lightning would kill it if it saw another one fail before.
                raise typer.Exit(0) from error
            process = f" (process {launched_rank()})" if launched_rank() else ""
            print(f"Error{process}: {error}", file=sys.stderr)
            raise typer.Exit(2) from error
        except OSError as error:
            if error.errno != errno.ENOSPC or error.filename is not None:
                raise
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123  # what is left to be written has no place
            print("Error: standard output cannot be written: no space left there; make room", file=sys.stderr)
            raise typer.Exit(2) from error
        except KeyboardInterrupt as error:
            if launched_rank() == 0:
                print("Interrupted.", file=sys.stderr)
            raise typer.Exit(130) from error


app = typer.Typer(
    name="vision-train",
    cls=Verbs,
    help="Train vision models from few labels, unlabelled images and an existing checkpoint.",
    epilog="Start with: vision-train fit quickstart",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in (new, fit, evaluate, predict, export, compare, preview, recipes, inspect, doctor):
    app.command()(verb)
app.add_typer(data, name="data")


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"vision-train {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: bool = typer.Option(False, "--version", callback=_print_version, is_eager=True, help="Show the version."),
) -> None:
    """Train vision models from few labels, unlabelled images and an existing checkpoint."""


def main() -> None:
    """Entry point of the ``vision-train`` command."""
    if sys.platform == "win32":
        # What a program sends to stop a group of processes, as compare does, ends them like Ctrl-C.
        signal.signal(signal.SIGBREAK, signal.default_int_handler)
    app()
