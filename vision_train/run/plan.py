"""Which phases a run trains, one after another, and what can be said of them before the first step."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from vision_train.errors import UserError
from vision_train.metrics_log import part_of
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.directory import RunDirectory
from vision_train.run.trainer import HARDWARE

LAST = "fit"
"""Name of the phase that trains the recipe itself, or the last part of it."""
PRETRAIN = "pretrain"
"""How the names of phases begin that train what ``run.pretrain`` names."""


@dataclass(frozen=True)
class Labelling:
    """Labels that the pool gets before a phase, by weights that exist then."""

    voters: tuple[str, ...]
    """Names of finished phases whose best weights are asked; none for the weights that the phase itself starts from."""
    runs: tuple[str, ...] = ()
    """Finished runs that are asked instead."""
    round: int = 0
    """Number of the round that selects by scores; 0 takes what is voted."""
    earlier: str | None = None
    """Name of the round before, where what that has taken stays."""


@dataclass(frozen=True)
class Reinitialisation:
    """What a phase does to the weights that it starts from, by the rules of its recipe."""

    number: int
    """Number of the round; fresh values are drawn with it."""
    burnt_in: str | None
    """Name of the phase whose best weights are those of burn-in; None for the weights that training starts from."""
    pretrained: str | None
    """Name of the phase whose best weights training starts from; None for what the recipe names."""


@dataclass(frozen=True)
class Phase:
    """One training under a Trainer of its own."""

    name: str
    recipe: Recipe
    start: str | None = None
    """Name of the finished phase whose best weights it starts from; None for what the recipe names."""
    is_result: bool = True
    """Whether its weights are a result of the run, or of its part. Those of pre-training are not: another phase starts
    from them."""
    labels: Labelling | None = None
    """Pseudo-labels that it learns from, made when its turn comes."""
    reinitialise: Reinitialisation | None = None
    """What becomes of its weights before the first step."""
    seed: int | None = None
    """Seed of its training, where that is not the recipe's; the recipe's draws the samples all the same."""
    title: str = ""
    """What is said as it begins; by default its name."""

    @property
    def part(self) -> str:
        """The part of the run that it belongs to; empty for the run itself, whose weights and figures a user gets."""
        return part_of(self.name)

    def renamed(self, rename: Callable[[str], str]) -> Phase:
        """The phase with other names for itself and for the phases that it takes weights of."""
        labels, again = self.labels, self.reinitialise
        if labels is not None:
            earlier = labels.earlier and rename(labels.earlier)
            labels = replace(labels, voters=tuple(rename(name) for name in labels.voters), earlier=earlier)
        if again is not None:
            burnt_in, pretrained = (name and rename(name) for name in (again.burnt_in, again.pretrained))
            again = replace(again, burnt_in=burnt_in, pretrained=pretrained)
        start = self.start and rename(self.start)
        return replace(self, name=rename(self.name), start=start, labels=labels, reinitialise=again)


@dataclass(frozen=True)
class FinishedPhase:
    """What a phase has left in ``phases/<name>/``."""

    name: str
    folder: Path
    figures: dict[str, float | int] = field(default_factory=dict)
    """Flat figures, as in ``summary.json``."""
    skipped: list[str] = field(default_factory=list)
    """Samples that could not be read, with the reasons."""
    guesses: bool = False
    """Whether its result could be that of guessing; False in runs of versions that did not ask."""
    warnings: list[str] = field(default_factory=list)
    """What it warned of, in sentences without a full stop; none in runs of versions that kept none."""

    @property
    def part(self) -> str:
        """The part of the run that it belongs to; empty for the run itself."""
        return part_of(self.name)

    @property
    def checkpoint(self) -> Path:
        """Weights of its best epoch. Those of a part are gone once that is measured."""
        return self.folder / "checkpoints" / "best.ckpt"


class Plan(Protocol):
    """Decides what a run trains next."""

    def known(self) -> list[Phase]:
        """The phases that are certain before the first step, in order; the last of them is a result."""

    def next(self, finished: Sequence[FinishedPhase]) -> Phase | None:
        """The phase that follows, or None at the end.

        It depends on nothing but the plan and ``finished``, so that a resumed run asks the same questions.
        """


MakePlan = Callable[[Recipe, Mapping[str, Recipe]], Plan]
"""Makes the plan of a recipe; the mapping has the recipes of phases that the run directory keeps already."""


@dataclass(frozen=True)
class Chain:
    """Phases whose number and length are known from the start."""

    phases: tuple[Phase, ...]

    def known(self) -> list[Phase]:
        """The first and the last, and those between them whose data nobody labels before their turn comes."""
        first, last = self.phases[0], self.phases[-1]
        return [phase for phase in self.phases[:-1] if phase is first or phase.labels is None] + [last]

    def next(self, finished: Sequence[FinishedPhase]) -> Phase | None:
        """The first one that is not finished."""
        return self.phases[len(finished)] if len(finished) < len(self.phases) else None


def plan_of(recipe: Recipe, stored: Mapping[str, Recipe] | None = None) -> Chain:
    """The recipe, behind what its ``run.pretrain`` names, and before that what that one names.

    Every phase takes the seed and the hardware of the recipe that was asked for, and its samples where an earlier phase
    names none of its own.

    Args:
        recipe: The recipe that was asked for.
        stored: Recipes of the phases of a run that has begun, by name: a recipe that was edited or moved since changes
            nothing.

    Raises:
        UserError: The recipes pre-train one another in a circle, or one is to start from a checkpoint as well.
    """
    # A run that was killed while it wrote the recipes has no last one; its plan is made anew.
    kept = stored if stored and LAST in stored else {}
    numbered = sorted(kept.items(), key=lambda item: (len(item[0]), item[0]))
    earlier = [each for name, each in numbered if name.startswith(PRETRAIN)]
    chain = [*earlier, recipe] if kept else _pretraining_of(recipe)
    names = [PRETRAIN] if len(chain) == 2 else [f"{PRETRAIN}-{index + 1}" for index in range(len(chain) - 1)]
    starts = [None, *names]
    phases = [
        Phase(name, each, start, is_result=name == LAST)
        for name, each, start in zip([*names, LAST], chain, starts, strict=True)
    ]
    if recipe.semi.in_phases:
        from vision_train.run.rounds import divided  # which is made of phases

        phases[-1:] = divided(phases[-1], kept)
    return Chain(tuple(phases))


def _pretraining_of(recipe: Recipe) -> list[Recipe]:
    chain, named = [recipe], set()
    while chain[0].run.pretrain:
        if chain[0].model.checkpoint:
            both = f"model.checkpoint={chain[0].model.checkpoint} and run.pretrain={chain[0].run.pretrain}"
            raise UserError(f"{both}: {chain[0].name} can start from one of them; set the other to null")
        if chain[0].run.pretrain in named:
            circle = " -> ".join(each.name for each in reversed(chain))
            raise UserError(
                f"run.pretrain={chain[0].run.pretrain}: recipes pre-train one another in a circle: {circle}"
            )
        named.add(chain[0].run.pretrain)
        earlier = load_recipe(chain[0].run.pretrain, runnable=False)
        if earlier.run.automatic:
            raise UserError(
                f"run.pretrain={chain[0].run.pretrain}: leaves {' and '.join(earlier.run.automatic)} to the machine, "
                "which only the recipe that is asked for may; set numbers there, or train it first and name its run as "
                "model.checkpoint"
            )
        hardware = {key: value for key, value in recipe.trainer.items() if key in HARDWARE}
        kept = {key: value for key, value in earlier.trainer.items() if key not in HARDWARE}
        data = earlier.data.with_samples_of(recipe.data) if any(earlier.data.unset()) else earlier.data
        chain.insert(0, replace(earlier, data=data, seed=recipe.seed, trainer={**kept, **hardware}))
    return chain


def stored_recipes(directory: RunDirectory) -> dict[str, Recipe]:
    """The recipes of the phases of the run itself that have begun, by name; the last one is that of the run."""
    begun = sorted(path.parent for path in directory.path.glob("phases/*/recipe.yaml"))
    folders = [folder for folder in begun if not part_of(folder.name)]
    files = {each.name: directory.recipe if each.name == LAST else each / "recipe.yaml" for each in folders}
    return {name: load_recipe(file, runnable=False) for name, file in files.items()}


def read_finished(directory: RunDirectory, name: str) -> FinishedPhase | None:
    """A phase as it was left; None where it is not finished, or its figures are damaged and have to be made again."""
    folder = directory.phase(name)
    try:
        content = json.loads((folder / "phase.json").read_text(encoding="utf-8"))
        figures = {key: math.nan if value is None else value for key, value in content["figures"].items()}
        guesses, warnings = bool(content.get("guesses")), [str(text) for text in content.get("warnings", [])]
        return FinishedPhase(name, folder, figures, content["skipped"], guesses, warnings)
    except (FileNotFoundError, ValueError, LookupError, TypeError, AttributeError):
        return None


def summed(finished: Sequence[FinishedPhase]) -> dict[str, float | int]:
    """What all phases of a run took together."""
    return {
        f"run/{key}": sum(phase.figures[f"train/{key}"] for phase in finished)
        for key in ("steps", "samples", "seconds")
    }
