"""One training phase: a recipe, its data and its task under a Lightning Trainer of its own."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from rich.console import Console

from models.lora import remove_adapters, without_adapters
from models.timm_attention import AttentionReceipt
from vision_train.artefacts import Artefact
from vision_train.checkpoints import (
    LoadReport,
    Weights,
    fresh_names,
    load_start,
    match_weights,
    read_weights,
    settle,
)
from vision_train.data.module import SampleDataModule
from vision_train.ema import AverageWeights
from vision_train.errors import UserError
from vision_train.metrics_log import MetricsLog
from vision_train.optim import ClipEachGradient, Frozen, WholeWindows, check_names, choose_trained
from vision_train.progress import doing, shown_on
from vision_train.recipe import Recipe, to_plain
from vision_train.recipe.sections import Model
from vision_train.run.attention import decide_attention
from vision_train.run.bad_samples import BadSamples
from vision_train.run.best_weights import load_best
from vision_train.run.callbacks import installed_callbacks
from vision_train.run.checkpointing import EpochCheckpoints, RandomState
from vision_train.run.conditions import conditions
from vision_train.run.differences import Difference
from vision_train.run.directory import RunDirectory
from vision_train.run.early_stopping import StopEarly
from vision_train.run.freezing import keeping_frozen, release_in_words
from vision_train.run.last_checkpoint import progress
from vision_train.run.learnt import learnt_before
from vision_train.run.memory import peak_memory
from vision_train.run.meter import Meter
from vision_train.run.one_format import OneFormat
from vision_train.run.progress import PassProgress, ProgressDisplay
from vision_train.run.steps import EndAtStep, TrainingSteps, count_steps, going_on, limits_of, set_length, tell
from vision_train.run.trainer import build_trainer, call_trainer
from vision_train.semi.teacher import decay_of, half_life
from vision_train.tasks import settle_network, task_packages
from vision_train.tasks.base import Task
from vision_train.tasks.teaching import start_of


@dataclass
class Scanned:
    """A recipe with its data listed and checked; nothing is built yet."""

    recipe: Recipe
    """With what the data themselves say filled in."""
    data: SampleDataModule


@dataclass
class Prepared(Scanned):
    """A recipe whose network is built and whose weights are loaded too: nothing is written yet."""

    task: Task
    load_reports: list[LoadReport]
    """One for each file of ``model.checkpoint``; none where training starts from random weights."""
    attention: AttentionReceipt
    """What computes attention on the recipe's device."""
    frozen: Frozen
    """What of the network is not trained, or not at first."""
    resumed_with: list[Difference] = field(default_factory=list)
    """What was otherwise when the checkpoint was written with which the phase goes on."""
    artefacts: list[Artefact] = field(default_factory=list)
    """What was done to the weights before the first step."""


@dataclass(frozen=True)
class PhaseResult:
    """What a finished phase leaves.

    Attributes:
        figures: Flat figures for ``summary.json``.
        artefacts: For the report.
        warnings: What went wrong in training, in sentences.
        skipped: Samples that could not be read, with the reason; empty unless the recipe asked for skipping.
        guesses: Whether its result could be that of guessing.
        stopped_early: When and why training ended early, as a sentence; empty where it did not.
    """

    figures: dict[str, float | int]
    artefacts: list[Artefact] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    guesses: bool = False
    stopped_early: str = ""


def scan(
    recipe: Recipe, classes: list[str] | None = None, only: str | None = None, *, earlier: Recipe | None = None
) -> Scanned:
    """List and check the data of a recipe, prepared as its weights were trained where it leaves that open.

    Args:
        recipe: The checked recipe.
        classes: A label map to keep, for runs that exist already.
        only: Prepare to evaluate this one split of other data than the run's own.
        earlier: The recipe of the phase whose weights this one starts from.

    Raises:
        UserError: The data or the weights are not as the recipe says.
    """
    settled = settle(recipe, earlier)
    recipe = settle_network(settled.recipe)
    with doing(f"listing {recipe.kind.noun}"):
        data = recipe.kind.load().build(recipe, classes, only)
    data.preparation += settled.notes
    data.warnings += settled.warnings
    return Scanned(replace(recipe, data=data.section), data)


