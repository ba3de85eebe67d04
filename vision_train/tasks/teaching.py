"""When a task learns from its pool, who labels it, and whether that still does good: the same for all tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from vision_train.artefacts import Artefact
from vision_train.checkpoints import LoadReport
from vision_train.errors import UserError
from vision_train.processes import gather_rows
from vision_train.recipe.semi_section import Semi
from vision_train.semi.health import compare_origins
from vision_train.semi.health_log import ADDED, HealthLog
from vision_train.semi.monitor import Monitor, Reading, Sign, origin_signs
from vision_train.semi.teacher import Start, burn_in_steps, check_burn_in, pool_in_words

if TYPE_CHECKING:
    from vision_train.tasks.base import Task


LABELLED, POOL, PSEUDO_LABELLED = "labelled", "unlabelled", "pseudo-labelled"
"""Names of the streams of a training step: samples with a truth, the pool, and what of it has got labels between
phases."""
ASKED_EVERY = 10
"""Steps from one comparison of student and teacher on weak views to the next."""


class Turn(NamedTuple):
    """What a training step does with its batch of the pool."""

    observes: bool
    """Whether it tells where the pool comes from."""
    labels: bool
    """Whether the teacher's labels are counted."""
    adds: bool
    """Whether they are learnt from."""
    compares: bool
    """Whether the student is asked beside the teacher."""


def start_of(reports: Sequence[LoadReport]) -> Start:
    """What the weights that training starts from know of the classes of the data.

    Args:
        reports: What files filled; none where all weights are random.
    """
    if not reports:
        return "scratch"
    heads = [entry for report in reports for entry in report.entries if entry.head]
    kept = heads and all(entry.outcome == "matched" for entry in heads)
    return "same classes" if kept and not any(report.head for report in reports) else "other classes"


