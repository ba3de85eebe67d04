"""From a recipe to a grounding network with random weights."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from models.detr.backbones import build_single_map
from models.grounding.transvg import TransVG, TransVGSizes, build_transvg
from models.text import BertSizes
from vision_train.data.phrases.build import tokenizer_for
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe

NETWORK = "transvg"
OF_DATA = {"image_size": "data.image_size", "text_length": "data.max_tokens"}
"""Sizes that the data decide -> the key that says them."""


def build_network(recipe: Recipe) -> TransVG:
    """Build the network that a recipe names.

    Raises:
        UserError: There is no such network, or it refuses its arguments.
    """
    if recipe.model.name != NETWORK:
        raise UserError(
            f"model.name={recipe.model.name}: a grounding network is {NETWORK}; name its backbone by "
            "model.args.backbone"
        )
    args = dict(recipe.model.args)
    backbone, of_backbone = str(args.pop("backbone", "resnet50")), _mapping(args, "backbone_args")
    text = _text_sizes(recipe, _mapping(args, "text"))
    sizes = _sizes(recipe, args)
    try:
        network, channels = build_single_map(backbone, sizes.stride, **of_backbone)
    except ValueError as error:
        raise UserError(f"model.args.backbone={backbone}: {error}; name another model of timm") from error
    try:
        return build_transvg(network, channels, text, sizes)
    except ValueError as error:
        raise UserError(f"model.args.{error}") from error


def _mapping(args: dict[str, Any], key: str) -> dict[str, Any]:
    given = args.pop(key, None) or {}
    if not isinstance(given, dict):
        raise UserError(f"model.args.{key}: is {given}; must be a mapping")
    return given


def _text_sizes(recipe: Recipe, args: dict[str, Any]) -> BertSizes:
    """The BERT's sizes, with as many pieces of words as the tokenizer of the data has."""
    known = [field.name for field in fields(BertSizes) if field.name != "vocab_size"]
    if unknown := sorted(args.keys() - {*known}):
        raise UserError(f"model.args.text.{unknown[0]}: unknown; there are {', '.join(known)}")
    try:
        return BertSizes(vocab_size=len(tokenizer_for(recipe.data).vocabulary), **args)
    except ValueError as error:
        raise UserError(f"model.args.text.{error}") from error


def _sizes(recipe: Recipe, args: dict[str, Any]) -> TransVGSizes:
    for name, key in OF_DATA.items():
        if name in args:
            raise UserError(f"model.args.{name}: is that of the data; set {key}")
    known = [field.name for field in fields(TransVGSizes) if field.name not in OF_DATA]
    if unknown := sorted(args.keys() - {*known}):
        there = ", ".join(["backbone", "backbone_args", "text", *known])
        raise UserError(f"model.args.{unknown[0]}: unknown; there are {there}")
    try:
        return TransVGSizes(image_size=recipe.data.image_size, text_length=recipe.data.max_tokens, **args)
    except ValueError as error:
        raise UserError(f"model.args.{error}") from error
