"""The pool gets its pseudo-labels before a phase: voters are asked, answers become labels, labels a file."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from pytorch_lightning import LightningDataModule, LightningModule
from rich.console import Console

from models.lora import remove_adapters
from vision_train.artefacts import Table
from vision_train.data.dataset import SampleLoader
from vision_train.data.module import POOL_SPLIT, SampleDataModule
from vision_train.data.pseudo_labels import labels_that_stay
from vision_train.data.sample import Sample
from vision_train.errors import UserError
from vision_train.processes import gather_objects, launched_rank
from vision_train.recipe import Recipe
from vision_train.run.best_weights import load_best
from vision_train.run.directory import PSEUDO_LABELS, RunDirectory, open_run, relative
from vision_train.run.inference import load_for_inference
from vision_train.run.label_accuracy import LabelAccuracy, known_samples, label_accuracy, truths_of
from vision_train.run.phase import Scanned, prepare
from vision_train.run.plan import FinishedPhase, Phase
from vision_train.run.progress import PassProgress
from vision_train.run.run_phase import warn
from vision_train.run.trainer import build_trainer, call_trainer
from vision_train.semi.answers import Answer, each_once, select_for_round
from vision_train.semi.combine import CALIBRATED, calibrated_weights
from vision_train.semi.label_file import PseudoLabel, write_pseudo_labels
from vision_train.semi.rounds import budget
from vision_train.tasks.base import Batch, Task
from vision_train.wording import count_of, first_named


def label_pool(
    directory: RunDirectory,
    phase: Phase,
    scan_pool: Callable[[], Scanned],
    finished: Sequence[FinishedPhase],
    console: Console,
) -> Path:
    """Let the voters of a phase label the pool, unless that was done before the run was cut short.

    All processes take part; the first one writes. What is written depends on the weights of the voters and on the pool
    alone, so that a run that is killed before ends with the same file.

    Args:
        directory: The run.
        phase: The phase that is to learn from the labels.
        scan_pool: Lists its data, with the pool.
        finished: The phases before it.
        console: Where progress goes.

    Returns:
        The file.

    Raises:
        UserError: A voter cannot be asked.
    """
    assert phase.labels is not None
    file = directory.phase(phase.name) / PSEUDO_LABELS
    if file.is_file():
        return file
    scanned = scan_pool()
    earlier = phase.labels.earlier
    stay = labels_that_stay(directory.phase(earlier) / PSEUDO_LABELS) if earlier else {}
    labels, accuracy, warnings = _labels(phase, scanned, finished, stay, console)
    if launched_rank() == 0:
        for warning in warnings:
            warn(warning, console)
        kept = sum(each.kept for each in labels)
        of_pool = count_of(len(labels), scanned.data.noun)
        console.print(f"labelled {kept:,} of {of_pool} of the pool: {relative(file)}")
        if not kept:
            warn("no pseudo-label was kept; this phase trains on labelled samples alone", console)
            accuracy = None
        if accuracy is not None:
            console.print(accuracy.sentence)
            if warning := accuracy.warning("semi.rounds.most" if phase.labels.round else "semi.class_cap"):
                warn(warning, console)
        told = "" if accuracy is None else accuracy.sentence
        directory.write_artefacts([_table(phase, labels, stay, scanned.data.noun, told)])
        file.parent.mkdir(parents=True, exist_ok=True)
        write_pseudo_labels(file, labels)
    gather_objects(None)  # nobody goes on before the file is there
    return file


def _labels(
    phase: Phase,
    scanned: Scanned,
    finished: Sequence[FinishedPhase],
    stay: Mapping[str, PseudoLabel],
    console: Console,
) -> tuple[list[PseudoLabel], LabelAccuracy | None, list[str]]:
    """Labels of the whole pool, in its order and the same in all processes.

    Args:
        phase: The phase that is to learn from them.
        scanned: Its data, with the pool.
        finished: The phases before it.
        stay: Labels of earlier rounds by ids; nobody is asked about these samples.
        console: Where progress goes.

    Returns:
        The labels, how often they are right, where the task can tell, and what is wrong with them.
    """
    assert phase.labels is not None
    recipe, data = scanned.recipe, scanned.data
    whole, known = data.samples(POOL_SPLIT), known_samples(data)
    pool = [sample for sample in whole if sample.id not in stay]
    answers, of_known = list[list[Answer]](), list[list[Answer]]()
    weights, unread = dict[str, float](), dict[str, str]()
    for name, make in _voters(phase, scanned, finished).items():
        task = make().eval()
        task.class_counts = [of_class.get("train", 0) for of_class in data.class_counts.values()]
        weights = dict(task.score_weights()) if phase.labels.round else {}
        scores = [score for score, weight in weights.items() if weight]
        beside = f" and {count_of(len(known), f'validation {data.noun}')}" if task.label_metric else ""
        console.print(f"asking {name} about the pool{beside}")
        said, skipped = ask(task, data, recipe, scores, pool)
        answers.append(said)
        unread |= skipped
        if task.label_metric:
            of_known.append(ask(task, data, recipe, scores, known)[0])
    labels, warnings = task.label_pool(answers), [*_unread(unread, data.noun), *task.warnings]
    on_known, right = list[PseudoLabel](), list[bool]()
    if of_known:
        on_known, right = task.label_known(of_known, truths_of(of_known[0], known), len(pool))
    if of_known and weights and recipe.semi.rounds.scores == CALIBRATED:
        weights, words = _calibrated(weights, on_known, right)
        console.print(words)
    if phase.labels.round:
        labels, on_known = _selected(labels, on_known, len(stay), phase.labels.round, weights, recipe)
    of_whole = {**{each.id: each for each in labels}, **stay}
    labels = [of_whole[sample.id] for sample in whole if sample.id in of_whole]
    if not of_known:
        return labels, None, warnings
    accuracy = label_accuracy(phase, finished, on_known, right, noun=data.noun, metric=task.label_metric)
    return labels, accuracy, warnings


def _selected(
    labels: Sequence[PseudoLabel],
    on_known: Sequence[PseudoLabel],
    stayed: int,
    number: int,
    weights: Mapping[str, float],
    recipe: Recipe,
) -> tuple[list[PseudoLabel], list[PseudoLabel]]:
    """Labels of the pool, and of validation samples, as a round selects them: as large a part of both."""
    rounds = recipe.semi.rounds
    most = budget(number, rounds.count, len(labels) + stayed, rounds.most, stayed=stayed)
    of_known = len(on_known) * most // max(1, len(labels))
    select = partial(select_for_round, weights=weights, number=number, seed=recipe.seed)
    return select(labels, budget=most), select(on_known, budget=of_known)


def _calibrated(
    weights: Mapping[str, float], labels: Sequence[PseudoLabel], right: Sequence[bool]
) -> tuple[dict[str, float], str]:
    """Weights of scores by what they know of labels that can be held against the truth, and the words for them."""
    known = {name: torch.tensor([each.scores.get(name, math.nan) for each in labels]) for name in weights}
    try:
        found = calibrated_weights(known, torch.tensor(right))
    except ValueError as error:
        return dict(weights), f"{error}; scores weigh the same in this round"
    if not any(found.values()):
        return dict(weights), "no score tells right labels of validation samples from wrong ones; all weigh the same"
    said = ", ".join(f"{name} {weight:.2f}" for name, weight in found.items())
    return found, f"scores weigh, by what they know of validation labels: {said}"


def _unread(skipped: Mapping[str, str], noun: str) -> list[str]:
    """Which samples of the pool were passed over, and why."""
    if not skipped:
        return []
    reasons = first_named([f"{name}: {reason}" for name, reason in sorted(skipped.items())])
    return [f"{noun} of the pool that cannot be read get no label: {reasons}"]


def _voters(phase: Phase, scanned: Scanned, finished: Sequence[FinishedPhase]) -> Mapping[str, Callable[[], Task]]:
    """Those who are asked, by the words for them; each is built when its turn comes."""
    assert phase.labels is not None
    if phase.labels.runs:
        return {f"the run {run}": partial(_of_run, scanned, run) for run in phase.labels.runs}
    checkpoints = {each.name: each.checkpoint for each in finished}
    asked = {f"phase {name}": partial(_of_phase, scanned, checkpoints[name]) for name in phase.labels.voters}
    return asked or {"the weights of the start": partial(_of_phase, scanned, None)}


def _of_phase(scanned: Scanned, checkpoint: Path | None) -> Task:
    """A task with the best weights of a phase of this run, or with those that the recipe starts from."""
    if checkpoint is None:
        return prepare(scanned).task
    model = replace(scanned.recipe.model, checkpoint=None)
    return _with_best(Scanned(replace(scanned.recipe, model=model), scanned.data), checkpoint)


def _of_run(scanned: Scanned, run: str) -> Task:
    """A task with the best weights of a finished run.

    Raises:
        UserError: It has none, knows other classes, or sees images that are prepared otherwise.
    """
    directory, ours = open_run(Path(run), with_weights=True), scanned.recipe
    theirs = load_for_inference(directory.recipe)
    if theirs.task != ours.task or directory.read_classes() != scanned.data.classes:
        raise UserError(f"semi.voters: {run} does not know the classes of the data in their order; name other runs")
    size = tuple(getattr(recipe.data, "image_size", None) for recipe in (theirs, ours))
    if size[0] != size[1] or theirs.augment.preprocessing != ours.augment.preprocessing:
        raise UserError(
            f"semi.voters: {run} was trained on images of another size, or that were prepared otherwise; set "
            "data.image_size, augment.mean, augment.std and augment.eval as in its recipe.yaml"
        )
    voter = replace(theirs, trainer=ours.trainer)
    return _with_best(Scanned(voter, scanned.data), directory.path)


def _with_best(scanned: Scanned, of: Path) -> Task:
    """A task with the best weights of a run or checkpoint, into which low-rank adapters have been merged."""
    task = prepare(scanned).task
    remove_adapters(task.network)
    load_best(task, of)
    return task


def ask(
    task: Task, data: SampleDataModule, recipe: Recipe, scores: Collection[str], samples: Sequence[Sample]
) -> tuple[list[Answer], dict[str, str]]:
    """Ask a network about samples, shared out over the processes.

    Args:
        task: Owns the network.
        data: Reads the samples.
        recipe: Says on what devices.
        scores: Names of the scores that are wanted.
        samples: Those of the pool, or others.

    Returns:
        An answer for each sample that can be read, in their order, and the others with the reasons; the same in all
        processes.

    Raises:
        UserError: A sample cannot be read, and the recipe does not skip such samples.
    """
    trainer = build_trainer(recipe, [PassProgress(data.noun, "asking")])
    asked, views = _Asked(task, scores), _Views(data, samples, task.pool_views(scores))
    call_trainer(trainer, "predict", asked, datamodule=views, return_predictions=False)
    skipped = {name: reason for found in gather_objects(views.skipped) for name, reason in found.items()}
    if skipped and data.section.on_bad == "error":
        raise data.refusal(skipped)
    answers = [answer for of_process in gather_objects(asked.answers) for answer in of_process]
    return each_once(answers, [sample.id for sample in samples]), skipped


class _Asked(LightningModule):
    """A task as Lightning asks it about samples."""

    def __init__(self, task: Task, scores: Collection[str]) -> None:
        super().__init__()
        self.task, self.scores, self.answers = task, scores, list[Answer]()

    def predict_step(self, batch: Batch, batch_idx: int) -> None:
        self.answers += self.task.answer_pool(batch["id"], batch["views"], self.scores)


class _Views(LightningDataModule):
    """Samples under several views, this process's share of them."""

    def __init__(self, data: SampleDataModule, samples: Sequence[Sample], views: int) -> None:
        super().__init__()
        self.data, self.samples, self.views = data, samples, views
        self.loader: SampleLoader | None = None

    @property
    def skipped(self) -> dict[str, str]:
        """Samples that this process could not read, with the reasons."""
        return {} if self.loader is None else self.loader.dataset.skipped

    def predict_dataloader(self) -> SampleLoader:
        assert self.trainer is not None
        rank, processes = self.trainer.global_rank, self.trainer.world_size
        self.loader = self.data.views_loader(self.samples, self.views, rank, processes)
        return self.loader


def _table(phase: Phase, labels: Sequence[PseudoLabel], stay: Collection[str], noun: str, accuracy: str) -> Table:
    """How many labels there are of each kind, how many were taken, and how often they are right, a sentence."""
    asked = [each for each in labels if each.id not in stay]
    kinds = sorted({each.stratum for each in asked if each.stratum})
    counts = {kind: [each for each in asked if each.stratum == kind] for kind in kinds}
    rows = [[kind, len(of), sum(each.kept for each in of)] for kind, of in counts.items()]
    if without := sum(not each.stratum for each in asked):
        rows.append(["without a label", without, 0])
    if stay:
        rows.append(["of earlier rounds", len(stay), len(stay)])
    total = ["all", len(labels), sum(each.kept for each in labels)]
    title = f"Pseudo-labels of the pool, phase {phase.name}"
    note = f"Labels that the networks gave; those of the files, if they have any, are never read. {accuracy}".rstrip()
    columns = ["label", noun, "learnt from"]
    return Table(f"{phase.name}_pseudo_labels", title, columns, [*rows, total], note)