def prepare(scanned: Scanned) -> Prepared:
    """Build the network of a recipe, decide what computes its attention and load the weights that it starts from.

    Raises:
        UserError: Model, checkpoint or devices are not as the recipe says.
    """
    recipe, data = scanned.recipe, scanned.data
    seed_everything(recipe.seed, verbose=False)
    with doing(f"building {recipe.model.name}"):
        task, attention = _build(recipe, data.classes)
    for part, file in recipe.model.start.items():
        doubts = _check_start(recipe, data, part, file)
        data.warnings += [doubt for doubt in doubts if doubt not in data.warnings]
    with doing("loading weights"):
        reports = load_start(
            task.network,
            recipe.model,
            adapt=task.adapt_published,
            heads=task.heads,
            classes=data.classes,
            by_module=task.heads_by_module,
            together=task.parts,
            choose=task.choose_outputs,
        )
    data.notes += [report.head for report in reports if report.head]
    for file in dict.fromkeys([*recipe.model.start.values(), *recipe.semi.voting_runs]):
        data.notes += _notes_on_earlier(data, file)
    task.start = start_of(reports)
    frozen = choose_trained(task.network, recipe.model, heads=task.heads, adaptable=task.adaptable_layers)
    task.frozen_at_first = frozen.at_first
    data.notes += release_in_words(recipe, task)
    check_names(task.network, recipe.optim)
    if recipe.model.compile:
        task.network.compile()  # in place: parameter names stay as they are
    return Prepared(recipe, data, task, reports, attention, frozen)


def _build(recipe: Recipe, classes: list[str]) -> tuple[Task, AttentionReceipt]:
    task = build_task(recipe, classes)
    select = recipe.run.select.metric
    if select not in (known := [f"val/{metric.name}" for metric in task.metrics]):
        raise UserError(f"run.select.metric={select}: no such metric; there are {', '.join(sorted(known))}")
    return task, decide_attention(task, recipe, build_trainer(recipe, []))


def check_later(scanned: Scanned, earlier: Task | None) -> Task:
    """Refuse now what a later phase would refuse once the weights that it starts from are trained.

    Its network is built without memory for its weights.

    Args:
        scanned: The later phase.
        earlier: The task whose weights it starts from; None where it starts from none of this run.

    Returns:
        The task of the later phase, on the meta device.

    Raises:
        UserError: Its model or devices are not as the recipe says, or the weights would not fit.
    """
    with torch.device("meta"):
        task, _ = _build(scanned.recipe, scanned.data.classes)
    model = scanned.recipe.model
    if earlier is not None:
        _check_match(task, model, earlier)
    choose_trained(task.network, model, heads=task.heads, adaptable=task.adaptable_layers)
    check_names(task.network, scanned.recipe.optim)
    return task


def _check_match(task: Task, model: Model, earlier: Task) -> None:
    # Where the earlier one has no memory either, a single zero stands for all numbers of a tensor.
    state = {
        name: torch.zeros((), dtype=tensor.dtype).expand(tensor.shape) if tensor.is_meta else tensor
        for name, tensor in without_adapters(earlier.network.state_dict()).items()
    }
    weights = Weights(state, Path(earlier.recipe.name), file_format="", container="", recipe=to_plain(earlier.recipe))
    try:
        match_weights(
            task.network,
            weights,
            adapt=task.adapt_published,
            heads=task.heads,
            fresh=fresh_names(task.network, model),
            min_matched_share=model.min_matched_share,
        )
    except UserError as error:
        raise UserError(f"run.pretrain={error}") from error


def _check_start(recipe: Recipe, data: SampleDataModule, part: str, checkpoint: str) -> list[str]:
    """Refuse weights of ours that do not suit the data, and say what others may have learnt of them."""
    weights = read_weights(checkpoint, recipe.model.key_of(part))
    return recipe.kind.load().check_start(recipe, weights, f"model.checkpoint {checkpoint}", data)


def _notes_on_earlier(data: SampleDataModule, file: str) -> list[str]:
    """Whether a run that training starts from, or that labels its pool, has ended, and which test samples it knows."""
    notes = [f"{file} is not finished; its best epoch so far is taken"] if RunDirectory(Path(file)).unfinished else []
    learnt, unknown = learnt_before(data.samples("test") if data.counts.get("test") else [], file)
    notes += unknown
    if learnt:
        notes.append(
            f"{len(learnt)} of the {data.counts['test']} test {data.noun}, such as {learnt[0].id}, are among those "
            f"that {file} learnt from; test metrics will be too high"
        )
    return notes


def build_task(recipe: Recipe, classes: list[str]) -> Task:
    """Build the recipe's task around a fresh network.

    Raises:
        UserError: The model does not exist or refuses its arguments.
    """
    return importlib.import_module(f"{task_packages()[recipe.task]}.task").build(recipe, classes)


