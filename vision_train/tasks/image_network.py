"""Networks for images, and what computes their attention, as a recipe asks for them."""

from __future__ import annotations

from torch import nn

from models.positions import fix_positions
from models.timm_attention import AttentionReceipt, install_attention
from models.vit import build_model, initialise_head
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe


def build_image_network(recipe: Recipe, outputs: int) -> nn.Module:
    """Build a model of timm or ours that gives so many numbers of an image.

    Raises:
        UserError: The model does not exist, refuses its arguments or does not take images of this size, or its
            positions cannot be fixed.
    """
    model = recipe.model
    try:
        network = build_model(model.name, num_classes=outputs, image_size=recipe.data.height_and_width, **model.args)
    except ValueError as error:
        raise UserError(f"model.name={model.name}: {error}") from error
    if model.positions == "sincos":
        try:
            fix_positions(network)
        except ValueError as error:
            raise UserError(f"model.positions=sincos: {error}; leave it `learned`") from error
    if model.head_std is not None:
        initialise_head(network, model.head_std)
    return network


def installed_attention(network: nn.Module, recipe: Recipe) -> AttentionReceipt:
    """Let a network compute its attention as ``model.attention`` says, in place.

    Raises:
        UserError: It cannot.
    """
    try:
        return install_attention(network, recipe.model.attention)
    except ValueError as error:
        raise UserError(f"model.attention={recipe.model.attention}: {error}") from error
