"""The sizes of the text encoder: those that a recipe names, or those of the BERT whose folder it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from models.text import BertSizes
from vision_train.checkpoints.folders import weights_files
from vision_train.data.phrases import VOCABULARY, WHOLE_TOKENIZER
from vision_train.errors import UserError
from vision_train.files import printable, read_mapping
from vision_train.recipe.recipe import Recipe

PART = "text"
"""The part of the network that is a BERT, and its arguments."""
CONFIG = "config.json"
WORDS = (VOCABULARY, WHOLE_TOKENIZER)


def settle(recipe: Recipe) -> Recipe:
    """Fill in the sizes of the BERT that the text encoder starts from, else of that whose words it reads.

    They stand in the recipe then, so that the run needs its folder no more.

    Args:
        recipe: A checked recipe.

    Returns:
        The recipe, as it is where no folder says what its BERT is like.

    Raises:
        UserError: The recipe names other sizes than the weights have, the folder is of another network, or the recipe
            reads words that these weights have not learnt.
    """
    given = recipe.model.args.get(PART) or {}
    if not isinstance(given, Mapping):
        return recipe  # which is refused when the network is built
    start, tokenizer = recipe.model.start.get(PART), recipe.data.tokenizer
    if start is not None:
        named = f"model.checkpoint.{PART}={start}"
        found = weights_files(start)
        config = found.companions().get(CONFIG)
        if config is None:
            return recipe
        sizes = _sizes(config, found.folder / CONFIG, named)
        _refuse_others(given, sizes, named)
        if tokenizer is None and recipe.data.vocabulary is None:
            recipe = _with_tokenizer(recipe, found.folder, named)
        return _with_sizes(recipe, sizes)
    if given or tokenizer is None or not (file := Path(tokenizer) / CONFIG).is_file():
        return recipe
    named = f"data.tokenizer={printable(tokenizer)}"
    return _with_sizes(recipe, _sizes(read_mapping(file, "download the folder again"), file, named))


def _with_tokenizer(recipe: Recipe, folder: Path, named: str) -> Recipe:
    """The recipe with the tokenizer that lies beside the weights: they have learnt its words, and no others."""
    if not any((folder / name).is_file() for name in WORDS):
        raise UserError(
            f"{named}: has learnt the words of its own tokenizer, which is not there ({' or '.join(WORDS)}); put it "
            "there, or name its folder with data.tokenizer"
        )
    return replace(recipe, data=replace(recipe.data, tokenizer=str(folder)))


def _sizes(config: Mapping[str, Any], file: Path, named: str) -> dict[str, int]:
    """The sizes that a recipe may name; how many words there are its tokenizer says."""
    try:
        sizes = asdict(BertSizes.of_config(config))
    except ValueError as error:
        raise UserError(f"{named}: {printable(str(file))} says {error}; name the folder of a BERT") from error
    return {key: value for key, value in sizes.items() if key != "vocab_size"}


def _refuse_others(given: Mapping[str, Any], sizes: Mapping[str, int], named: str) -> None:
    differing = [key for key, value in given.items() if key in sizes and value != sizes[key]]
    if differing:
        shown = ", ".join(f"model.args.{PART}.{key}={given[key]}" for key in differing)
        theirs = ", ".join(f"{key} {sizes[key]}" for key in differing)
        raise UserError(f"{shown}: the weights of {named} have {theirs} ({CONFIG}); leave it out")


def _with_sizes(recipe: Recipe, sizes: Mapping[str, int]) -> Recipe:
    args = {**recipe.model.args, PART: {**(recipe.model.args.get(PART) or {}), **sizes}}
    return replace(recipe, model=replace(recipe.model, args=args))
