"""A network that guesses, told in sentences that name the recipe keys that help: the same for all tasks."""

from __future__ import annotations

import math

from torch import Tensor

from vision_train.tasks.class_balance import balanced_accuracy
from vision_train.tasks.learning import Learnt, guessing
from vision_train.wording import count_of, percent

LEARN_MORE = (
    "Change optim.lr (lower it where the loss rose), train longer (trainer.max_steps or trainer.max_epochs), or start "
    "from weights with model.checkpoint"
)
"""What helps where little was learnt."""


def chance_warnings(predicted: Tensor, labels: Tensor, split: str, learnt: Learnt, noun: str) -> list[str]:
    """Say whether the result of a classifier could be that of guessing.

    Args:
        predicted: The class that each sample is taken for, N int64.
        labels: The class that each is of, N int64.
        split: Name of their split.
        learnt: Of the last epoch of training; empty where nothing was trained.
        noun: What the samples are, in the plural.
    """
    chance, lucky = guessing(labels)
    if math.isnan(chance) or (reached := balanced_accuracy(predicted, labels)) > lucky:
        return []
    because = _cause(split, learnt, noun) if lucky < 1 else too_few(split, f"more {noun} of each class")
    return [
        f"balanced accuracy on {split} is {percent(reached, 1)}, which {count_of(len(labels), noun)} cannot tell from "
        f"guessing ({percent(chance, 1)}). {because}"
    ]


def too_few(split: str, wanted: str) -> str:
    """What helps where even the best result could be luck, so that nothing is known of its cause.

    Args:
        split: Name of the split.
        wanted: What there should be more of in it.
    """
    return f"No result of so few could be told from it: put {wanted} into the split {split}"


def _cause(split: str, learnt: Learnt, noun: str) -> str:
    """Why, as far as the training loss says, and what helps."""
    compared = f"whether the labels belong to their {noun} and whether train and {split} show the same"
    if learnt.is_empty:
        return (
            "Either little was learnt: if the training loss in the report did not fall, change optim.lr, train longer "
            "(trainer.max_steps or trainer.max_epochs), or set model.checkpoint. Or what was learnt does not carry "
            f"over: see {compared}"
        )
    losses = (
        f"the training loss of the last epoch is {learnt.loss:.3f}, where guessing has {learnt.loss_of_guessing:.3f}"
    )
    if learnt.loss < learnt.loss_of_guessing and not learnt.little:
        return (
            f"What was learnt ({losses}) does not carry over: see {compared}; train on more {noun}, augment more, or "
            "set model.checkpoint"
        )
    return f"Little was learnt: {losses}. {LEARN_MORE}"
