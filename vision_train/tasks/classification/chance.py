"""A classifier that guesses, told in sentences that name the recipe keys that help."""

from __future__ import annotations

from vision_train.tasks.class_balance import balanced_accuracy
from vision_train.tasks.learning import Learnt, guessing
from vision_train.tasks.scores import Scores


def chance_warnings(scores: Scores, split: str, learnt: Learnt) -> list[str]:
    """Say whether the result could be that of guessing.

    Args:
        scores: Of the images that the run is judged by.
        split: Name of their split.
        learnt: Of the last epoch of training; empty where nothing was trained.
    """
    labels = scores.column("label").long()
    reached = balanced_accuracy(scores.column("predicted").long(), labels)
    chance, lucky = guessing(labels)
    if not reached <= lucky:
        return []
    return [
        f"balanced accuracy on {split} is {reached:.1%}, which {len(labels)} images cannot tell from guessing "
        f"({chance:.1%}). {_too_few(split) if lucky >= 1 else _cause(split, learnt)}"
    ]


def _too_few(split: str) -> str:
    """What helps where even the best result could be luck, so that nothing is known of its cause."""
    return f"No result of so few could be told from it: put more images of each class into the split {split}"


def _cause(split: str, learnt: Learnt) -> str:
    """Why, as far as the training loss says, and what helps."""
    compared = f"whether the labels belong to their images and whether train and {split} show the same"
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
            f"What was learnt ({losses}) does not carry over: see {compared}; train on more images, augment more, or "
            "set model.checkpoint"
        )
    return (
        f"Little was learnt: {losses}. Change optim.lr (lower it where the loss rose), train longer "
        "(trainer.max_steps or trainer.max_epochs), or start from weights with model.checkpoint"
    )
