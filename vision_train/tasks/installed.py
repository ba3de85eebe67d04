"""What computes the attention of a task's network, as the recipe asks for it."""

from __future__ import annotations

from torch import nn

from models.timm_attention import AttentionReceipt, install_attention
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe


def installed_attention(network: nn.Module, recipe: Recipe) -> AttentionReceipt:
    """Let a network compute its attention as ``model.attention`` says, in place.

    Raises:
        UserError: It cannot.
    """
    try:
        return install_attention(network, recipe.model.attention)
    except ValueError as error:
        raise UserError(f"model.attention={recipe.model.attention}: {error}") from error
