"""The backbone of a visual branch, from ``model.args``: for all tasks whose networks see by one."""

from __future__ import annotations

from typing import Any

from torch import nn

from models.detr.backbones import build_single_map
from vision_train.errors import UserError

KEYS = ("backbone", "backbone_args", "stride")
"""Arguments that the backbone is made of."""
USUAL = "resnet50"
USUAL_STRIDE = 32


def build_backbone(args: dict[str, Any]) -> tuple[nn.Module, int]:
    """Build the backbone that ``model.args`` name, which gives one map.

    Args:
        args: All of ``model.args``; those that are not of the backbone are left alone.

    Returns:
        The backbone with random weights, and the channels of its map.

    Raises:
        UserError: It does not exist, refuses its arguments or gives no map of that stride.
    """
    name, of_backbone = str(args.get("backbone", USUAL)), mapping_of(args, "backbone_args")
    try:
        return build_single_map(name, stride_of(args), **of_backbone)
    except ValueError as error:
        raise UserError(f"model.args.backbone={name}: {error}; name another model of timm") from error


def stride_of(args: dict[str, Any]) -> int:
    """Pixels from one cell of the map to the next."""
    return int(args.get("stride", USUAL_STRIDE))


def mapping_of(args: dict[str, Any], key: str) -> dict[str, Any]:
    """The mapping under a key of ``model.args``; an empty one where there is none.

    Raises:
        UserError: It is something else.
    """
    given = args.get(key) or {}
    if not isinstance(given, dict):
        raise UserError(f"model.args.{key}: is {given}; must be a mapping")
    return given
