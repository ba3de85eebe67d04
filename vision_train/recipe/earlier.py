"""Resolved recipes of runs that an earlier version trained, brought to today's keys."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from vision_train.recipe.layers import Layer
from vision_train.tasks import kind_of_data, task_packages

ONE_SECTION = {
    *("source", "root", "labels", "probe", "splits", "label_map", "variant", "feature_width", "encoder"),
    *("labels_per_class", "image_size", "batch_size", "workers"),
}
"""Keys of `data` when one section served all kinds of data; no section of today has all of them."""


def upgraded(layer: Layer) -> Layer:
    """Rename and drop keys of a resolved recipe that has the `data` section of an earlier version.

    Only a resolved recipe holds all of those keys; a recipe that someone wrote is returned as it is, so that its
    mistakes are named. The keys of other kinds of data hold nothing there: they were refused when the run started.
    """
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
