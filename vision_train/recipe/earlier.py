"""Resolved recipes of runs that an earlier version trained, brought to today's keys."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from vision_train.recipe.layers import Layer
from vision_train.recipe.preprocessing import WHOLE
from vision_train.tasks import kind_of_data, task_packages

ONE_SECTION = {
    *("source", "root", "labels", "probe", "splits", "label_map", "variant", "feature_width", "encoder"),
    *("labels_per_class", "image_size", "batch_size", "workers"),
}
"""Keys of `data` when one section served all kinds of data; no section of today has all of them."""


SECTIONS = {"task", "seed", "data", "augment", "model", "method", "optim", "trainer", "run"}
"""What a resolved recipe holds, and hardly one that someone wrote."""


def upgraded(layer: Layer) -> Layer:
    """Rename and drop keys of a resolved recipe that has the `data` section of an earlier version.

    Only a resolved recipe holds all of those keys; a recipe that someone wrote is returned as it is, so that its
    mistakes are named. The keys of other kinds of data hold nothing there: they were refused when the run started.
    """
    layer = _without_least_length(_with_open_pixels(layer))
    data, task = layer.values.get("data"), layer.values.get("task")
    if not isinstance(data, dict) or not data.keys() >= ONE_SECTION or task not in task_packages():
        return layer
    kind = kind_of_data(task)
    names = {each.name: each.name for each in fields(kind.section)} | dict(kind.renamed)
    kept: dict[str, Any] = {names[key]: value for key, value in data.items() if key in names}
    origins = {path: origin for path, origin in layer.origins.items() if path[:1] != ("data",) or len(path) == 1}
    for (_, key, *inside), origin in ((path, at) for path, at in layer.origins.items() if path not in origins):
        if key in names:
            origins["data", names[key], *inside] = origin
    return replace(layer, values={**layer.values, "data": kept}, origins=origins)


def _without_least_length(layer: Layer) -> Layer:
    """Leave out the least length of a training, which never acted; one that someone asks for today is refused."""
    trainer = layer.values.get("trainer")
    if not isinstance(trainer, dict):
        return layer
    resolved = layer.values.keys() >= SECTIONS
    kept = {
        key: value
        for key, value in trainer.items()
        if key not in ("min_epochs", "min_steps") or (value is not None and not resolved)
    }
    return replace(layer, values={**layer.values, "trainer": kept})


def _with_open_pixels(layer: Layer) -> Layer:
    """Bring an `augment` section that an earlier version resolved to what null means today: open.

    There null for the crop share resized the whole image. Kinds of data that have no images were given the defaults,
    which are open today. Only a resolved recipe of an earlier version says how pixels are normalised and resampled and
    has null for the crop share.
    """
    augment = layer.values.get("augment")
    if not isinstance(augment, dict) or not all(isinstance(augment.get(key), dict) for key in ("train", "eval")):
        return layer
    train, evaluation = augment["train"], augment["eval"]
    said = [augment.get("mean"), train.get("interpolation"), evaluation.get("interpolation")]
    resolved = None not in said and "mixing" in augment and "crop_share" in evaluation
    if not resolved or evaluation["crop_share"] is not None:
        return layer
    if _has_images(layer.values.get("task")):
        changed = {**augment, "eval": {**evaluation, "crop_share": WHOLE}}
    else:
        changed = {key: value for key, value in augment.items() if key not in ("train", "eval", "mean", "std")}
    return replace(layer, values={**layer.values, "augment": changed})


def _has_images(task: Any) -> bool:
    known = task in task_packages()
    return not known or "image_size" in {each.name for each in fields(kind_of_data(task).section)}
