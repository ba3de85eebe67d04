"""What each arm would do, found out by building it: its samples, budget and effective learning rate."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from vision_train.artefacts import Metric
from vision_train.checkpoints import weights_files
from vision_train.data.sample import Sample, digest
from vision_train.errors import UserError
from vision_train.optim import learning_rate_factor
from vision_train.progress import doing
from vision_train.recipe import Recipe
from vision_train.run.checked import check_phases
from vision_train.run.learnt import learnt_before
from vision_train.run.log import logging_to
from vision_train.run.phase import Scanned
from vision_train.run.plan import LAST, plan_of
from vision_train.run.steps import count_steps
from vision_train.run.trainer import build_trainer
from vision_train.study.folds import Folds
from vision_train.study.plan import Plan


@dataclass(frozen=True)
class Phase:
    """One training phase of an arm in one cell of the grid."""

    name: str
    recipe: Recipe
    training_samples: int
    samples: str
    """Digest of the ids, places and truths of all samples that the recipe names."""
    weights: str
    """Digest of the file that ``model.checkpoint`` names, or of each of several; empty without one."""


def is_folded(phase: Phase) -> bool:
    """Whether what a phase learns from depends on the fold."""
    return _names_fold(phase.recipe)


@dataclass(frozen=True)
class ResolvedArm:
    """One arm in one cell of the grid, as it will be trained."""

    phases: tuple[Phase, ...]
    """Pre-training, each a run of its own, and last ``fit``, the recipe that was asked for, in one phase or many."""
    steps: int
    """Optimiser steps, those of pre-training aside."""
    learning_rate: float
    """Peak rate, scaled to the effective batch where the recipe asks for it."""
    classes: tuple[str, ...]
    test_samples: int
    test_digest: str
    """Digest of the ids, places and truths of the test samples."""
    metrics: tuple[Metric, ...]
    """What the task says of its metrics."""

    @property
    def recipe(self) -> Recipe:
        """The recipe that was asked for."""
        return self.phases[-1].recipe


ResolvedArms = list[list[ResolvedArm]]
"""``resolved[arm][cell]``."""


def resolve_arms(plan: Plan) -> ResolvedArms:
    """Build every arm once, with its first seed, so that what the user can mend is said before the first run.

    Of the other folds and their seeds the samples alone are listed and cut.

    Raises:
        UserError: An arm cannot be built, it is tested on what it learns from, or arms are not tested on the same
            samples and classes.
    """
    resolved: ResolvedArms = []
    folds = None if plan.folds is None else Folds(plan.draws)
    with doing("building every arm once", len(plan.arms) * len(plan.cells), "arms") as work:
        for arm in plan.arms:
            resolved.append([])
            for recipe in arm.recipes:
                resolved[-1].append(_build(arm.name, recipe, folds))
                work.advance()
    for cell in range(len(plan.cells)):
        first = resolved[0][cell]
        for arm, of_arm in zip(plan.arms[1:], resolved[1:], strict=True):
            _refuse_other_test(plan.arms[0].name, first, arm.name, of_arm[cell])
    return resolved


def _build(arm: str, recipe: Recipe, folds: Folds | None) -> ResolvedArm:
    try:
        plan = plan_of(recipe)
        checked = check_phases(plan)
        of_folds = {
            name: folds.check(scanned.recipe)
            for name, scanned in checked.scanned.items()
            if folds is not None and _names_fold(scanned.recipe)
        }
    except UserError as error:
        raise UserError(f"{arm}: {error}") from error
    _refuse_tests_learnt_before(arm, checked.scanned, of_folds.get(LAST))
    last = checked.scanned[LAST]
    # The last phase may train a part of what was asked for.
    asked = replace(recipe, data=last.recipe.data, augment=last.recipe.augment, model=last.recipe.model)
    runs = {phase.name: checked.scanned[phase.name] for phase in plan.phases if not phase.is_result}
    runs[LAST] = Scanned(asked, last.data)
    with logging_to(None):
        trainer = build_trainer(recipe, [])
        steps = count_steps(recipe, last.data, trainer)
    rate = recipe.optim.lr * learning_rate_factor(recipe.optim, steps.effective_batch)
    tested = last.data.samples("test")
    return ResolvedArm(
        phases=tuple(_phase(name, scanned) for name, scanned in runs.items()),
        steps=steps.total,
        learning_rate=rate,
        classes=tuple(last.data.classes),
        test_samples=len(tested),
        test_digest=digest(tested),
        metrics=tuple(checked.tasks[LAST].metrics),
    )


def _phase(name: str, scanned: Scanned) -> Phase:
    recipe = scanned.recipe
    # All that are there, not those that the first seed draws: another seed draws others.
    samples = digest(recipe.kind.load().all_samples(recipe))
    weights = " ".join(_digest_of_weights(Path(file)) for _, file in sorted(recipe.model.start.items()))
    return Phase(name, recipe, scanned.data.counts["train"], samples, weights)


def _digest_of_weights(path: Path) -> str:
    known = [(file, file.stat()) for file in weights_files(path).files]
    return "+".join(_digest_of_file(file, stat.st_mtime_ns, stat.st_size) for file, stat in known)


@cache
def _digest_of_file(file: Path, changed: int, size: int) -> str:
    """Arms often start from the same large file; ``changed`` and ``size`` are part of the key alone."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _names_fold(recipe: Recipe) -> bool:
    return getattr(recipe.data, "fold", None) is not None


