"""What a round does to the weights that it starts from, before its first step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from vision_train.artefacts import Table
from vision_train.checkpoints import read_weights
from vision_train.recipe import Recipe
from vision_train.run.phase import Prepared, Scanned, build_task, prepare
from vision_train.run.plan import FinishedPhase, Reinitialisation
from vision_train.seeds import derive_seed
from vision_train.semi.reinitialise import Reinitialised, fresh_weights, reinitialise

KEY = "semi.rounds.reinitialise"


def begin_anew(prepared: Prepared, recipe: Recipe, how: Reinitialisation, finished: Sequence[FinishedPhase]) -> None:
    """Change the weights of a phase that is built, by the rules of its recipe, and keep a report of that.

    The optimiser is built later and knows nothing of the values before. What a tensor becomes depends on the run's seed
    and the number of the round alone.

    Args:
        prepared: The phase, with the weights of the one before.
        recipe: Its recipe as it was before these weights were named in it.
        how: Where other values come from.
        finished: The phases before it.

    Raises:
        UserError: A rule matches nothing that it could change.
    """
    rules = recipe.semi.rounds.reinitialise
    start = Scanned(recipe, prepared.data)
    sources: dict[str, Mapping[str, Tensor]] = {}
    if {"fresh", "shrink_perturb"} & {*rules.values()}:
        seed = derive_seed(recipe.seed, "reinitialisation", how.number)
        sources["fresh"] = fresh_weights(lambda: build_task(recipe, prepared.data.classes).network, seed)
    if "pretrained" in rules.values():
        sources["pretrained"] = _weights(start, how.pretrained, finished)
    if "burn_in" in rules.values():
        sources["burn_in"] = _weights(start, how.burnt_in or how.pretrained, finished)
    changed = reinitialise(prepared.task.network, rules, sources, KEY)
    prepared.artefacts.append(_table(changed))
    prepared.data.notes.append(f"{KEY}: {len(changed)} tensors begin otherwise than the phase before ended")


def _weights(start: Scanned, phase: str | None, finished: Sequence[FinishedPhase]) -> dict[str, Tensor]:
    """Weights of the network at the end of a phase, or those that the recipe starts from."""
    if phase is not None:
        return dict(read_weights(next(each.checkpoint for each in finished if each.name == phase)).state)
    notes = list(start.data.notes)
    begun = prepare(start).task.network.state_dict()
    start.data.notes[:] = notes  # they were told when the first phase began
    return dict(begun)


def _table(changed: Sequence[Reinitialised]) -> Table:
    columns = ["tensor", "action", "elements", "norm before", "norm after"]
    rows = [[e.name, e.action, e.elements, f"{e.norm_before:.4g}", f"{e.norm_after:.4g}"] for e in changed]
    return Table("reinitialised", "Tensors that begin anew", columns, rows)
