"""The loss of unlabelled images in detection, and what is counted of them.

A mean teacher, as RTDETR-SSOD (PaddleDetection) has it: the average finds boxes on a weak view, the network learns them
on a strong one, without denoising queries. What is ours is told in :mod:`vision_train.semi.boxes`.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from vision_train.processes import gather_objects
from vision_train.recipe.recipe import Recipe
from vision_train.semi.box_health import BoxCounts
from vision_train.semi.box_labels import found_by_both
from vision_train.semi.boxes import FIRST_CUT, Candidates, Numbers, class_cuts, judged, sure_and_unsure
from vision_train.semi.consistency import capped
from vision_train.semi.monitor import Reading
from vision_train.semi.state import RunningState
from vision_train.tasks.base import Batch
from vision_train.tasks.detection.mixing import PoolMixing, Taught
from vision_train.tasks.detection.results import Results
from vision_train.tasks.detection.teaching import find_candidates, pseudo_box_loss, teach
from vision_train.tasks.detection.thresholds import Teacher, choose_cuts
from vision_train.tasks.teaching import ask_teacher, evaluating

if TYPE_CHECKING:
    from vision_train.tasks.detection.task import DetectionTask


class Cuts(RunningState):
    """The score from which on a box of each class is taken for an object of an unlabelled image.

    Args:
        classes: C.
    """

    values: Tensor
    """C, float64."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.register_buffer("values", torch.full((classes,), FIRST_CUT, dtype=torch.float64))

    def numbers(self) -> Numbers:
        """The scores, on the host."""
        return self.values.cpu().numpy()

    def set(self, chosen: Numbers) -> None:
        """Take others."""
        self.values.copy_(torch.from_numpy(chosen))


class BoxPool(nn.Module):
    """Lets a teacher find boxes in unlabelled images, and weighs the loss of learning them.

    A module for the sake of its buffers, which stand in checkpoints.

    Args:
        recipe: The checked recipe; its ``semi.method`` is one of those that use the pool in each step.
        classes: C class names.
    """

    def __init__(self, recipe: Recipe, classes: Sequence[str]) -> None:
        super().__init__()
        self.classes = list(classes)
        self.weight, self.box_weight = recipe.semi.weight, recipe.method.pseudo_box_weight
        self.counts, self.cuts = BoxCounts(len(classes)), Cuts(len(classes))
        self.mixing = PoolMixing(recipe.seed, recipe.data.short_side) if recipe.data.mix_unlabelled else None

    def learn(self, task: DetectionTask, labelled: Batch, pool: Batch, labelled_loss: Tensor) -> Tensor | float:
        """Let the teacher find boxes, and take the loss of the strong views. All processes call this.

        Args:
            task: Asks at its present step.
            labelled: The labelled images of the step.
            pool: U unlabelled images in two views.
            labelled_loss: Scalar.

        Returns:
            What is added to the loss.
        """
        teaching = task.teaching
        assert teaching is not None
        if (turn := teaching.turn(task.global_step, task.steps_per_epoch)) is None:
            return 0.0
        candidates = find_candidates(partial(ask_teacher, task), pool["weak"])
        if turn.observes:
            teaching.observe(_confidence([found.scores for found in candidates]).to(task.device))
        if not turn.labels:
            return 0.0
        cuts, weak = self.cuts.numbers(), pool["weak"]["affine"].cpu().numpy()
        said = [judged(found, cuts, affine) for found, affine in zip(candidates, weak, strict=True)]
        agreement = self._agreement(task, pool["weak"], candidates) if turn.compares else (0, 0)
        self.counts.add_boxes(said, labelled["areas"], agreement)
        return self._loss(task, pool, candidates, labelled_loss) if turn.adds else 0.0

    def _agreement(self, task: DetectionTask, weak: Batch, candidates: Sequence[Candidates]) -> tuple[int, int]:
        """Objects that the teacher or the student finds on weak views, and those that both do."""
        with evaluating(task.network):
            own = find_candidates(task.network, weak)
        cuts = self.cuts.numbers()
        sure = [[each.only(sure_and_unsure(each, cuts)[0]) for each in found] for found in (candidates, own)]
        either, both = zip(*map(found_by_both, *sure), strict=True)
        return sum(either), sum(both)

    def _loss(
        self, task: DetectionTask, pool: Batch, candidates: Sequence[Candidates], labelled_loss: Tensor
    ) -> Tensor:
        """The loss of strong views, weighted and bounded."""
        strong, boxes = pool["strong"], teach(pool, candidates, self.cuts.numbers(), self.box_weight)
        parts = (
            [Taught(strong, boxes, 1.0)] if self.mixing is None else self.mixing.mix(strong, boxes, task.global_rank)
        )
        losses = [
            part.weight * pseudo_box_loss(task.network, task.criterion, part.boxes, {"strong": part.view})
            for part in parts
        ]
        loss = self.weight * torch.stack(losses).sum()
        self.counts.add_losses(loss.detach(), labelled_loss.detach())
        return capped(loss, labelled_loss)

    def state_of_mixing(self) -> list[dict[str, Any]]:
        """What each process keeps of the pool, in order of rank; nothing without mixing. All processes call this."""
        return [] if self.mixing is None else gather_objects(self.mixing.state_dict())

    def restore_mixing(self, states: Sequence[dict[str, Any]], rank: int, processes: int) -> None:
        """Go on with what each of so many processes kept, or begin anew where there were not as many."""
        if self.mixing is not None and len(states) == processes:
            self.mixing.load_state_dict(states[rank])

    def choose(self, results: Results) -> None:
        """Cut where these validation images say that four in five boxes are right, from now on."""
        self.cuts.set(class_cuts(choose_cuts(results, self.classes), self.classes))

    def reading(self, teacher: Teacher) -> Reading | None:
        """What is known at a validation, and begin to count anew; None if nothing was counted."""
        figures = self.counts.figures()
        if not figures.images:
            return None
        self.counts.reset()
        return Reading(figures, teacher.estimate, teacher.score, teacher.error)

    def confidences(self, results: Results) -> Tensor:
        """How sure the teacher is of the likeliest box of each validation image."""
        return _confidence([each.scores for each in results.values()])


def _confidence(scores: Sequence[Numbers]) -> Tensor:
    """Score of the likeliest box of each image, float32: the type in which the teacher answers."""
    return torch.tensor([each.max(initial=0.0) for each in scores], dtype=torch.float32)
