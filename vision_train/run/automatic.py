"""Values that a recipe leaves to the machine (`run.automatic`), found before the first step of a run."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vision_train.artefacts import Artefact
from vision_train.errors import UserError
from vision_train.processes import launched_rank
from vision_train.recipe import Recipe, load_recipe
from vision_train.run.directory import PASSED_ON, RunDirectory
from vision_train.run.largest_batch import Tried, largest_batch
from vision_train.run.range_test import find_rate


@dataclass(frozen=True)
class Settled:
    """A recipe that leaves nothing open, and what was found."""

    recipe: Recipe
    notes: list[str] = field(default_factory=list)
    """What was chosen and why, in sentences."""
    artefacts: Sequence[Artefact] = ()
    """For the report."""


def settle_automatic(recipe: Recipe) -> Settled:
    """Find what a recipe leaves to the machine, by training for some steps in one process.

    A process that another one of the run has started takes what that has found.

    Raises:
        UserError: Nothing was found, training fails, or a launcher started several processes, or there are several
            machines, which would find different values.
    """
    if not recipe.run.automatic:
        return Settled(recipe)
    if launched_rank() > 0 and PASSED_ON in os.environ:
        kept = load_recipe(RunDirectory(Path(os.environ[PASSED_ON])).recipe, runnable=False)
        return Settled(_as_found(recipe, kept))
    _refuse_launched(recipe)
    # Weights matter to neither memory nor, as it is refused beside run.pretrain, to the rate.
    alone, notes, artefacts = replace(recipe, run=replace(recipe.run, pretrain=None, automatic=[])), [], []
    if "data.batch_size" in recipe.run.automatic:
        alone, tried = largest_batch(alone)
        notes.append(_batch_in_words(alone, tried))
    if "optim.lr" in recipe.run.automatic:
        alone, test = find_rate(alone)
        notes.append(f"optim.lr=auto: {alone.optim.lr:g}, by a range test of {len(test.rates)} steps; {test.batch}")
        artefacts.append(test.curve())
    return Settled(replace(alone, run=replace(recipe.run, automatic=[])), notes, artefacts)


def _as_found(recipe: Recipe, kept: Recipe) -> Recipe:
    """A recipe with what another process has found, and with nothing else of what that has kept."""
    found = replace(recipe, run=replace(recipe.run, automatic=[]))
    if "data.batch_size" in recipe.run.automatic:
        trainer = {**recipe.trainer, "accumulate_grad_batches": kept.trainer["accumulate_grad_batches"]}
        found = replace(found, data=replace(recipe.data, batch_size=kept.data.batch_size), trainer=trainer)
    return replace(found, optim=kept.optim) if "optim.lr" in recipe.run.automatic else found


def _refuse_launched(recipe: Recipe) -> None:
    started = max(int(os.environ.get(name, "1")) for name in ("WORLD_SIZE", "SLURM_NTASKS"))
    # Without a launcher, Lightning starts the processes of its own machine; another machine knows nothing of them.
    if started > 1 or recipe.trainer.get("num_nodes", 1) > 1:
        who = f"{started} processes that a launcher started" if started > 1 else "the processes of several machines"
        raise UserError(
            f"run.automatic={recipe.run.automatic}: {who} would each find values of their own; find them in one "
            "process with --dry-run trainer.num_nodes=1, and set the keys to those"
        )


def _batch_in_words(recipe: Recipe, tried: list[Tried]) -> str:
    batch, parts = recipe.data.batch_size, recipe.trainer["accumulate_grad_batches"]
    said = f"data.batch_size=auto: {batch}"
    if parts > 1:
        said += f", of which {parts} are accumulated to {batch * parts}"
    took = next(each.bytes for each in reversed(tried) if each.batch == batch)
    assert took is not None
    said += f"; a step takes {took / 2**30:.2f} GiB"
    without = [each.batch for each in tried if each.bytes is None]
    return said + (f", and there is not enough memory for {without[0]}" if without else "")
