"""``vision-train compare``: which recipe is better on these data, and is it luck."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from vision_train.errors import UserError
from vision_train.files import check_writable


def compare(
    arguments: Annotated[
        list[str],
        typer.Argument(
            metavar="RECIPE RECIPE... [KEY=VALUE]...",
            help="Two recipes or more, the first of which the others are compared with; and recipe keys to change in "
            "all of them. These reach the recipes named here, not those that they pre-train with (run.pretrain).",
        ),
    ],
    seeds: Annotated[
        int | None,
        typer.Option(
            help="Runs of each recipe, with the seeds 0, 1, 2, ...; with --folds, divisions into folds.",
            show_default="10; 1 with --folds",
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            help="K-fold cross-validation: each sample is tested once a seed. Groups stay together, classes are in "
            "like shares in every fold.",
        ),
    ] = None,
    grid: Annotated[
        str | None,
        typer.Option(
            metavar="KEY=A,B,C",
            help="Compare at each of these values of a key; like KEY=VALUE it does not reach run.pretrain.",
        ),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the study; one of the same study goes on.")] = Path("study"),
    jobs: Annotated[int, typer.Option(help="Runs at a time.")] = 1,
    emit: Annotated[
        bool,
        typer.Option(
            "--emit", help="Train nothing: print one command a run, for any scheduler, with what has to come first."
        ),
    ] = False,
    collect: Annotated[
        bool,
        typer.Option(
            "--collect", help="Train nothing: judge what was trained elsewhere by --emit, and name what is missing."
        ),
    ] = False,
) -> None:
    """Train recipes with the same seeds and say which is better, by how much, and how sure that is.

    Stopped at any moment, the same command goes on. More seeds and recipes are added to a study; recipes in another
    order, or some of them, read it against another first one without training anything anew.

    For example:

      vision-train compare quickstart mine.yaml --seeds 10 data.labels_per_class=10

      vision-train compare quickstart mine.yaml --folds 5

      vision-train compare quickstart mine.yaml --seeds 5 --emit > commands.txt

      vision-train compare scratch.yaml pretrained.yaml --seeds 5 --grid data.labels_per_class=5,10,20 --out few
    """
    from vision_train.cli.console import loading, plain_console
    from vision_train.progress import shown_on
    from vision_train.run.places import check_places
    from vision_train.study.begun import refuse_folder
    from vision_train.study.plan import make_plan

    if emit and collect:
        raise UserError("--emit gives the commands and --collect reads what they left; give one of them")
    if collect and not (out / "study.json").is_file():
        raise UserError(f"--out {out}: holds no study; give the command of --emit with --collect in its place")
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1")
    plan = make_plan(arguments, seeds, grid, folds)
    check_writable(out, "--out")
    refuse_folder(out.absolute(), plan)
    for recipe in (recipe for arm in plan.arms for recipe in arm.recipes):
        check_places(recipe)
    console = plain_console(stderr=emit)
    with shown_on(console):
        with loading(f"compare {' '.join(arm.name for arm in plan.arms)}"):
            from vision_train.study.conduct import conduct
            from vision_train.study.conduct import emit as commands_of

        typed = [word for word in sys.argv[1:] if word not in ("--emit", "--collect")]
        command = shlex.join(["vision-train", *typed])
        if emit:
            for line in commands_of(plan, out, command=command, console=console):
                print(line)
        else:
            conduct(plan, out, jobs=jobs, command=command, console=console, collected=collect)