def _refuse_tests_learnt_before(arm: str, scanned: dict[str, Scanned], of_folds: Sequence[Sample] | None) -> None:
    """Refuse an arm that starts from what has learnt from its test samples.

    Args:
        arm: Its name.
        scanned: Its phases.
        of_folds: What some fold tests; None without folds.
    """
    remedy = "divide them into the folders train, val and test, which every recipe respects, or pre-train on others"
    if of_folds is not None:
        remedy = "pre-train on others, or compare without --folds"
    tested = scanned[LAST].data.samples("test") if of_folds is None else of_folds
    for name, phase in scanned.items():
        left_out = phase.data.left_out
        if of_folds is not None and name != LAST and not _names_fold(phase.recipe):
            learnt_from = {sample.identity for sample in phase.data.samples("train")}
            left_out = [*left_out, *(sample for sample in tested if sample.identity in learnt_from)]
        if left_out:
            # An ordinary run leaves them out; here pre-training is a run of its own, which arms share.
            raise UserError(
                f"{arm}: {len(left_out)} samples that it is validated or tested on, such as {left_out[0].id}, are "
                f"samples of its phase {name} ({phase.recipe.name}), so it would be measured on what it learnt from; "
                f"{remedy}"
            )
        starts = [("model.checkpoint", file) for file in phase.recipe.model.start.values()]
        for key, file in [*starts, *(("semi.voters", run) for run in phase.recipe.semi.voting_runs)]:
            if learnt := learnt_before(tested, file)[0]:
                raise UserError(
                    f"{arm}: {len(learnt)} samples that it is tested on, such as {learnt[0].id}, are among those that "
                    f"{key}={file} learnt from; {remedy}"
                )


def _refuse_other_test(first_name: str, first: ResolvedArm, name: str, other: ResolvedArm) -> None:
    if other.classes != first.classes:
        raise UserError(
            f"{first_name} and {name}: have {len(first.classes)} and {len(other.classes)} classes, or classes of other "
            "names or in another order; arms are compared on one label map. Give both the same data.source, data.root, "
            "data.labels and data.classes"
        )
    if other.test_digest != first.test_digest:
        ours, theirs = first.recipe.data.identity(), other.recipe.data.identity()
        keys = [key for key in {**ours, **theirs} if ours.get(key) != theirs.get(key)]
        named = " and ".join(f"data.{key}" for key in keys) or "the data"
        raise UserError(
            f"{first_name} and {name}: are not tested on the same samples ({first.test_samples} and "
            f"{other.test_samples}); give both the same {named}"
        )
