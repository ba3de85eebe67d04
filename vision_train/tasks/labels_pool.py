"""What a run asks of a task that labels a pool between phases; a task that does not know how refuses."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.semi.answers import Answer
from vision_train.semi.label_file import PseudoLabel


class LabelsPool:
    """The part of a task that is asked about unlabelled samples under several views."""

    recipe: Recipe
    label_metric: str = ""
    """The validation metric that says how often labels of all samples would be right, without a split's prefix; empty
    where labels are not held against the truth (:meth:`label_known`)."""

    def score_weights(self) -> Mapping[str, float]:
        """Weights of the scores by which rounds select pseudo-labels, by name of the score.

        Raises:
            UserError: The recipe asks for scores that the network cannot give.
        """
        raise self._labels_nothing()

    def pool_views(self, scores: Collection[str]) -> int:
        """Weak and as many strong views under which a sample is looked at, beside that of validation.

        Args:
            scores: Names of the scores that are wanted.
        """
        return self.recipe.semi.views

    def answer_pool(self, ids: Sequence[str], views: Sequence[dict[str, Any]], scores: Collection[str]) -> list[Answer]:
        """Say what the network, in evaluation mode and without gradients, sees in samples of the pool.

        Args:
            ids: B.
            views: Batches of views of the B samples, in their order; the first is that of validation.
            scores: Names of the scores that are wanted.
        """
        raise self._labels_nothing()

    def label_pool(self, answers: Sequence[Sequence[Answer]]) -> list[PseudoLabel]:
        """Make labels of the answers of one or several networks to the same samples, in the same order.

        What is wrong with them is added to the task's ``warnings``.
        """
        raise self._labels_nothing()

    def label_known(
        self, answers: Sequence[Sequence[Answer]], truths: Sequence[Any], pool: int
    ) -> tuple[list[PseudoLabel], list[bool]]:
        """Label samples whose truth is known by the rule of the pool, to see how often that is right.

        Args:
            answers: As for :meth:`label_pool`.
            truths: Of the samples, in their order.
            pool: Samples of the pool; what is said of its size is taken in proportion.

        Returns:
            The labels, and whether each is the truth.
        """
        raise self._labels_nothing()

    def _labels_nothing(self) -> UserError:
        method, task = self.recipe.semi.method, self.recipe.task
        return UserError(f"semi.method={method}: task={task} labels no pool between phases; set it to none")
