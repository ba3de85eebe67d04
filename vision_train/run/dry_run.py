"""What a recipe would do, found out by doing a little of it. Nothing is written."""

from __future__ import annotations

import time
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer
from torch import nn

from vision_train.checkpoints.settle import written
from vision_train.data.module import SampleDataModule
from vision_train.errors import UserError
from vision_train.optim import learning_rate_factor
from vision_train.progress import Work, doing, format_seconds
from vision_train.recipe import Recipe
from vision_train.recipe.optim_section import Optim
from vision_train.recipe.trainer_keys import AUTO
from vision_train.run.attention import attention_line
from vision_train.run.automatic import settle_automatic
from vision_train.run.checked import CheckedPhases, check_phases
from vision_train.run.log import logging_to
from vision_train.run.memory import peak_memory
from vision_train.run.parts import Parts
from vision_train.run.phase import Prepared, averaging, prepare, scan
from vision_train.run.plan import Chain, Phase, Plan
from vision_train.run.steps import TrainingSteps, batch_in_words, concerns, count_steps, steps_in_words
from vision_train.run.trainer import build_trainer, settle_precision, settle_threads
from vision_train.run.trial import learn_from_pool_at_once, try_steps
from vision_train.run.verdict import plan_run
from vision_train.semi.teacher import Start, burn_in_key, pool_in_words
from vision_train.tasks.base import Task

TIMED_STEPS = 4
"""Training steps: the first warms up and shows which parameters take part, the rest are timed."""
SHORT: dict[str, Any] = {
    **{"max_epochs": 1, "max_steps": -1, "limit_train_batches": TIMED_STEPS, "accumulate_grad_batches": 1},
    # Validate after these few steps, whatever interval the recipe has.
    **{"limit_val_batches": 2, "check_val_every_n_epoch": 1, "val_check_interval": 1.0},
}
"""Trainer keys of the trial."""


def dry_run(recipe: Recipe) -> str:
    """Build everything, train and validate for a moment, and say what the whole would be like.

    One process stands for all of them; the estimate assumes that the others keep pace. Phases that come first are tried
    out as well, each from random weights. Rounds between the first and the last are named with their lengths.

    Raises:
        UserError: As ``fit`` would, before it wrote anything.
    """
    asked = recipe.trainer.get("precision")
    recipe, precision = settle_precision(recipe)
    settle_threads(recipe)
    plan_run(recipe)  # what is wrong with it is said first
    found, automatic = settle_automatic(recipe), recipe.run.automatic
    recipe, plan = found.recipe, plan_run(found.recipe)
    checked = check_phases(plan)
    texts = {}
    with logging_to(None):
        for phase in plan.known():
            prepared = checked.ready.pop(phase.name, None) or prepare(checked.scanned[phase.name])
            texts[phase.name] = _try_out(prepared, phase, found_rate="optim.lr" in automatic)
        last = plan.known()[-1].name
        texts[last] += _alike(plan, checked.scanned[last].data)
        beside = _beside(plan, checked, recipe) if isinstance(plan, Parts) else []
    notes = [f"trainer.precision={precision.name}: {precision.because}"] if asked == AUTO else []
    notes += [f"note: {remark}" for remark in [*found.notes, *recipe.semi.notes]]
    if len(texts) == 1:
        return "\n".join([*notes, *texts.values(), *beside])
    return "\n\n".join([*notes, *(f"phase {name}\n{text}" for name, text in texts.items()), *beside])


def _alike(plan: Plan, data: SampleDataModule) -> str:
    """The phases that are not tried out since the pool is labelled before them, as a line; nothing where all are.

    Args:
        plan: Of the run.
        data: Of its last phase, which these are like.
    """
    own = plan.own if isinstance(plan, Parts) else plan
    known = {phase.name for phase in own.known()}
    others = [phase for phase in own.phases if phase.name not in known] if isinstance(own, Chain) else []
    if not others:
        return ""
    lengths = [count_steps(phase.recipe, data, build_trainer(phase.recipe, [])).total for phase in others]
    named = ", ".join(f"{phase.name} ({steps:,} steps)" for phase, steps in zip(others, lengths, strict=True))
    return f"\nbefore it, {len(others)} alike, each with new labels of the pool: {named}"


