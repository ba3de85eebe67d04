"""Filling in what a recipe leaves open with what its weights say, and stating what is assumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import timm

from vision_train.checkpoints.origin import with_tag
from vision_train.checkpoints.provenance import Provenance, provenance_of
from vision_train.checkpoints.start import read_start
from vision_train.data.image_section import USUAL_IMAGE_SIZE
from vision_train.errors import UserError
from vision_train.recipe.preprocessing import IMAGENET_MEAN
from vision_train.recipe.recipe import Recipe
from vision_train.recipe.remote import TIMM

KEYS = {
    "mean": "augment.mean",
    "std": "augment.std",
    "crop_share": "augment.eval.crop_share",
    "interpolation": "augment.eval.interpolation",
    "image_size": "data.image_size",
}
"""What weights say -> the key of a recipe that says the same."""
CLOSE = 1e-3
"""Rounded constants are the same."""


@dataclass
class Settled:
    """A recipe that leaves nothing open on how images become numbers."""

    recipe: Recipe
    notes: list[str] = field(default_factory=list)
    """What was taken from where, and what is assumed."""
    warnings: list[str] = field(default_factory=list)
    """Where the recipe sets something else than the weights were trained with."""


def settle(recipe: Recipe, earlier: Recipe | None = None) -> Settled:
    """Fill in how images are prepared: as the recipe says, else as its weights say, else as is usual.

    Args:
        recipe: A checked recipe.
        earlier: The recipe of the phase whose weights it starts from, if there is one.

    Raises:
        UserError: The weights, or what lies beside them, cannot be read.
    """
    recipe = _with_named_weights(recipe)
    left_open = recipe.data.left_to_weights
    if not left_open:
        return Settled(recipe)
    told = _told(recipe, earlier)
    settled = Settled(recipe)
    taken: dict[str, dict[str, Any]] = {}
    assumed: dict[str, Any] = {}
    for key in left_open:
        place = KEYS[key]
        own = own_value(recipe, key)
        says = next((each for each in told if each.get(key) is not None), None)
        if own is None and says is not None:
            taken.setdefault(says.sources[key], {})[place] = says.get(key)
        elif own is None:
            assumed[place] = _usual(recipe, key)
        used = own if own is not None or says is None else says.get(key)
        for each in told:
            if each.get(key) is not None and not same(used, each.get(key)):
                settled.warnings.append(_differing(place, own, each, key))
    values = {place: value for places in taken.values() for place, value in places.items()}
    settled.recipe = _filled(recipe, {**assumed, **values}, told)
    settled.notes += [f"taken from {source}: {written(places)}" for source, places in taken.items()]
    settled.notes += _assumption(recipe, told, assumed)
    settled.notes += [remark for each in told for remark in each.remarks]
    return settled


def written(values: dict[str, Any]) -> str:
    """Keys and values as a command line has them."""
    return " ".join(f"{key}={shown(value)}" for key, value in values.items())


def shown(value: Any) -> str:
    """A value as a command line has it, without spaces."""
    if isinstance(value, tuple | list):
        return f"[{','.join(f'{each:g}' for each in value)}]"
    return f"{value:g}" if isinstance(value, float) else str(value)


def same(ours: Any, theirs: Any) -> bool:
    """Whether two values are equal up to rounding; the side of a square equals its height and width."""
    if isinstance(ours, tuple | list) or isinstance(theirs, tuple | list):
        ours, theirs = (each if isinstance(each, tuple | list) else (each, each) for each in (ours, theirs))
        return len(ours) == len(theirs) and all(map(same, ours, theirs))
    if isinstance(ours, int | float) and isinstance(theirs, int | float):
        return abs(ours - theirs) <= CLOSE
    return bool(ours == theirs)


def _with_named_weights(recipe: Recipe) -> Recipe:
    """Write the tag that timm's name of a model implies, so that running the recipe again takes the same weights."""
    start = recipe.model.start
    if not any(name.startswith(TIMM) for name in start.values()):
        return recipe
    model = recipe.model
    if "" in start:
        checkpoint: str | dict[str, str] = with_tag(start[""], model.name)
        # A tag in the model's name says which weights; the network itself has none.
        name = model.name.partition(".")[0] if start[""] == TIMM else model.name
        return replace(recipe, model=replace(model, name=name, checkpoint=checkpoint))
    if TIMM in start.values():
        part = next(part for part, name in start.items() if name == TIMM)
        raise UserError(f"model.checkpoint.{part}={TIMM}: does not say which model the part is; write timm:NAME.TAG")
    return replace(recipe, model=replace(model, checkpoint={part: with_tag(name, "") for part, name in start.items()}))


