"""What can be refused before the first step of a run: its phases, scanned and checked, and the first of them built."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from vision_train.errors import UserError
from vision_train.processes import launched_rank
from vision_train.run.directory import open_run
from vision_train.run.frozen import refuse_frozen_random
from vision_train.run.leakage import check_overlap, clear_pool, keep_apart
from vision_train.run.log import logging_to
from vision_train.run.parts import Parts
from vision_train.run.phase import Prepared, Scanned, check_later, prepare, scan
from vision_train.run.plan import (
    Phase,
    Plan,
)
from vision_train.run.reinitialisation import KEY as REINITIALISE
from vision_train.run.trainer import check_devices
from vision_train.semi.combine import CALIBRATED
from vision_train.semi.reinitialise import chosen_actions
from vision_train.semi.teacher import check_burn_in
from vision_train.tasks.base import Task


@dataclass
class CheckedPhases:
    """The phases of a plan that are known before the first step."""

    scanned: dict[str, Scanned]
    """Recipe and data of each, by name."""
    tasks: dict[str, Task] = field(default_factory=dict)
    """Their tasks, by name; those of later phases have no memory for their weights."""
    ready: dict[str, Prepared] = field(default_factory=dict)
    """The first phase, built, where it can begin as it stands; no other is built before its turn."""
    accepted: Sequence[str] = ()
    """Keys that may differ from those of the checkpoint with which a phase goes on."""


def check_phases(plan: Plan) -> CheckedPhases:
    """Scan the data of every known phase, build the first one, and check that each can start from the one before.

    Raises:
        UserError: The recipes, data, checkpoints or devices do not fit together.
    """
    phases = plan.known()
    with logging_to(None):
        checked = CheckedPhases({})
        for phase in phases:
            earlier = checked.scanned[phase.start].recipe if phase.start in checked.scanned else None
            checked.scanned[phase.name] = drawn(phase, scan(phase.recipe, earlier=earlier))
        keep_phases_apart(phases, checked.scanned)
        check_overlaps(checked.scanned.values())
        first = prepare(checked.scanned[phases[0].name])
        check_beginning(first)
        check_asked(phases[0], first)
        checked.tasks[phases[0].name] = first.task
        if phases[0].labels is None and phases[0].reinitialise is None:
            checked.ready[phases[0].name] = first
        for phase in phases[1:]:
            # A phase that is not known yet is checked when its turn comes.
            start = checked.tasks.get(phase.start) if phase.start else None
            checked.tasks[phase.name] = check_later(checked.scanned[phase.name], start)
        for phase in phases:
            check_round(phase, checked.tasks[phase.name])
        _check_parts(plan, checked)
        for name, task in checked.tasks.items():
            check_devices(checked.scanned[name].recipe, checked.scanned[name].data, task)
    return checked


def _check_parts(plan: Plan, checked: CheckedPhases) -> None:
    """Refuse now what a part of a run would refuse after the hours that the run itself takes.

    Raises:
        UserError: A part cannot be trained.
    """
    if not isinstance(plan, Parts):
        return
    tasks, classes = dict(checked.tasks), checked.scanned[plan.known()[-1].name].data.classes
    for phase in (phase for part in plan.foreseen for phase in plan.phases_foreseen(part)):
        earlier = checked.scanned[phase.start].recipe if phase.start in checked.scanned else None
        try:
            scanned = scan(phase.recipe, classes if phase.is_result else None, earlier=earlier)
            tasks[phase.name] = check_later(scanned, tasks.get(phase.start) if phase.start else None)
            check_round(phase, tasks[phase.name])
        except UserError as error:
            raise UserError(f"{phase.title}: {error}") from error


def check_beginning(prepared: Prepared) -> None:
    """Refuse a phase that begins with weights from which its task could learn nothing; one that goes on has learnt.

    Raises:
        UserError: The task refuses them.
    """
    refuse_frozen_random(prepared.task, prepared.load_reports)
    counts = prepared.data.class_counts.values()
    prepared.task.check_start(prepared.load_reports, sum(of_class.get("train", 0) for of_class in counts))


def check_asked(phase: Phase, prepared: Prepared) -> None:
    """Refuse a first phase whose start is to label the pool and never saw the classes, or whose voters are no runs.

    Raises:
        UserError: It knows other classes, or a voter has no weights.
    """
    for run in phase.labels.runs if phase.labels else ():
        try:
            open_run(Path(run), with_weights=True)
        except UserError as error:
            raise UserError(f"semi.voters: {error}") from error
    if phase.labels is None or phase.labels.voters or phase.labels.runs:
        return
    try:
        check_burn_in(0, prepared.task.start)
    except ValueError as error:
        raise UserError(f"semi.burn_in=0: {error}") from error


def check_round(phase: Phase, task: Task) -> None:
    """Refuse now what a round would refuse once the phases before it are trained.

    Args:
        phase: Any phase; those that are no rounds pass.
        task: Its task, which may be on the meta device.

    Raises:
        UserError: A score is asked for that the network or the views cannot give, or a rule matches nothing that it
            could change.
    """
    if phase.labels is not None and phase.labels.round:
        scores = task.score_weights()
        if scores.get("robustness") and not task.recipe.semi.views:
            raise UserError(
                f"semi.views=0: samples are selected by {' and '.join(scores)}, and robustness compares views; set it "
                "to 1 or more, or name other scores with semi.rounds.scores"
            )
        if task.recipe.semi.rounds.scores == CALIBRATED and not task.label_metric:
            raise UserError(
                f"semi.rounds.scores={CALIBRATED}: task={task.recipe.task} holds no labels against validation samples, "
                "by which scores would be weighed; set it to default"
            )
    if phase.reinitialise is not None:
        chosen_actions(task.network, task.recipe.semi.rounds.reinitialise, REINITIALISE)


def check_overlaps(scanned: Iterable[Scanned]) -> None:
    """Look for copies among the splits of each phase."""
    if launched_rank() == 0:  # those that it starts need not look again
        for each in scanned:
            check_overlap(each.data)


def keep_phases_apart(phases: list[Phase], scanned: dict[str, Scanned]) -> None:
    """Keep what a result is measured on out of its unlabelled samples, and of what the phases before it learn from."""
    for each in scanned.values():
        clear_pool(each.data)
    for phase in phases:
        if not phase.is_result:
            keep_apart(scanned[phase.name].data, scanned[phases[-1].name].data)


def drawn(phase: Phase, scanned: Scanned) -> Scanned:
    """Samples that the recipe's seed drew, for a phase that is trained with a seed of its own."""
    if phase.seed is None:
        return scanned
    scanned.data.seed = phase.seed
    return Scanned(replace(scanned.recipe, seed=phase.seed), scanned.data)
