"""What a task says of test-time augmentation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from vision_train.recipe.recipe import Recipe


@dataclass(frozen=True)
class AugmentedViews:
    """Several views of each sample, over which a task averages its answers."""

    recipe: Recipe
    """How the samples are read of which the views are made."""
    count: int
    """Views of each sample."""
    described: str
    """What they are, in words."""
    averaged: Callable[[nn.Module], nn.Module]
    """Makes of the network one that takes the samples and answers with the mean over their views."""
