"""The loss of unlabelled images in classification, and what is counted of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.semi.consistency import capped, consistency_loss, ramp
from vision_train.semi.fixmatch import FixMatch, check_threshold
from vision_train.semi.freematch import FreeMatch, fairness_loss
from vision_train.semi.health import PoolCounts, estimated_accuracy
from vision_train.semi.monitor import Reading
from vision_train.semi.pseudo_labels import PseudoLabels, pseudo_label_loss, teacher_probabilities
from vision_train.semi.softmatch import SoftMatch
from vision_train.semi.state import ExponentialMean
from vision_train.tasks.base import Batch, Task
from vision_train.tasks.scores import Scores
from vision_train.tasks.teaching import ask_teacher, evaluating

SHORT_RUN, SHORT_MOMENTUM, MOMENTUM = 5000, 0.99, 0.999
"""Steps below which running averages forget faster, and the share that they keep at each step."""
ACCEPTED = "accepted"
"""Column of the weight that the rule gives a validation image."""


class PoolLearning(nn.Module):
    """Labels unlabelled images by a rule and weighs their loss.

    A module for the sake of its buffers, running averages that stand in checkpoints.

    Args:
        recipe: The checked recipe; its ``semi.method`` is one of those that use the pool in each step.
        classes: K class names.

    Raises:
        UserError: Label smoothing keeps confidence below the threshold.
    """

    def __init__(self, recipe: Recipe, classes: Sequence[str]) -> None:
        super().__init__()
        self.semi = recipe.semi
        self.rule = _rule(recipe, len(classes))
        self.counts = PoolCounts(len(classes))

    def begin(self, total_steps: int) -> None:
        """Let running averages follow as fast as the run is long."""
        default = SHORT_MOMENTUM if total_steps < SHORT_RUN else MOMENTUM
        momentum = default if self.semi.momentum is None else self.semi.momentum
        for module in [] if self.rule is None or isinstance(self.rule, FixMatch) else self.rule.modules():
            if isinstance(module, FreeMatch | SoftMatch | ExponentialMean):
                module.momentum = momentum

    def learn(self, task: Task, pool: Batch, logits: Tensor | None, labelled_loss: Tensor) -> Tensor | float:
        """Let the teacher label a batch, and take the loss of its strong views. All processes call this.

        Args:
            task: Asks at its present step.
            pool: U unlabelled images in two views.
            logits: Of the student on the strong views, U K; None where their labels do not count.
            labelled_loss: Scalar.

        Returns:
            What is added to the loss.
        """
        teaching = task.teaching
        assert teaching is not None
        if (turn := teaching.turn(task.global_step, task.steps_per_epoch)) is None:
            return 0.0
        probabilities = teacher_probabilities(ask_teacher(task, pool["weak"]["image"]))
        if turn.observes:
            teaching.observe(probabilities.amax(dim=-1))
        if not turn.labels:
            return 0.0
        pseudo_labels = self._weigh(probabilities)
        student = _ask(task.network, pool) if turn.compares else None
        self.counts.add(probabilities, pseudo_labels.weights, student)
        if logits is None:
            return 0.0
        return self._loss(logits, labelled_loss, probabilities, pseudo_labels, teaching.since_burn_in(task.global_step))

    def _loss(
        self,
        logits: Tensor,
        labelled_loss: Tensor,
        probabilities: Tensor,
        labels: PseudoLabels,
        progress: tuple[int, int],
    ) -> Tensor:
        """The loss of strong views, weighted and bounded, so many steps after burn-in of so many."""
        if self.rule is None:
            finite = probabilities.isfinite().all(dim=-1, keepdim=True)
            # What a broken teacher says is replaced by the student's own answer, which asks for nothing.
            wanted = torch.where(finite, probabilities, logits.detach().float().softmax(dim=-1))
            pool = ramp(*progress) * consistency_loss(logits, wanted)
        else:
            pool = pseudo_label_loss(logits, labels)
        pool = self.semi.weight * pool
        self.counts.add_losses(pool.detach(), labelled_loss.detach())
        total = capped(pool, labelled_loss)
        if isinstance(self.rule, FreeMatch) and self.semi.fairness and self.semi.weight:
            rule = self.rule
            fairness = fairness_loss(logits, labels.weights, rule.mean_probabilities, rule.label_shares)
            total = total + self.semi.fairness * fairness
        return total

    @torch.no_grad()
    def accepts(self, probabilities: Tensor) -> Tensor:
        """The weights, B, that the rule would give images of these probabilities, B K."""
        if self.rule is None:
            return torch.ones(len(probabilities), device=probabilities.device)
        if isinstance(self.rule, FixMatch):
            return self.rule(probabilities).weights
        return self.rule.weights(probabilities)

    def reading(self, scores: Scores, accuracy: float) -> Reading | None:
        """What is known at a validation, and begin to count anew; None if nothing was counted.

        Args:
            scores: Of the validation images, with the column ``accepted``.
            accuracy: On them.
        """
        figures = self.counts.figures()
        if not figures.images:
            return None
        self.counts.reset()
        right = scores.column("label") == scores.column("predicted")
        estimate = estimated_accuracy(scores.column(ACCEPTED), right)
        error = (accuracy * (1 - accuracy) / max(len(right), 1)) ** 0.5
        return Reading(figures, estimate, accuracy, error)

    def _weigh(self, probabilities: Tensor) -> PseudoLabels:
        if self.rule is None:
            finite = probabilities.isfinite().all(dim=-1)
            return PseudoLabels(probabilities, finite.float())
        return self.rule(probabilities)


def _rule(recipe: Recipe, classes: int) -> FixMatch | FreeMatch | SoftMatch | None:
    """The rule that accepts pseudo-labels; None where all count alike (mean teacher)."""
    semi = recipe.semi
    if semi.method == "fixmatch":
        try:
            check_threshold(semi.threshold, recipe.method.label_smoothing, classes)
        except ValueError as error:
            raise UserError(f"semi.threshold={semi.threshold:g}: {error} (method.label_smoothing)") from error
        return FixMatch(semi.threshold)
    if semi.method == "mean_teacher":
        return None
    return FreeMatch(classes) if semi.method == "freematch" else SoftMatch(classes)


def _ask(network: nn.Module, pool: Batch) -> Tensor:
    """What the student says of weak views."""
    with torch.no_grad(), evaluating(network):
        answer: Tensor = network(pool["weak"]["image"])
    return answer