def _told(recipe: Recipe, earlier: Recipe | None) -> list[Provenance]:
    if earlier is not None:
        values = {key: own_value(earlier, key) for key in earlier.data.left_to_weights}
        said = {key: value for key, value in values.items() if value is not None}
        return [Provenance(earlier.name, said, dict.fromkeys(said, f"phase {earlier.name}"))]
    parts = {file: part for part, file in reversed(recipe.model.start.items())}
    return [provenance_of(read_start(recipe.model, part, file), file) for file, part in reversed(parts.items())]


def own_value(recipe: Recipe, key: str) -> Any:
    """What a recipe says itself under one of ``KEYS``; None where it leaves it to its weights."""
    value: Any = recipe
    for part in KEYS[key].split("."):
        value = getattr(value, part)
    return value


def _usual(recipe: Recipe, key: str) -> Any:
    return USUAL_IMAGE_SIZE if key == "image_size" else getattr(recipe.augment.preprocessing, key)


def _filled(recipe: Recipe, values: dict[str, Any], told: Sequence[Provenance]) -> Recipe:
    def of(section: str) -> dict[str, Any]:
        prefix = f"{section}."
        return {key.removeprefix(prefix): value for key, value in values.items() if key.rpartition(".")[0] == section}

    augment = recipe.augment
    theirs = next(filter(None, (each.get("interpolation") for each in told)), None)
    usual = augment.preprocessing.train_interpolation
    train, evaluation = augment.train, replace(augment.eval, **of("augment.eval"))
    if "interpolation" in recipe.data.left_to_weights:
        train = replace(train, interpolation=train.interpolation or theirs or usual)
    augment = replace(augment, train=train, eval=evaluation, **of("augment"))
    return replace(recipe, augment=augment, data=replace(recipe.data, **of("data")))


def _differing(place: str, own: Any, told: Provenance, key: str) -> str:
    says = f"{told.sources[key]} says {shown(told.get(key))}"
    if own is None:
        return f"{place}: {says}, and another of the files says something else, which is taken"
    return f"{place}={shown(own)} in the recipe, but {says}; {place}=null takes what the weights were trained with"


def _assumption(recipe: Recipe, told: Sequence[Provenance], assumed: dict[str, Any]) -> list[str]:
    """What is assumed because nobody says it; without weights there is nothing that all but the mean could miss."""
    if not told:
        values = {key: value for key, value in assumed.items() if key in (KEYS["mean"], KEYS["std"])}
        return [f"assumed, as nothing says otherwise: {written(values)} (ImageNet's)"] if values else []
    if not assumed:
        return []
    note = f"assumed, {_why_assumed(told)}: {written(assumed)}"
    if KEYS["mean"] not in assumed:
        return [note]
    return [
        f"{note}. Mean and std are ImageNet's{published_otherwise(recipe.model.name)}; if the weights were trained "
        "with others, set augment.mean and augment.std"
    ]


def _why_assumed(told: Sequence[Provenance]) -> str:
    named = " and ".join(each.named for each in told)
    if not (unused := [each for each in told if each.unused]):
        return f"as nothing beside {named} says how its images were prepared"
    return f"as nothing says how the images of {named} were prepared ({'; '.join(map(left_out, unused))})"


def left_out(told: Provenance) -> str:
    """Which files beside weights are not used, why, and what to do."""
    return (
        f"{', '.join(told.unused)} beside {told.named} may belong to other weights in that folder and is not used; if "
        "it belongs to these, move both to a folder of their own"
    )


def published_otherwise(name: str) -> str:
    """What timm says of its own weights for a model, where that is something else than ImageNet's mean."""
    published = timm.get_pretrained_cfg(name) if timm.is_model(name) else None
    if published is None or same(published.mean, IMAGENET_MEAN):
        return ""
    return (
        f", but timm's own weights of {name}.{published.tag} have mean {shown(tuple(published.mean))} and std "
        f"{shown(tuple(published.std))}"
    )