def _beside(plan: Parts, checked: CheckedPhases, recipe: Recipe) -> list[str]:
    """How many runs are trained beside the one that was asked for, each as long as that, and how long they take.

    Args:
        plan: Of the run.
        checked: Its own phases.
        recipe: As it was asked for.
    """
    steps = count_steps(recipe, checked.scanned[plan.known()[-1].name].data, build_trainer(recipe, []))
    said, runs, whole = [], 0, 0.0
    for part in plan.foreseen:
        seconds = part.times * _seconds_of_part(plan.phases_foreseen(part), checked, steps)
        said.append(f"{part.title}: {part.times} runs of {steps.total:,} steps, about {format_seconds(seconds)}")
        runs, whole = runs + part.times, whole + seconds
    return [*said, f"beside the run itself: {runs} runs, about {format_seconds(whole)} in all, starts and tests aside"]


def _seconds_of_part(phases: list[Phase], checked: CheckedPhases, steps: TrainingSteps) -> float:
    """How long a part takes: so many steps like those of its last phase, and what that is pre-trained on."""
    seconds = 0.0
    for phase in [*(each for each in phases if not each.is_result), phases[-1]]:
        earlier = checked.scanned.get(phase.start or "")
        prepared = prepare(scan(phase.recipe, earlier=earlier.recipe if earlier else None))
        length = steps
        if not phase.is_result:
            length = count_steps(phase.recipe, prepared.data, build_trainer(phase.recipe, []))
        seconds += _seconds(prepared, length, _watched(prepared, length))
    return seconds


def _try_out(prepared: Prepared, phase: Phase, *, found_rate: bool) -> str:
    """What a phase is like, in words."""
    recipe, full = prepared.recipe, build_trainer(prepared.recipe, [])
    steps = count_steps(recipe, prepared.data, full)
    watch = _watched(prepared, steps)
    lines = _describe(prepared, full, steps, watch, phase)
    width = max(len(name) for name in lines)
    below = "\n" + " " * (width + 2)
    described = [f"{name:<{width}}  {text}".replace("\n", below) for name, text in lines.items()]
    warnings = (f"warning: {text}" for text in concerns(recipe, prepared.data, full, steps, found_rate=found_rate))
    return "\n".join([*described, *warnings])


def _watched(prepared: Prepared, steps: TrainingSteps) -> _Watch:
    """Train and validate for a moment, as if for so many steps."""
    watch = _Watch()
    learn_from_pool_at_once(prepared)
    with doing("trying out a few steps", TIMED_STEPS + SHORT["limit_val_batches"], "batches") as watch.work:
        try_steps(prepared, steps, [watch, *averaging(prepared.recipe, steps)], **SHORT)
    return watch


def _seconds(prepared: Prepared, steps: TrainingSteps, watch: _Watch) -> float:
    """How long so many steps take, with their validations."""
    evaluations = prepared.data.evaluation_batches("val", build_trainer(prepared.recipe, []).world_size)
    epochs = steps.total / steps.per_epoch
    return epochs * (steps.batches * watch.step_seconds + evaluations * watch.validation_seconds)


def _describe(prepared: Prepared, full: Trainer, steps: TrainingSteps, watch: _Watch, phase: Phase) -> dict[str, str]:
    recipe, task, counts = prepared.recipe, prepared.task, prepared.data.counts
    rate = recipe.optim.lr * learning_rate_factor(recipe.optim, steps.effective_batch)
    as_written = f" ({recipe.optim.lr:g} as written)" if rate != recipe.optim.lr else ""
    start = f"the weights of phase {phase.start}" if phase.start else "none; starts from random weights"
    seconds = _seconds(prepared, steps, watch)
    return {
        "recipe": recipe.name,
        prepared.data.noun: ", ".join(f"{count:,} {split}" for split, count in counts.items()),
        prepared.data.listed: _classes(prepared.data),
        **_remarks(prepared.data),
        "parameters": _parameters(task.network),
        "unused parameters": ", ".join(watch.unused) or "none; every parameter receives a gradient",
        **_images(recipe),
        "checkpoint": "\n".join(report.summary() for report in prepared.load_reports) or start,
        "attention": attention_line(prepared.attention),
        "steps": steps_in_words(steps),
        "batch": batch_in_words(prepared.data, full, steps),
        **_pool(prepared, steps, phase),
        "learning rate": f"{rate:g} after the warm-up{as_written}",
        "warm-up": _warm_up(recipe.optim),
        "memory": f"{peak_memory() / 2**30:.2f} GiB at the peak of one process",
        "time": f"about {format_seconds(seconds)}, start and test aside ({watch.step_seconds * 1000:.0f} ms a step)",
    }