def fit_phase(prepared: Prepared, folder: Path, name: str, log: MetricsLog | None, console: Console) -> PhaseResult:
    """Train to the end, going on from the phase's last checkpoint if there is one, then judge the best epoch.

    Args:
        prepared: Recipe, data and task.
        folder: The phase's own folder.
        name: The phase's name in the metrics log.
        log: The metrics log; None on every process but the first.
        console: Where progress goes.

    Raises:
        UserError: Something in the recipe or the data stops training.
        KeyboardInterrupt: The user stopped it; the last epoch's checkpoint stands.
    """
    recipe, data, task = prepared.recipe, prepared.data, prepared.task
    checkpoints = folder / "checkpoints"
    last = checkpoints / "last.ckpt"
    if log:
        checkpoints.mkdir(parents=True, exist_ok=True)
    meter, bad_samples = Meter(name, log, recipe.run.on_nan), BadSamples(data)
    display = ProgressDisplay(meter, recipe, task.metrics, console)
    plain = build_trainer(recipe, [])
    steps = going_on(count_steps(recipe, data, plain), recipe, *progress(last))
    trained_under = conditions(data, steps, plain.world_size) if log else {}
    keeper = EpochCheckpoints(checkpoints, recipe, trained_under, on_saved=display.epoch_saved)
    early = StopEarly(recipe.run.select, recipe.run.early_stopping) if recipe.run.early_stopping else None
    # Before the meter, which writes down what they log.
    others = installed_callbacks(recipe)
    passes = PassProgress(data.noun)
    watching = [OneFormat(), *others, bad_samples, meter, display, passes, *([early] if early else []), keeper]
    trainer = build_trainer(recipe, [*acting_on_weights(prepared, steps), *watching], folder)
    set_length(trainer, steps)
    tell(task, data, steps)
    task.validated_every = trainer.check_val_every_n_epoch or 1

    with shown_on(console):
        start = last if last.exists() else None
        call_trainer(trainer, "fit", task, datamodule=data, ckpt_path=start, weights_only=True)
        stopped = early.in_words(trainer, recipe, keeper.best_epoch, task.metrics) if early else ""
        remove_adapters(task.network)  # what is read of a checkpoint has them merged; so has what is measured
        load_best(task, checkpoints / "best.ckpt")
        task.test_split = recipe.kind.judged
        loaders = data.evaluation_loaders(task.test_split)
        call_trainer(trainer, "test", task, dataloaders=loaders, verbose=False)
    figures = _figures(trainer, meter, keeper, task)
    if stopped:
        figures["train/planned_epochs"] = steps.epochs
    skipped = [f"{name}: {reason}" for name, reason in bad_samples.skipped.items()]
    return PhaseResult(figures, task.artefacts(), list(task.warnings), skipped, task.guesses, stopped)


def acting_on_weights(prepared: Prepared, steps: TrainingSteps) -> list[Callback]:
    """What acts on the weights and on the length of training, in the order in which it has to act."""
    recipe, norm = prepared.recipe, prepared.recipe.optim.clip_each_norm
    callbacks: list[Callback] = [RandomState(recipe.seed)]
    # Before clipping, which is to see no gradient of what is frozen.
    callbacks += keeping_frozen(prepared.task, prepared.frozen, steps)
    # Whole windows before clipping, which is to see the gradient of the step.
    callbacks += [WholeWindows(), *([ClipEachGradient(norm)] if norm else [])]
    callbacks += averaging(recipe, steps)
    return callbacks + ([EndAtStep(steps.total)] if limits_of(recipe)[1] else [])


def averaging(recipe: Recipe, steps: TrainingSteps) -> list[Callback]:
    """What keeps the moving average of the weights, where the recipe asks for one."""
    if (ema := recipe.optim.ema) is None:
        return []
    return [AverageWeights(ema.share_kept or decay_of(half_life(steps.total)), warmup=ema.warmup)]


def _figures(trainer: Trainer, meter: Meter, keeper: EpochCheckpoints, task: Task) -> dict[str, float | int]:
    split = f"{task.test_split}/"
    judged = {key: value.item() for key, value in trainer.callback_metrics.items() if key.startswith(split)}
    return {
        **judged,
        **keeper.best_metrics,
        "train/best_epoch": keeper.best_epoch or 0,
        "train/epochs": trainer.current_epoch,
        "train/steps": trainer.global_step,
        "train/epoch_batches": int(trainer.num_training_batches),
        "train/samples": meter.total_samples,
        "train/samples_per_second": meter.samples_per_second,
        "train/data_wait": meter.total_wait / max(meter.total_seconds, 1e-9),
        "train/seconds": meter.wall_seconds,
        "train/peak_memory_bytes": peak_memory(),
        "model/parameters": sum(parameter.numel() for parameter in task.network.parameters()),
    }
