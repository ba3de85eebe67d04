"""What can be said of a weights file beyond its tensors: which network, which pixels, which recipe."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import timm

from vision_train.artefacts import Table
from vision_train.checkpoints import Provenance, Weights, provenance_of
from vision_train.checkpoints.fitting import Fit, fitting_model
from vision_train.checkpoints.settle import shown
from vision_train.errors import UserError
from vision_train.recipe import builtin_recipes, load_recipe
from vision_train.recipe.preprocessing import Preprocessing
from vision_train.run.features import compare_features


def described(weights: Weights, named: str) -> dict[str, Any]:
    """Architecture, input size, normalisation, classes and the recipe to use, each with who says so.

    Args:
        weights: What a file holds.
        named: What the user called it.

    Raises:
        UserError: A file beside the weights that says more cannot be read.
    """
    told = provenance_of(weights, named)
    own = weights.recipe is not None
    fit = None if own else fitting_model(weights, _timm_architecture(told))
    facts: dict[str, Any] = {"architecture": _architecture(told, fit, own=own)}
    if fit is not None or told.get("image_size") is not None:
        facts |= {"input size": _input_size(told, fit), **_pixels(told)}
    facts |= {"classes": told.get("classes"), "recipe": _recipe(weights, named, fit)}
    if told.remarks:
        facts["remarks"] = "; ".join(told.remarks)
    return facts


def compared_features(
    weights: Weights, named: str, model: str | None, image_size: int | None, images: Sequence[Path]
) -> Table:
    """The features of images under each assumption, of the model that is named or else found.

    Raises:
        UserError: No model fits, or an image cannot be read.
    """
    told = provenance_of(weights, named)
    fit = None if model else fitting_model(weights, _timm_architecture(told))
    if model is None and fit is None:
        raise UserError(f"--features: no model of timm takes the weights of {weights.path}; name one with --model")
    name = model or (fit.name if fit else "")
    size = image_size or told.get("image_size") or (fit.image_size if fit else 224)
    if not isinstance(size, int):
        raise UserError(f"--features: {told.sources['image_size']} says images of {shown(size)}; name --image-size")
    keys = ("mean", "std", "interpolation")
    pixels = Preprocessing(**{key: told.get(key) for key in keys if told.get(key) is not None})
    try:
        return compare_features(weights, name, size, pixels, images)
    except ValueError as error:
        raise UserError(f"--features with the model {name}: {error}") from error


def _timm_architecture(told: Provenance) -> str | None:
    named = told.get("architecture")
    return named if isinstance(named, str) and timm.is_model(named.partition(".")[0]) else None


def _architecture(told: Provenance, fit: Fit | None, *, own: bool) -> str:
    named = told.get("architecture")
    said = f"{named} ({told.sources['architecture']})" if named else ""
    if own or fit is None:
        return said or "no model of timm takes nearly all of these tensors"
    how = "every tensor has its place" if fit.is_whole else fit.report.summary().partition(": ")[2].splitlines()[0]
    return f"{fit.name} of timm, by its shapes ({how})" + (f"; {said}" if said and named != fit.name else "")


def _input_size(told: Provenance, fit: Fit | None) -> str:
    if (size := told.get("image_size")) is not None:
        return f"{shown(size)} ({told.sources['image_size']})"
    return f"{fit.image_size} (by its shapes, or timm's for this model)" if fit else "nobody says"


def _pixels(told: Provenance) -> dict[str, str]:
    """Normalisation, crop and interpolation; what nobody says is assumed."""
    assumed = Preprocessing()

    def line(*keys: str) -> str:
        texts = []
        for key in keys:
            value, source = told.get(key), told.sources.get(key)
            texts.append(
                f"{key} {shown(getattr(assumed, key))} (assumed; nobody says)"
                if value is None
                else f"{key} {shown(value)} ({source})"
            )
        return ", ".join(texts)

    return {"normalisation": line("mean", "std"), "resizing": line("crop_share", "interpolation")}


@cache
def _recipes() -> dict[str, str]:
    """Model of timm -> the first recipe that trains it."""
    found: dict[str, str] = {}
    for name in builtin_recipes():
        recipe = load_recipe(name, runnable=False)
        if timm.is_model(recipe.model.name) and "/" in name and not name.startswith("studies"):
            found.setdefault(recipe.model.name, name)
    return found


def _recipe(weights: Weights, named: str, fit: Fit | None) -> str:
    start = shlex.quote(f"model.checkpoint={named}")
    if weights.recipe is not None:
        return f"{weights.recipe.get('name')}, which it was trained with; start from it with {start}"
    if fit is None:
        return "any whose network it fits (see `in a recipe` above, or try --model)"
    name = fit.name
    recipes = _recipes()
    near = difflib.get_close_matches(name, recipes, n=1, cutoff=0.0)
    recipe = recipes[name] if name in recipes else recipes[near[0]]
    keys = [] if name in recipes else [f"model.name={name}"]
    return " ".join(["vision-train fit", recipe, *keys, start, "data.root=FOLDER"])
