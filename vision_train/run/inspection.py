"""What can be said of a weights file beyond its tensors: which network, which pixels, which recipe."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Mapping, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import timm

from models.vit import build_model
from vision_train.checkpoints import Provenance, Weights, provenance_of
from vision_train.checkpoints.fitting import Fit, fitting_model
from vision_train.checkpoints.settle import KEYS, left_out, own_value, published_otherwise, same, shown, written
from vision_train.data.image_section import USUAL_IMAGE_SIZE
from vision_train.errors import UserError
from vision_train.recipe import Recipe, builtin_recipes, load_recipe
from vision_train.recipe.preprocessing import Preprocessing
from vision_train.run.features import Compared, compare_features
from vision_train.tasks import kind_of_data, task_packages


def described(weights: Weights, named: str, key: str | None = None, *, search: bool = True) -> dict[str, Any]:
    """Architecture, input size, normalisation, classes and the recipe to use, each with who says so.

    Args:
        weights: What a file holds.
        named: What the user called it.
        key: The network in it that the user named.
        search: Whether to look for a model of timm that has these tensors; in vain where they are known to be others.

    Raises:
        UserError: A file beside the weights that says more cannot be read.
    """
    told = provenance_of(weights, named)
    searched = search and weights.recipe is None
    fit = fitting_model(weights, _timm_architecture(told)) if searched else None
    facts: dict[str, Any] = (
        {"architecture": architecture} if (architecture := _architecture(told, fit, searched)) else {}
    )
    if fit is not None or told.get("image_size") is not None:
        facts |= {"input size": _input_size(told, fit), **_pixels(told, fit, weights.recipe)}
    start = f"model.checkpoint={named}", *([f"model.checkpoint_key={key}"] if key else [])
    facts |= {"classes": told.get("classes"), "recipe": _recipe(weights, " ".join(map(shlex.quote, start)), told, fit)}
    if remarks := [*told.remarks, *([left_out(told)] if told.unused else [])]:
        facts["remarks"] = "; ".join(remarks)
    return facts


def compared_features(
    weights: Weights, named: str, model: str | None, image_size: int | None, images: Sequence[Path]
) -> Compared:
    """The features of images under each assumption, of the model that is named or else found.

    A run of ours says itself which network it trained.

    Raises:
        UserError: No model fits, or an image cannot be read.
    """
    told = provenance_of(weights, named)
    args: dict[str, Any] = {}
    found = None
    if model is None and weights.recipe is not None:
        section = weights.recipe.get("model")
        section = section if isinstance(section, dict) else {}
        model, args = section.get("name"), section.get("args") or {}
    elif model is None and (fit := fitting_model(weights, _timm_architecture(told))):
        model, found = fit.name, fit.image_size
    if model is None:
        raise UserError(f"--features: no model of timm takes the weights of {weights.path}; name one with --model")
    size = image_size or told.get("image_size") or found or 224
    keys = ("mean", "std", "interpolation", "crop_share")
    pixels = Preprocessing(**{key: told.get(key) for key in keys if told.get(key) is not None})
    try:
        build = partial(build_model, model, num_classes=0, image_size=size, **args)
        return compare_features(weights, build, size, pixels, images)
    except ValueError as error:
        raise UserError(f"--features with the model {model}: {error}") from error


def _timm_architecture(told: Provenance) -> str | None:
    named = told.get("architecture")
    return named if isinstance(named, str) and timm.is_model(named.partition(".")[0]) else None


def _architecture(told: Provenance, fit: Fit | None, searched: bool) -> str:
    named = told.get("architecture")
    said = f"{named} ({told.sources['architecture']})" if named else ""
    if fit is None:
        nothing = "found no model of timm that takes nearly all of these tensors; try one with --model"
        return said or (nothing if searched else "")
    how = "every tensor has its place" if fit.is_whole else fit.report.summary().partition(": ")[2].splitlines()[0]
    found = f"{fit.name} of timm, by its shapes ({how})"
    if fit.others:
        found = (
            f"one of {', '.join((fit.name, *fit.others))} of timm, which have these shapes ({how}) and differ in "
            "heads, windows, activations or the like"
        )
    if problems := fit.report.problems():
        found = f"near to {found}, but `fit` would refuse it: {' '.join(problems)}"
    return found + (f"; {said}" if said and named != fit.name else "")


def _input_size(told: Provenance, fit: Fit | None) -> str:
    if (size := told.get("image_size")) is not None:
        return f"{shown(size)} ({told.sources['image_size']})"
    return f"{fit.image_size} (by its shapes, or timm's for this model)" if fit else "nobody says"


def _pixels(told: Provenance, fit: Fit | None, run: Mapping[str, Any] | None) -> dict[str, str]:
    """Normalisation, crop and interpolation; what nobody says is assumed.

    Args:
        told: What is said.
        fit: The model of timm that was found.
        run: The recipe of the run of ours that the weights are of.
    """
    assumed, task = Preprocessing(), (run or {}).get("task")

    def line(*keys: str) -> str:
        texts = []
        for key in keys:
            value, source = told.get(key), told.sources.get(key)
            texts.append(
                f"{key} {shown(getattr(assumed, key))} (assumed where a recipe leaves it open; nothing says it)"
                if value is None
                else f"{key} {shown(value)} ({source})"
            )
        return ", ".join(texts)

    otherwise = published_otherwise(fit.name) if fit and told.get("mean") is None else ""
    normalisation = {"normalisation": line("mean", "std") + otherwise}
    if task in task_packages() and "interpolation" not in kind_of_data(task).section().left_to_weights:
        return normalisation | {"resizing": f"as task={task} does it, whatever weights say"}
    return normalisation | {"resizing": line("crop_share", "interpolation")}


@cache
def _recipes() -> dict[str, str]:
    """Model of timm -> the first recipe that trains it."""
    found: dict[str, str] = {}
    for name in builtin_recipes():
        recipe = load_recipe(name, runnable=False)
        if timm.is_model(recipe.model.name) and "/" in name and not name.startswith("studies"):
            found.setdefault(recipe.model.name, name)
    return found


def _recipe(weights: Weights, start: str, told: Provenance, fit: Fit | None) -> str:
    if weights.recipe is not None:
        return f"{weights.recipe.get('name')}, which it was trained with; start from it with {start}"
    if fit is None:
        return f"any whose network it fits (see `in a recipe` above, or try --model), with {start}"
    name = fit.name
    recipes = _recipes()
    near = difflib.get_close_matches(name, recipes, n=1, cutoff=0.0)
    recipe = recipes[name] if name in recipes else recipes[near[0]]
    keys = [] if name in recipes else [f"model.name={name}"]
    if fit.others:
        keys = ["model.name=NAME"]
    keys += _changes(load_recipe(recipe, runnable=False), told, fit)
    command = " ".join(["vision-train fit", recipe, *keys, start, "data.root=FOLDER"])
    return f"{command}, with one of the names above as NAME" if fit.others else command


def _changes(recipe: Recipe, told: Provenance, fit: Fit) -> list[str]:
    """What a recipe has to leave to the weights or set otherwise, so that images are prepared as they were for them."""
    size = told.get("image_size") or fit.image_size
    own = own_value(recipe, "image_size")
    said = own if own is not None else told.get("image_size") or USUAL_IMAGE_SIZE
    changes = [] if same(said, size) else [written({KEYS["image_size"]: size})]
    for key in ("mean", "std", "crop_share", "interpolation"):
        own, theirs = own_value(recipe, key), told.get(key)
        differs = theirs is not None and not same(own, theirs)
        # A share of the crop belongs to the size of the image.
        if own is not None and (differs or (key == "crop_share" and changes and theirs is None)):
            changes.append(f"{KEYS[key]}=null")
    return changes
