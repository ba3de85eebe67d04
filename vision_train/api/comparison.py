"""Comparing recipes from Python."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from vision_train.api.overrides import Overrides, as_typed
from vision_train.cli.console import console_for, loading
from vision_train.errors import UserError
from vision_train.files import check_writable
from vision_train.progress import shown_on
from vision_train.threads import prepare_environment

TEMPLATES = "vision_train.api"
"""Package in whose folder ``templates`` lies what notebooks show."""


@dataclass(frozen=True)
class Comparison:
    """A finished study."""

    path: Path
    """Its folder."""
    verdicts: list[str]
    """What it came to, a sentence for each recipe against the first."""

    @property
    def report(self) -> Path:
        """The page with its tables and pictures."""
        return self.path / "compare.html"

    @property
    def table(self) -> dict[str, Any]:
        """All figures, as in its ``table.json``."""
        table: dict[str, Any] = json.loads((self.path / "table.json").read_text(encoding="utf-8"))
        return table

    def _repr_html_(self) -> str:
        from vision_train.report.rendering import render

        return render("comparison.html", TEMPLATES, verdicts=self.verdicts, page=self.report)


def compare(
    recipes: Sequence[str | PathLike[str]],
    overrides: Overrides | None = None,
    *,
    seeds: int | None = None,
    folds: int | None = None,
    grid: str | None = None,
    out: str | PathLike[str] = "study",
    jobs: int = 1,
    quiet: bool = False,
) -> Comparison:
    """Train recipes with the same seeds and say which is better, by how much, and how sure that is.

    Each run is a process of its own. Called again after it was stopped, it goes on.

    Args:
        recipes: Names of built-in recipes or files, the first of which the others are compared with.
        overrides: Keys to change in all of them.
        seeds: Runs of each recipe, with the seeds 0, 1, 2, ..., or divisions into folds; None takes 10, and a single
            one with ``folds``.
        folds: Cross-validation with so many folds, each of which is tested on once a seed.
        grid: ``KEY=a,b,c`` compares at each of these values.
        out: Folder of the study.
        jobs: Runs at a time.
        quiet: Print nothing.

    Raises:
        UserError: Recipes cannot be compared, or runs failed; those that did not are kept.
    """
    from vision_train.run.places import check_places
    from vision_train.study.plan import make_plan

    if isinstance(recipes, str | PathLike):
        raise UserError(f"{recipes}: is one recipe; give a list of two or more")
    prepare_environment()
    arguments, folder = [*(fspath(recipe) for recipe in recipes), *as_typed(overrides)], Path(out)
    if jobs < 1:
        raise UserError(f"--jobs {jobs}: must be at least 1")
    plan = make_plan(arguments, seeds, grid, folds)
    check_writable(folder, "--out")
    for of_arm in (each for arm in plan.arms for each in arm.recipes):
        check_places(of_arm)
    typed = ["vision-train", "compare", *arguments, "--seeds", str(plan.seeds)]
    typed += ["--folds", str(folds)] if folds else []
    typed += ["--grid", grid] if grid else []
    command = shlex.join([*typed, "--out", fspath(out), "--jobs", str(jobs)])
    console = console_for(quiet=quiet)
    with shown_on(console):
        with loading(f"compare {' '.join(arm.name for arm in plan.arms)}", shared=True):
            from vision_train.study.conduct import conduct
            from vision_train.study.writing import verdicts

        result = conduct(plan, folder, jobs=jobs, command=command, console=console)
    return Comparison(folder, verdicts(result))
