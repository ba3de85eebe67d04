"""A network for bags as a program of its own: one bag of any number of instances at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from models.mil.bags import BagNetwork
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.exported import Exported

DRAWN = 50
"""Instances of a bag that is drawn."""
INSTANCES = {0: "instances"}


def exported(network: BagNetwork, recipe: Recipe, classes: Sequence[str], size: tuple[int, int] | None) -> Exported:
    """The network for bags whose features are computed already.

    Args:
        network: With its weights.
        recipe: Says what the features are.
        classes: Names of the classes.
        size: Must be None: there are no images.

    Raises:
        UserError: A size is given.
    """
    if size is not None:
        raise UserError(f"--size {size[0]} {size[1]}: task={recipe.task} takes features, not images; leave it out")
    width, encoder = network.in_features, recipe.data.encoder
    outputs = {
        "logits": "classes, float32",
        "probabilities": "classes, float32: their softmax, for each of `classes`",
    }
    if network.attends:
        outputs["attention"] = "instances, float32: mean over branches and heads; sums to 1"
    card: dict[str, Any] = {
        "task": recipe.task,
        "model": recipe.model.name,
        "classes": [*classes],
        "inputs": {"features": f"instances x {width}, float32: one bag; any number of instances from 1 on"},
        "outputs": outputs,
        "preprocessing": {"features": width, "encoder": encoder},
    }
    return Exported(
        BagProgram(network),
        partial(draw, width),
        tuple(outputs),
        card,
        inputs_of=bags_of,
        free={"features": INSTANCES, "attention": INSTANCES, "logits": {}, "probabilities": {}},
    )


class BagProgram(nn.Module):
    """One bag (N D) -> logits, probabilities (C each) and, where there is one, attention (N).

    Args:
        network: Put into evaluation mode, in float32 on the CPU.
    """

    def __init__(self, network: BagNetwork) -> None:
        super().__init__()
        self.network = network.cpu().float()
        self.eval()

    def forward(self, features: Tensor) -> tuple[Tensor, ...]:
        """What the network says of the bag."""
        output = self.network(features[None])
        logits, attention = output.bag_logits[0], output.bag_attention
        return (logits, logits.softmax(dim=0), *(() if attention is None else (attention[0],)))


def draw(width: int, generator: torch.Generator) -> dict[str, Tensor]:
    """One bag of random features."""
    return {"features": torch.randn(DRAWN, width, generator=generator)}


def bags_of(batch: Mapping[str, Any]) -> Iterator[dict[str, Tensor]]:
    """Each bag of a batch without its padding."""
    for features, padding in zip(batch["features"], batch["padding_mask"], strict=True):
        yield {"features": features[~padding].float()}
