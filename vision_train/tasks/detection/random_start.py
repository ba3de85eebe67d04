"""Refusing a start from which a large detector learns nothing on few boxes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from vision_train.checkpoints import LoadReport, fresh_names
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe

LARGE = 10_000_000
"""Parameters from which a network needs weights to start from, where boxes are few."""
FEW = 3_000
"""Boxes below which they are few."""
BACKBONE = "backbone."


def refuse_random_start(network: nn.Module, recipe: Recipe, reports: Sequence[LoadReport], boxes: int) -> None:
    """Refuse to train a network whose backbone is random.

    The backbone decides: what stands behind it reads its features alone, and learns from few boxes only if they mean
    something. It counts as random where files fill less than half of its parameters.

    Args:
        network: The detector.
        recipe: Of the run; ``model.fresh`` may name the backbone.
        reports: What files filled.
        boxes: In the training images.

    Raises:
        UserError: The network has more than ten million parameters, training has fewer than 3,000 boxes, and
            ``model.fresh`` does not name the whole backbone.
    """
    parameters = sum(each.numel() for each in network.parameters())
    inside = {name: each.numel() for name, each in network.named_parameters() if name.startswith(BACKBONE)}
    filled = sum(inside.get(name, 0) for report in reports for name in _filled(report))
    if parameters <= LARGE or boxes >= FEW or 2 * filled >= sum(inside.values()):
        return
    if inside.keys() <= set(fresh_names(network, recipe.model)):
        return
    raise UserError(
        f"model.checkpoint: the backbone would start from random weights. A detector of {parameters / 1e6:.0f} million "
        f"parameters does not learn from {boxes:,} boxes that way: its AP stays near 0. Start from a detector "
        "(model.checkpoint=FILE) or from a backbone (model.checkpoint='{backbone: FILE}', where FILE may be "
        "timm:resnet50.tv2_in1k), or ask for random weights with model.fresh=['*']"
    )


def _filled(report: LoadReport) -> list[str]:
    """Names in the network of what a file filled."""
    prefix = f"{report.part}." if report.part else ""
    return [f"{prefix}{name}" for name in (*report.matched, *report.resized)]
