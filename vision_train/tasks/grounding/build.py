"""From a recipe to a grounding network with random weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields
from typing import Any, NamedTuple

from models.grounding.transvg import TransVG, TransVGSizes, build_transvg
from models.grounding.vltvg import VLTVG, VLTVGSizes, build_vltvg
from models.text import BertSizes
from vision_train.errors import UserError
from vision_train.recipe.recipe import Recipe
from vision_train.tasks.single_map import KEYS, build_backbone, mapping_of

GroundingNetwork = TransVG | VLTVG
OF_DATA = {"image_size": "data.image_size", "text_length": "data.max_tokens"}
"""Sizes that the data decide -> the key that says them."""


class _Known(NamedTuple):
    """A network that a recipe may name."""

    sizes: type[Any]
    build: Callable[..., GroundingNetwork]


NETWORKS = {"transvg": _Known(TransVGSizes, build_transvg), "vltvg": _Known(VLTVGSizes, build_vltvg)}


def build_network(recipe: Recipe) -> GroundingNetwork:
    """Build the network that a recipe names.

    Raises:
        UserError: There is no such network, it refuses its arguments, or the extra for texts is not installed.
    """
    if (name := recipe.model.name) not in NETWORKS:
        raise UserError(
            f"model.name={name}: a grounding network is {' or '.join(NETWORKS)}; name its backbone by "
            "model.args.backbone"
        )
    known, args = NETWORKS[name], recipe.model.args
    text = _text_sizes(recipe, mapping_of(args, "text"))
    sizes = _sizes(recipe, known.sizes, args)
    visual, channels = build_backbone(args)
    try:
        return known.build(visual, channels, text, sizes)
    except ValueError as error:
        raise UserError(f"model.args.{error}") from error
    except ModuleNotFoundError as error:
        raise UserError(
            f"task=grounding reads texts by transformers ({error}); pip install 'vision-train[text]'"
        ) from error


def _text_sizes(recipe: Recipe, args: dict[str, Any]) -> BertSizes:
    """The BERT's sizes, with as many pieces of words as the tokenizer of the data; BERT's own before it is known."""
    known = [field.name for field in fields(BertSizes) if field.name != "vocab_size"]
    if unknown := sorted(args.keys() - {*known}):
        raise UserError(f"model.args.text.{unknown[0]}: unknown; there are {', '.join(known)}")
    pieces = {} if recipe.data.pieces is None else {"vocab_size": recipe.data.pieces}
    try:
        return BertSizes(**pieces, **args)
    except ValueError as error:
        raise UserError(f"model.args.text.{error}") from error


def _sizes(recipe: Recipe, sizes: type[Any], args: dict[str, Any]) -> Any:
    """The network's sizes; those that the data decide are the data's."""
    for name, key in OF_DATA.items():
        if name in args:
            raise UserError(f"model.args.{name}: is that of the data; set {key}")
    of_data = {"image_size": recipe.data.image_size, "text_length": recipe.data.max_tokens}
    names = [field.name for field in fields(sizes)]
    known = [name for name in names if name not in OF_DATA]
    beside = (*KEYS, "text")
    if unknown := sorted(args.keys() - {*known, *beside}):
        there = ", ".join(dict.fromkeys([*beside, *known]))
        raise UserError(f"model.args.{unknown[0]}: unknown; there are {there}")
    given = {**args, **of_data}
    try:
        return sizes(**{name: given[name] for name in names if name in given})
    except ValueError as error:
        raise UserError(f"model.args.{error}") from error
