"""What an earlier run of ours, or a file beside weights, says of the network that the weights belong to."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import timm
import torch

from models.heads import pooling_named, pooling_of
from models.settings import Settings, settings_in_config, settings_in_open_clip, settings_of
from models.vit import build_model
from vision_train.checkpoints.read import Weights


class Described(NamedTuple):
    """What one source says of a network."""

    by: str
    """Who says it."""
    settings: Settings = Settings()
    pooling: str | None = None
    unbuilt: str = ""
    """Why the network that it names cannot be built; nothing is known then."""


def descriptions(weights: Weights) -> list[Described]:
    """Collect what is said of the network of weights; who comes first counts.

    A network that is named, with arguments, is built without memory, so that what timm gives it by default counts too.

    Args:
        weights: What was read.
    """
    found = [_in_run(weights.recipe or {})]
    if (config := weights.beside.get("config.json")) is not None:
        found.append(_in_config(config, "config.json beside the file"))
    if (config := weights.beside.get("open_clip_config.json")) is not None:
        found.append(_in_open_clip(config, "open_clip_config.json beside the file"))
    return [each for each in found if each is not None]


def is_of_timm(config: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is one of timm; else it is one of transformers."""
    return not config.keys().isdisjoint(("pretrained_cfg", "architecture", "label_names"))


def _in_run(recipe: Mapping[str, Any]) -> Described | None:
    model, data = _mapping(recipe.get("model")), _mapping(recipe.get("data"))
    by = "the recipe that trained the weights"
    found = _named(by, model.get("name"), model.get("args"), data.get("image_size"))
    decoder = _mapping(_mapping(recipe.get("method")).get("decoder"))
    return found and found._replace(settings=found.settings._replace(decoder_heads=decoder.get("heads")))


def _in_config(config: Mapping[str, Any], by: str) -> Described | None:
    if not is_of_timm(config):
        return Described(by, settings_in_config(config))
    published = {**config, **_mapping(config.get("pretrained_cfg"))}
    size = published.get("input_size")
    args = {"global_pool": config.get("global_pool"), **_mapping(config.get("model_args"))}
    pooling = pooling_named(args.pop("global_pool"))
    found = _named(by, config.get("architecture"), args, size[1:] if isinstance(size, list) else None)
    return found if found is None or pooling is None else found._replace(pooling=pooling)


def _in_open_clip(config: Mapping[str, Any], by: str) -> Described | None:
    vision = _mapping(_mapping(config.get("model_cfg")).get("vision_cfg"))
    if name := vision.get("timm_model_name"):
        return _named(by, name, {}, vision.get("image_size"))
    return Described(by, settings_in_open_clip(config))


def _named(by: str, name: Any, args: Any, image_size: Any) -> Described | None:
    """Build what is named; None where that is no model of timm."""
    if not isinstance(name, str) or (name != "vit" and not timm.is_model(name.partition(".")[0])):
        return None
    name = name.partition(".")[0]
    if not isinstance(image_size, int | list | tuple):
        published = timm.get_pretrained_cfg(name, allow_unregistered=True)
        image_size = 224 if published is None else published.input_size[1:]
    size = (image_size, image_size) if isinstance(image_size, int) else tuple(image_size)
    # What is decided elsewhere may still stand among the arguments that timm itself wrote down.
    own = {key: value for key, value in _mapping(args).items() if key not in ("img_size", "num_classes")}
    try:
        return Described(by, *_built(name, json.dumps(own, sort_keys=True), size))
    except ValueError as error:
        return Described(by, unbuilt=str(error))


@lru_cache(maxsize=64)
def _built(name: str, args: str, size: tuple[int, ...]) -> tuple[Settings, str | None]:
    """Settings and pooling of a model; the one that is trained draws its random numbers as without this one."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        network = build_model(name, num_classes=1, image_size=size, **json.loads(args))  # type: ignore[arg-type]
    return settings_of(network), pooling_of(network)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
