"""Refusing a start from which a large detector learns nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import nn

from vision_train.checkpoints import LoadReport, fresh_names
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.wording import first_named

LARGE = 10_000_000
"""Parameters from which a network needs weights to start from, where boxes are few."""
FEW = 3_000
"""Boxes below which they are few."""
BACKBONE = "backbone."
REMEDIES = (
    "Start from a detector (model.checkpoint=FILE) or from a backbone (model.checkpoint='{backbone: FILE}', where FILE "
    "may be timm:resnet50.tv2_in1k)"
)


def refuse_random_start(
    network: nn.Module,
    recipe: Recipe,
    reports: Sequence[LoadReport],
    boxes: int,
    parts: Mapping[str, Sequence[str]],
) -> None:
    """Refuse to train a large network whose backbone is random, on few boxes or in part never.

    The backbone decides: what stands behind it reads its features alone, and learns from few boxes only if they mean
    something. It counts as random where files fill less than half of its parameters. What is frozen must come from a
    file however many boxes there are, since it stays as it is.

    Args:
        network: The detector.
        recipe: Of the run; ``model.fresh`` may name the backbone.
        reports: What files filled.
        boxes: In the training images.
        parts: Names under which a file fills several modules or tensors together, and their dotted names.

    Raises:
        UserError: The network has more than ten million parameters, and training has fewer than 3,000 boxes while
            ``model.fresh`` does not name the whole backbone, or ``model.freeze`` names what neither a file fills nor
            ``model.fresh`` names.
    """
    parameters = sum(each.numel() for each in network.parameters())
    if parameters <= LARGE:
        return
    settled = {name for report in reports for name in report.filled(parts)}
    inside = {name: each.numel() for name, each in network.named_parameters() if name.startswith(BACKBONE)}
    filled = sum(count for name, count in inside.items() if name in settled)
    asked_for = set(fresh_names(network, recipe.model))
    if boxes < FEW and 2 * filled < sum(inside.values()) and not inside.keys() <= asked_for:
        raise UserError(
            f"model.checkpoint: the backbone would start from random weights. A detector of {parameters / 1e6:.0f} "
            f"million parameters does not learn from {boxes:,} boxes that way: its AP stays near 0. {REMEDIES}, or ask "
            "for random weights with model.fresh=['*']"
        )
    settled |= asked_for
    if stuck := [name for name, each in network.named_parameters() if not each.requires_grad and name not in settled]:
        raise UserError(
            f"model.freeze: would keep {first_named(stuck)} at random values, as no file of model.checkpoint fills "
            f"them. {REMEDIES}, train them with model.freeze=[], or ask for random weights with model.fresh=['*']"
        )
