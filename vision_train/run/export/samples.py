"""Inputs made of samples of a run's own data, for the network that was written to be tried on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace

from vision_train.errors import UserError
from vision_train.recipe import Recipe
from vision_train.run.phase import scan
from vision_train.tasks.exported import Exported, Tensors
from vision_train.wording import count_of

COUNT = 4
"""Samples at most."""
SPLIT = "val"


@dataclass(frozen=True)
class Tried:
    """What a written network is tried on."""

    inputs: list[Tensors] = field(default_factory=list)
    """None where they have to be drawn."""
    words: str = ""
    """What they are, or why they have to be drawn."""


def own_samples(recipe: Recipe, classes: list[str], exported: Exported) -> Tried:
    """The first validation samples of a run, as far as its data are still there.

    Args:
        recipe: Of the run.
        classes: Its label map.
        exported: Says how inputs are made of them.
    """
    if exported.inputs_of is None:
        return Tried(words="drawn inputs: none can be made of the run's data")
    recipe = replace(recipe, data=replace(recipe.data, workers=0))
    try:
        data = scan(recipe, classes).data
        if not data.counts.get(SPLIT):
            return Tried(words=f"drawn inputs: the run has no {data.noun} for validation")
        made = (inputs for batch in data.split_loader(SPLIT) for inputs in exported.inputs_of(batch))
        found = list(_first(made, exported))
    except UserError as error:
        return Tried(words=f"drawn inputs: the run's data cannot be read ({error})")
    count = count_of(sum(map(exported.samples, found)), data.noun)
    return Tried(found, f"{count} of the run's validation")


def _first(made: Iterable[Tensors], exported: Exported) -> Iterator[Tensors]:
    """Inputs of so many samples, whether each holds one of them or several."""
    missing = COUNT
    for inputs in made:
        yield exported.first(inputs, missing)
        missing -= exported.samples(inputs)
        if missing < 1:
            return
