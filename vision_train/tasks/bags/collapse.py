"""Signs of failed training, in sentences that name the recipe keys that help."""

from __future__ import annotations

import math

from vision_train.recipe.recipe import Recipe
from vision_train.tasks.auroc import macro_auroc
from vision_train.tasks.bags.scores import predicted, probabilities
from vision_train.tasks.chance import chance_warnings
from vision_train.tasks.learning import Learnt, lucky_auroc
from vision_train.tasks.scores import Scores

RANKED = 0.8
"""AUROC above which a network has learnt, slowly as its loss may fall."""
FEW = 2.0
"""Instances that attention rests on, below which it counts as collapsed: exp of its entropy."""
SMALL_BAG = 20
"""Instances of a bag below which attention to a few is no surprise."""


def warnings_of(recipe: Recipe, learnt: Learnt, scores: Scores, split: str) -> tuple[list[str], bool]:
    """Say whether the network guesses, training failed to learn, or attention collapsed on too few instances.

    A network that takes all bags for one class, but ranks them better than luck does, does not guess.

    Args:
        recipe: Of the run; its keys are what the remedies name.
        learnt: Of the last epoch of training; empty where nothing was trained.
        scores: Of the bags that the run is judged by.
        split: Name of their split.

    Returns:
        What is wrong, in sentences, and whether the result could be that of guessing.
    """
    labels = scores.column("label").long()
    auroc, bags = macro_auroc(probabilities(scores), labels), recipe.kind.noun
    by_luck = not auroc > lucky_auroc(labels)
    guessing = chance_warnings(predicted(scores), labels, split, learnt, bags) if by_luck else []
    said = [*guessing]
    if learnt.little and not auroc > RANKED:  # which says more of the cause than the result does
        said = [
            f"the bag loss of the last epoch is {learnt.loss:.3f}, where guessing has {learnt.loss_of_guessing:.3f}: "
            f"little was learnt. {_remedy(recipe)}"
        ]
    entropy, instances = scores.column("attention_entropy"), scores.column("instances")
    rests_on = (entropy * instances.clamp_min(2).log()).exp().median().item() if len(entropy) else math.nan
    if rests_on < FEW and instances.median().item() >= SMALL_BAG:
        said.append(
            f"attention rests on {rests_on:.1f} instances in half of the bags or more. If more than that carry a "
            "label, spread it: raise method.entropy_weight (0.05), or model.args.branches of acmil_ga"
        )
    return said, bool(guessing)


def _remedy(recipe: Recipe) -> str:
    hiding = recipe.method.hiding
    if hiding is None:
        change = "Lower method.entropy_weight, raise" if recipe.method.entropy_weight else "Raise"
        simpler = "" if recipe.model.name == "mean" else ", or try model.name=mean, which has no attention to train"
        return f"{change} optim.lr or trainer.max_epochs{simpler}"
    bound = "" if hiding.k_max_fraction else "bound it by method.hiding.k_max_fraction=0.02, "
    return (
        "Raise trainer.max_epochs, or hide less: method.hiding hides up to "
        f"{hiding.top_k * hiding.drop_ratio:g} of the instances that each branch looks at most; where fewer carry a "
        f"bag's label, all of them can be hidden. Lower method.hiding.top_k or drop_ratio, {bound}begin later with "
        "method.hiding.warmup_epochs, or hide nothing with method.hiding=null"
    )