class Teaching:
    """Decides at each step whether the pool is labelled and learnt from, and judges that at each validation.

    Args:
        semi: The recipe's section.
        classes: Names of the classes.
        monitor: Judges the figures of the pool.
        noun: What the samples are, in the plural.
    """

    def __init__(
        self, semi: Semi, classes: Sequence[str], monitor: type[Monitor] = Monitor, noun: str = "images"
    ) -> None:
        self.semi = semi
        self.classes = list(classes)
        self.noun = noun
        self._judge = monitor
        self.burn_in = -1
        """Steps on labelled images alone; below 0 until training begins."""
        self.pool = (0, 1)
        """Samples of the pool that are copies of labelled ones, and all of them."""
        self.total_steps = 0
        self.validated_every = 1
        """Epochs from one validation to the next."""
        self.monitor: Monitor | None = None
        self._news: list[str] = []
        self._said: set[str] = set()
        self._start_score: float | None = None
        self._confidences: list[float] = []
        """How sure the teacher was of images of the pool in this epoch, in the order of the steps."""
        self._log = HealthLog(self.classes, monitor.figures)

    def check(self, network: nn.Module, start: Start, model: str) -> None:
        """Refuse a network and a start that a pool would spoil.

        Args:
            network: With what is frozen frozen.
            start: What its weights know.
            model: Its name, for messages.

        Raises:
            UserError: It has batch norms that are trained, or would teach classes that it has never seen.
        """
        if any(isinstance(module, _BatchNorm) and _is_trained(module) for module in network.modules()):
            raise UserError(
                f"semi.method={self.semi.method}: model.name={model} has batch norms that are trained, and their "
                f"statistics would mix labelled {self.noun} with strongly augmented ones; take a network with other "
                "norms, or freeze them with model.freeze"
            )
        try:
            check_burn_in(-1 if self.semi.burn_in is None else math.ceil(self.semi.burn_in), start)
        except ValueError as error:
            raise UserError(f"semi.burn_in={self.semi.burn_in:g}: {error}") from error

    def begin(self, task: Task) -> None:
        """Find the end of burn-in, unless a checkpoint has told it, and begin to judge."""
        self.total_steps = task.total_steps
        self.validated_every = task.validated_every
        self.pool = task.pool_copies
        if self.burn_in < 0:
            asked = self.semi.burn_in, task.start, task.total_steps, task.steps_per_epoch
            self.burn_in = burn_in_steps(*asked)
            kind = "note" if self.burn_in < task.total_steps else "warning"
            self._news.append(f"{kind}: the pool is {pool_in_words(*asked, self.noun)}")
        counts = task.class_counts
        prior = [count / sum(counts) for count in counts]
        before = self.monitor.state_dict() if self.monitor else None
        fixed = self.semi.method == "fixmatch"
        self.monitor = self._judge(self.classes, prior, fixed_threshold=fixed, noun=self.noun)
        if before:
            self.monitor.load_state_dict(before)

    def news(self) -> list[str]:
        """What is to be said to the user now, each line once."""
        news, self._news = self._news, []
        return news

    def labels(self, step: int) -> bool:
        """Whether the pool is labelled at an optimiser step."""
        return step >= self.burn_in

    def adds(self, step: int) -> bool:
        """Whether the labels count."""
        return self.labels(step) and not (self.monitor and self.monitor.stopped)

    def observes_origin(self, step: int, steps_per_epoch: int) -> bool:
        """Whether a step lies in the epoch whose end tells where the pool comes from.

        That is the last one of burn-in that is validated, or the first one of all: what is said of the pool is compared
        with what is said of validation images by nearly the same weights.
        """
        apart = self.validated_every * steps_per_epoch
        end = max(self.burn_in // apart * apart, apart)
        return end - steps_per_epoch <= step < end

    def turn(self, step: int, steps_per_epoch: int) -> Turn | None:
        """What a step does with its batch of the pool; None where it leaves that alone."""
        observes, labels = self.observes_origin(step, steps_per_epoch), self.labels(step)
        if not (observes or labels):
            return None
        compares = labels and step % ASKED_EVERY == 0 and self.semi.teacher == "average"
        return Turn(observes, labels, self.adds(step), compares)

    def observe(self, confidences: Tensor) -> None:
        """Remember how sure the teacher is of the pool's images of a step (U). All processes call this."""
        self._confidences += gather_rows(confidences).tolist()

    def origin(self, validation: Tensor) -> dict[str, float] | None:
        """Where the pool comes from, as :func:`compare_origins`; None where it was not observed since the last call.

        Args:
            validation: How sure the teacher is of each validation image.
        """
        pool, self._confidences = torch.tensor(self._confidences, dtype=torch.float64), []
        return compare_origins(validation, pool) if len(pool) else None

    def since_burn_in(self, step: int) -> tuple[int, int]:
        """Steps since the end of burn-in, and all steps after it."""
        return step - self.burn_in, max(self.total_steps - self.burn_in, 1)

    def judge(self, step: int, reading: Reading | None, origin: Mapping[str, float] | None) -> dict[str, float]:
        """Judge a validation. All processes call this with the same values.

        Args:
            step: Optimiser steps so far.
            reading: What was counted; None where nothing was, as during burn-in.
            origin: Arguments of :func:`origin_signs`; None where they are not known.

        Returns:
            Figures for the log, without a prefix; NaN for what was known before and is not now.
        """
        assert self.monitor is not None
        signs: list[Sign] = []
        if origin:
            copies, size = self.pool
            signs += origin_signs(**origin, copies=copies, size=size, noun=self.noun)
        self._log.note_signs(step, signs)
        if reading is None:
            self._say(signs, [sign.message for sign in signs])
            return {}
        if self.monitor.start_score is None:
            self.monitor.start_score = self._start_score
        judgement = self.monitor.judge(reading)
        self._say([*signs, *judgement.signs], [sign.message for sign in signs] + judgement.messages)
        figures = self._figures(reading) | {ADDED: float(not judgement.stop)}
        self._log.note(step, figures, reading.pool, judgement)
        # Lightning would repeat the last value of what is not logged again, as if it was still known.
        return dict.fromkeys(self._log.measured, math.nan) | figures

    def note_score(self, step: int, score: float) -> None:
        """Remember the teacher's score of a validation, until the pool is used."""
        if step <= self.burn_in:
            self._start_score = score

    def warnings(self) -> list[str]:
        """What went wrong in the end, in sentences."""
        return list(self._log.changes)

    def artefacts(self) -> list[Artefact]:
        """The figures of each validation, and what was wrong; nothing where the pool was never used."""
        return [] if self.monitor is None else self._log.artefacts(self.monitor.prior)

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run has to know, in plain types."""
        return {
            "burn_in": self.burn_in,
            "monitor": None if self.monitor is None else self.monitor.state_dict(),
            "start_score": self._start_score,
            "said": sorted(self._said),
            "log": self._log.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint.

        Raises:
            KeyError: An entry is missing.
        """
        self.burn_in, self._start_score = state["burn_in"], state["start_score"]
        self._said = set(state["said"])
        self._log.load_state_dict(state["log"])
        if state["monitor"] is not None:
            self.monitor = self._judge(self.classes, [], noun=self.noun)
            self.monitor.load_state_dict(state["monitor"])

    def _say(self, signs: Sequence[Sign], messages: Sequence[str]) -> None:
        """Say what was not said at the validation before."""
        of_signs = dict(zip([sign.figure for sign in signs], messages, strict=False))
        changes = messages[len(signs) :]
        new = [message for figure, message in of_signs.items() if figure not in self._said] + [*changes]
        self._news += [f"warning: {message}" for message in new]
        self._said = set(of_signs)

    def _figures(self, reading: Reading) -> dict[str, float]:
        pool, estimate = reading.pool, reading.estimate
        figures = {
            "accepted": pool.accepted,
            "accuracy": math.nan if estimate is None else estimate.accuracy,
            "agreement": pool.agreement,
            "entropy": pool.label_entropy,
            "loss_ratio": pool.loss_ratio,
            **pool.further,
        }
        return {name: value for name, value in figures.items() if not math.isnan(value)}


def ask_teacher(task: Task, *inputs: Any) -> Any:
    """What the teacher says, without gradients and in evaluation mode.

    Args:
        task: Has the average of its network, which is the teacher unless ``semi.teacher`` is ``student``.
        *inputs: What its network takes.
    """
    if task.recipe.semi.teacher == "student":
        with torch.no_grad(), evaluating(task.network):
            return task.network(*inputs)
    average = task.average
    assert average is not None
    assert not average.network.training, "a teacher stays in evaluation mode"
    with torch.no_grad():
        return average(*inputs)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Put a network into evaluation mode, and each of its modules back into the mode that it was in."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _is_trained(norm: _BatchNorm) -> bool:
    return norm.track_running_stats and any(parameter.requires_grad for parameter in norm.parameters())