def _pool(prepared: Prepared, steps: TrainingSteps, phase: Phase) -> dict[str, str]:
    """When training learns from the pool, and why then; nothing where it has none."""
    task, semi, labels = prepared.task, prepared.recipe.semi, phase.labels
    start: Start = "other classes" if phase.start else task.start  # what this run pre-trains knows no labels
    if task.teaching is not None:
        return {"pool": pool_in_words(semi.burn_in, start, steps.total, steps.per_epoch, prepared.data.noun)}
    if not semi.in_phases:
        return {}
    if labels is not None:
        asked = [f"phase {name}" for name in labels.voters] or [f"the run {run}" for run in labels.runs]
        who = ", ".join(asked) or "the weights that training starts from"
        without = f"batch, memory and time here are without these {prepared.data.noun}"
        return {"pool": f"labelled before the first step by {who}; {without}"}
    if not semi.weight:
        return {"pool": "never used (semi.weight=0)"}
    return {"pool": f"not used in this phase ({burn_in_key(semi.burn_in, start)})"}


def _classes(data: SampleDataModule) -> str:
    if not data.classes:
        return f"none; {data.noun} without labels"
    return "\n".join([str(len(data.classes)), *data.class_lines()])


def _images(recipe: Recipe) -> dict[str, str]:
    """How images are prepared, from the recipe, the weights or the defaults."""
    if not hasattr(recipe.data, "image_size"):
        return {}
    pixels = recipe.augment.preprocessing
    values = {"data.image_size": recipe.data.image_size, "augment.mean": pixels.mean, "augment.std": pixels.std}
    # Other kinds of data have a rule of their own for how an image is resized.
    resizing = [key for key in ("crop_share", "interpolation") if key in recipe.data.left_to_weights]
    return {"preprocessing": written(values | {f"augment.eval.{key}": getattr(pixels, key) for key in resizing})}


def _remarks(data: SampleDataModule) -> dict[str, str]:
    """Notes and warnings, as a run prints them at its start."""
    remarks = {"notes": [*data.preparation, *data.notes], "warnings": [*data.class_doubts(), *data.warnings]}
    return {name: "\n".join(texts) for name, texts in remarks.items() if texts}


def _parameters(network: nn.Module) -> str:
    total = sum(parameter.numel() for parameter in network.parameters())
    trained = sum(parameter.numel() for parameter in network.parameters() if parameter.requires_grad)
    return f"{total:,}" if total == trained else f"{total:,}, of which {trained:,} are trained"


def _warm_up(optim: Optim) -> str:
    return f"{optim.warmup_steps:,} steps" if optim.warmup_steps else f"{optim.warmup_epochs:g} epochs"


class _Watch(Callback):
    """Times steps and sees which parameters receive no gradient."""

    def __init__(self) -> None:
        self.work: Work | None = None
        self.unused: list[str] = []
        self.step_seconds = self.validation_seconds = 0.0
        self._marks: list[float] = []
        self._validation_mark = 0.0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        self._marks.append(time.perf_counter())

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if len(self._marks) == 1:
            assert isinstance(pl_module, Task)
            parameters = pl_module.network.named_parameters()
            self.unused = [name for name, p in parameters if p.requires_grad and p.grad is None]

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not outputs["loss"].isfinite():
            raise UserError(f"the loss of step {batch_idx + 1} is not finite; lower optim.lr or leave 16-bit precision")
        self._count()
        timed = self._marks[1:] or self._marks
        self.step_seconds = (time.perf_counter() - timed[0]) / len(timed)

    def on_validation_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: Any) -> None:
        # From the end of one batch to the end of the next; the first one only warms up, where there is a second.
        now = time.perf_counter()
        self.validation_seconds = now - (self._validation_mark or self._marks[-1])
        self._validation_mark = now
        self._count()

    def _count(self) -> None:
        if self.work:
            self.work.advance()
