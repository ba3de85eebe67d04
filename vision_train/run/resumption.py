"""Whether a phase can go on where its last checkpoint stands: what was trained and what is there now are compared."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vision_train.errors import UserError
from vision_train.optim import build_optimizer, check_groups
from vision_train.recipe import Recipe, explain, load_recipe, recipe_of
from vision_train.recipe.catalogue import nearest_names
from vision_train.run.conditions import versions
from vision_train.run.differences import (
    SAMPLES,
    Difference,
    recipe_differences,
    sample_differences,
    version_differences,
)
from vision_train.run.directory import RunDirectory, relative
from vision_train.run.last_checkpoint import check_whole, damaged, last_checkpoint, read_last
from vision_train.run.phase import Prepared, Scanned
from vision_train.run.plan import LAST, Phase
from vision_train.run.sample_lists import SAMPLES_FILE, list_samples, read_samples
from vision_train.run.steps import count_steps, limits_of
from vision_train.run.trainer import build_trainer

STREAM_STATES = ({"streams"}, {"seed", "epoch", "cursor"})
"""Keys of the state of a data module, today's and that of earlier versions."""
MOST_TENSORS = 3
"""Tensors that a message names."""


def compare_with_checkpoint(
    directory: RunDirectory, phase: Phase, scanned: Scanned, accepted: Sequence[str]
) -> list[Difference]:
    """What differs between the last checkpoint of a phase and what it would go on with.

    Args:
        directory: The run.
        phase: A phase that has a last checkpoint.
        scanned: Its recipe and data as they are today.
        accepted: Keys, or sections of keys, that may differ.

    Raises:
        UserError: Something differs that was not accepted, or that no run can change; all differences are named.
    """
    checkpoint = _read(directory, phase)
    found = list(_differences(directory, phase, scanned, checkpoint))
    refused = [each for each in found if each.verdict == "refused"]
    asked = [each for each in found if each.verdict == "accept" and not _is_accepted(each.key, accepted)]
    if not refused and not asked:
        idle = [key for key in accepted if not any(_is_accepted(each.key, [key]) for each in found)]
        scanned.data.notes += [f"--accept {key}: nothing of this name has changed" for key in idle]
        return found
    place = relative(directory.path)
    lines = "".join(f"\n  {each}" for each in found)
    remedy = "put the old values back"
    if not refused:
        wanted = [*accepted, *(each.key for each in asked)]
        accept = [word for key in dict.fromkeys(wanted) for word in ("--accept", key)]
        remedy += f"; or go on all the same: {shlex.join(['vision-train', 'fit', '--resume', str(place), *accept])}"
    raise UserError(
        f"{place}: recipe, data or versions are not those of its last checkpoint:{lines}\nEither {remedy}; or start a "
        f"new run from these weights: {_new_run(directory, phase, scanned.recipe)}"
    )


def check_fits(directory: RunDirectory, phase: Phase, prepared: Prepared) -> None:
    """Refuse a checkpoint whose tensors or optimiser do not fit what has been built, before anything is loaded.

    Raises:
        UserError: They do not fit, or it lacks what this run keeps beside them.
    """
    checkpoint, task = _read(directory, phase), prepared.task
    file = last_checkpoint(directory, phase.name)
    check_whole(checkpoint, file, _own_entries(prepared))
    place = relative(directory.path)
    instead = f"Put the old values back, or start a new run: {_new_run(directory, phase, prepared.recipe)}"
    if unfit := _unfit(checkpoint["state_dict"], task):
        some = ", ".join(unfit[:MOST_TENSORS]) + (
            f" and {len(unfit) - MOST_TENSORS} more" * (len(unfit) > MOST_TENSORS)
        )
        raise UserError(
            f"{place}: the network of recipe.yaml is not that of the last checkpoint: {some}. {instead}; see "
            "model.name, model.args, model.positions, method and data.image_size"
        )
    try:
        optimizer = build_optimizer(
            task.network, prepared.recipe.optim, effective_batch=1, frozen_at_first=task.frozen_at_first
        )
        check_groups(optimizer, *checkpoint["optimizer_states"])
    except UserError as error:
        raise UserError(f"{place}: {error}. {instead}") from error
    if not (states := _states_of_streams(checkpoint)):
        raise damaged(file, ": it does not say where its streams of samples stand")
    try:
        for state in states:
            prepared.data.load_state_dict(state)
    except UserError as error:
        raise UserError(f"{place}: {error}. {instead}") from error


def _own_entries(prepared: Prepared) -> list[str]:
    """What a checkpoint holds besides, by the recipe of its run."""
    average = ["averaged", "callbacks.AverageWeights"] if prepared.recipe.optim.ema is not None else []
    return [*average, *(["teaching"] if prepared.task.teaching is not None else [])]


def _states_of_streams(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    """Where the streams of samples stand. Lightning keeps it under the name of a class, which versions may change."""
    return [value for value in checkpoint.values() if isinstance(value, dict) and value.keys() in STREAM_STATES]


def started_from(directory: RunDirectory, phase: Phase) -> str | dict[str, str] | None:
    """The ``model.checkpoint`` that a phase began with, as its last checkpoint says."""
    start: str | dict[str, str] | None = _read(directory, phase)["recipe"]["model"]["checkpoint"]
    return start


def _read(directory: RunDirectory, phase: Phase) -> dict[str, Any]:
    return read_last(last_checkpoint(directory, phase.name))


def check_accepted(accepted: Sequence[str]) -> None:
    """Refuse keys that do not exist: nothing could be accepted by them.

    Raises:
        UserError: One is no key or section of a recipe.
    """
    keys = {key.name: key.kind for key in explain()}
    known = {SAMPLES, *keys}
    for key in accepted:
        # A key that holds a mapping has others inside.
        inside = any(kind and key.startswith(f"{name}.") for name, kind in keys.items())
        if key not in known and not inside:
            several = "; give --accept once for each key" if "," in key else nearest_names(key, known)
            raise UserError(f"--accept {key}: is no key of a recipe{several}")


def _is_accepted(key: str, accepted: Sequence[str]) -> bool:
    return any(key == each or key.startswith(f"{each}.") for each in accepted)


def _new_run(directory: RunDirectory, phase: Phase, recipe: Recipe) -> str:
    folder = directory.phase(phase.name)
    file = directory.recipe if phase.name == LAST else folder / "recipe.yaml"
    # A mapping of parts gives way to one file only by way of null.
    apart = ["model.checkpoint=null"] if isinstance(recipe.model.checkpoint, dict) else []
    alone = ["run.pretrain=null"] if recipe.run.pretrain else []
    weights = relative(folder / "checkpoints" / "last.ckpt")
    return shlex.join(["vision-train", "fit", str(relative(file)), *apart, f"model.checkpoint={weights}", *alone])


def _differences(
    directory: RunDirectory, phase: Phase, scanned: Scanned, checkpoint: dict[str, Any]
) -> Iterator[Difference]:
    folder, kept = directory.phase(phase.name), checkpoint.get("conditions")
    then = recipe_of(checkpoint["recipe"], str(relative(folder / "checkpoints" / "last.ckpt")))
    # Of a phase that starts from another the plan sets it; an earlier version forgot it when it resumed.
    set_elsewhere = phase.start is not None or not kept
    now = _with_start_of(then, scanned.recipe) if set_elsewhere else scanned.recipe
    found = [_of_classes(each, now, checkpoint["classes"]) for each in recipe_differences(then, now)]
    yield from found
    if phase.name == LAST and (file := folder / "recipe.yaml").is_file():
        yield from _of_copy(file, then)
    if phase.is_result and checkpoint["classes"] != (classes := scanned.data.classes):
        was, became = (", ".join(names) for names in (checkpoint["classes"], classes))
        yield Difference("classes.json", was, became, "refused", "a label is a place in this list")
    if kept:
        yield from _of_samples(folder / SAMPLES_FILE, kept["samples"], scanned)
    yield from _of_progress(now, scanned, checkpoint, {each.key for each in found})
    if kept:
        yield from version_differences(kept["versions"], versions())
    else:
        yield Difference(
            "last.ckpt", "of an earlier version", "this one", "harmless", "it says no samples and versions"
        )


def _of_classes(found: Difference, now: Recipe, classes: Sequence[str]) -> Difference:
    """What naming the classes means: nothing where they are those of the label map, which a run keeps."""
    if found.key != "data.classes":
        return found
    if getattr(now.data, "classes", None) in (None, list(classes)):
        return replace(found, verdict="harmless", why="the label map stays that of classes.json")
    return replace(found, verdict="refused", why=f"the label map is {', '.join(classes)}, as in classes.json")


def _of_copy(file: Path, then: Recipe) -> Iterator[Difference]:
    """What was changed in a copy of the recipe, where it does not act."""
    unread = "that copy is not read; recipe.yaml of the run is"
    try:
        copy = _with_start_of(then, load_recipe(file, runnable=False))
    except UserError:
        yield Difference(str(relative(file)), "a recipe", "damaged", "harmless", unread)
        return
    for each in recipe_differences(then, copy):
        yield replace(each, key=f"{each.key} in {relative(file)}", verdict="harmless", why=unread)


def _of_samples(file: Path, then: dict[str, Any], scanned: Scanned) -> Iterator[Difference]:
    data, before = scanned.data, read_samples(file)
    if before is None:
        why = "samples are compared by their ids and truths as a whole, and it cannot be seen which were trained on"
        yield Difference(str(relative(file)), "a list of samples", "gone or damaged", "harmless", why)
    yield from sample_differences(
        then,
        before or {},
        list_samples(data),
        trained_on={stream.split for stream in data.streams.values()},
        allow_overlap=data.section.allow_overlap,
    )


def _with_start_of(then: Recipe, now: Recipe) -> Recipe:
    return replace(now, model=replace(now.model, checkpoint=then.model.checkpoint))


def _of_progress(now: Recipe, scanned: Scanned, checkpoint: dict[str, Any], changed: set[str]) -> Iterator[Difference]:
    """What the position of the checkpoint does not fit: steps of an epoch, the end of training, processes."""
    trainer = build_trainer(now, [])
    steps, kept = count_steps(now, scanned.data, trainer), checkpoint.get("conditions") or {}
    epochs, taken = checkpoint["epoch"] + 1, checkpoint["global_step"]
    processes = kept.get("processes", len(checkpoint["random_state"]))
    if processes != trainer.world_size and "trainer.devices" not in changed:
        yield Difference("trainer.devices", f"{processes} process(es)", f"{trainer.world_size}", "accept")
    then = kept.get("steps_per_epoch", -(-taken // epochs))
    if then != steps.per_epoch and not (limits_of(now)[1] and not kept):
        why = "the schedule and the order of the samples count them"
        yield Difference("steps of an epoch", f"{then}", f"{steps.per_epoch}", "refused", why)
    if taken > steps.total:
        key = "trainer.max_steps" if limits_of(now)[1] == steps.total else "trainer.max_epochs"
        reached, asked = f"{taken:,} steps in {epochs} epoch(s) taken", f"{steps.total:,} steps asked for"
        yield Difference(key, reached, asked, "refused", "training is past its end")


def _unfit(state: dict[str, torch.Tensor], task: nn.Module) -> list[str]:
    """Tensors that one of the two lacks or has in another shape."""
    own = task.state_dict()
    missing = [f"{name} is new" for name in own if name not in state]
    unknown = [f"{name} is gone" for name in state if name not in own]
    return [
        *missing,
        *unknown,
        *(
            f"{name} has the shape {tuple(own[name].shape)}, not {tuple(value.shape)}"
            for name, value in state.items()
            if name in own and own[name].shape != value.shape
        ),
    ]
